"""Special registers (PTX ISA chapter 10): how they vary, and what they hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from fp4emu.lockstep import Lockstep

# Special registers by how they vary: over the lanes, over the CTAs, over the ranks of a cluster, or not at all.
_AXES = ("x", "y", "z")
PER_LANE = {"%laneid", *(f"%tid.{a}" for a in _AXES), *(f"%lanemask_{c}" for c in ("eq", "lt", "le", "gt", "ge"))}
PER_WARP = {"%warpid"}
PER_CTA = {"%smid", *(f"{name}.{a}" for name in ("%ctaid", "%clusterid") for a in _AXES)}
PER_RANK = {"%cluster_ctarank", *(f"%cluster_ctaid.{a}" for a in _AXES)}
UNIFORM = {
    *(f"{name}.{a}" for name in ("%ntid", "%nctaid", "%nclusterid", "%cluster_nctaid") for a in _AXES),
    "%cluster_nctarank",
    "%nwarpid",
    "%nsmid",
    "%gridid",
    "%clock",
    "%clock_hi",
    "%clock64",
    "%globaltimer",
    "%globaltimer_lo",
    "%globaltimer_hi",
    "%dynamic_smem_size",
    "%total_smem_size",
    "%aggr_smem_size",
    "%is_explicit_cluster",
    "%envreg1",
    "%envreg2",
}
WORKSPACE = {"%envreg1", "%envreg2"}
"""The high and the low half of the address of a cooperative launch's workspace, as cooperative groups reads it."""
VOLATILE = {"%clock", "%clock_hi", "%clock64", "%globaltimer", "%globaltimer_lo", "%globaltimer_hi"}
WIDE = {"%clock64", "%globaltimer", "%gridid"}
SPECIAL = PER_LANE | PER_WARP | PER_CTA | PER_RANK | UNIFORM


def special(g: Lockstep, name: str) -> Any:
    """A special register for the rows of a group: an int, or an array [row, 1] or [row, lane]. "local" is the address
    of a thread's local memory."""
    found = g.cache.get(name)
    if found is None:
        found = g.cache[name] = _value(g, name)
    return found


def _value(g: Lockstep, name: str) -> Any:
    grid, warps = g.grid, g.warps
    if name == "local":
        slots = np.array([grid.warp_slot(warp) for warp in warps], np.uint64).reshape(-1, 1)
        threads = slots * np.uint64(32) + np.arange(32, dtype=np.uint64)
        return np.uint64(grid.local_address) + threads * np.uint64(grid.local_stride)
    base, _, axis = name.partition(".")
    index = _AXES.index(axis) if axis else 0
    if base == "%tid":
        linear = np.array([warp.index * 32 for warp in warps], np.uint32).reshape(-1, 1) + np.arange(
            32, dtype=np.uint32
        )
        x, y, _ = grid.block
        return (linear % x, linear // x % y, linear // (x * y))[index].astype(np.uint32)
    if base == "%laneid":
        return np.arange(32, dtype=np.uint32).reshape(1, 32)
    if base.startswith("%lanemask_"):
        lane = np.arange(32)
        masks = {
            "eq": 1 << lane,
            "lt": (1 << lane) - 1,
            "le": (2 << lane) - 1,
            "ge": ~((1 << lane) - 1),
            "gt": ~((2 << lane) - 1),
        }
        return (masks[base[-2:]] & 0xFFFF_FFFF).astype(np.uint32).reshape(1, 32)
    if base == "%warpid":
        return _rows([warp.index for warp in warps], g.single_row)
    if base == "%ctaid":
        return _rows([warp.cta.id[index] for warp in warps], g.single_cta)
    if base == "%clusterid":
        return _rows([warp.cta.cluster.id[index] for warp in warps], g.single_cta)
    if base == "%cluster_ctarank":
        return _rows([warp.cta.rank for warp in warps], g.single_rank)
    if base == "%cluster_ctaid":
        return _rows([warp.cta.id[index] % grid.cluster[index] for warp in warps], g.single_rank)
    if base == "%ntid":
        return grid.block[index]
    if base == "%nctaid":
        return grid.size[index]
    if base == "%nclusterid":
        return grid.size[index] // grid.cluster[index]
    if base == "%cluster_nctaid":
        return grid.cluster[index]
    if base == "%cluster_nctarank":
        return grid.cluster_size
    if base == "%nwarpid":
        return grid.warps_per_cta
    if base == "%is_explicit_cluster":
        return grid.cluster != (1, 1, 1)
    if base == "%dynamic_smem_size":
        return grid.dynamic_shared
    if base in ("%total_smem_size", "%aggr_smem_size"):
        return grid.shared_size
    if base == "%smid":
        slots = [grid.warp_slot(warp) // grid.warps_per_cta for warp in warps]
        return _rows([slot % grid.sm_count for slot in slots], g.single_cta)
    high, low = grid.workspace >> 32, grid.workspace & 0xFFFF_FFFF
    return {"%nsmid": grid.sm_count, "%gridid": 1, "%envreg1": high, "%envreg2": low}[base]


def _rows(values: list[int], uniform: bool) -> Any:
    return values[0] if uniform else np.array(values, np.uint32).reshape(-1, 1)
