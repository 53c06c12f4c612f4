"""Shared memory and tensor memory of a GEMM on tcgen05: what goes where, and how many stages fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4cc.ir.lowered import Mma, Smem, SmemBuffer, Tile, Tmem
from fp4cc.ir.part import Part
from fp4cc.passes.resources.smem import ATOM_BYTES, place_buffers, row_atoms
from fp4cc.targets import Target

ATOM_COLUMNS = 4  # the tensor memory columns that a scale atom takes


@dataclass(frozen=True, slots=True)
class StageBytes:
    """Bytes of one stage in a CTA, by buffer: one A, `bs` times a B, and scales of each (0 of plain operands)."""

    a: int
    b: int
    sfa: int
    sfb: int
    bs: int = 1

    @property
    def total(self) -> int:
        return self.a + self.sfa + self.bs * (self.b + self.sfb)


def stage_bytes(mmas: Sequence[Mma], bs: int, tile: Tile, target: Target) -> StageBytes:
    """What a stage takes: rows one swizzle row long, and whole scale atoms (all of B's in each CTA of a pair).

    Every mainloop has codes of as many bytes; of scales, a stage has room for those of the one with the most.
    """
    atoms = max(mma.atoms for mma in mmas)
    return StageBytes(
        a=tile.cta_m * target.tile_k_bytes,
        b=tile.n // mmas[0].cta_group * target.tile_k_bytes,
        sfa=atoms * ATOM_BYTES,
        sfb=atoms * row_atoms(tile.n) * ATOM_BYTES,
        bs=bs,
    )


def fitting_stages(stage: StageBytes, acc_stages: int, staging: Sequence[SmemBuffer], most: int, target: Target) -> int:
    """The most stages that fit beside the epilogue's buffers, up to `most` (0: not even one)."""
    stages = min(most, target.smem_bytes // max(stage.total, 1))
    while stages and plan_smem(stage, stages, acc_stages, staging, target).total > target.smem_bytes:
        stages -= 1
    return stages


def plan_smem(stage: StageBytes, stages: int, acc_stages: int, staging: Sequence[SmemBuffer], target: Target) -> Smem:
    """Offsets in allocation order: the rings, the epilogue's buffers (`staging`), barriers, tensor memory address."""
    bs = [Part("B", place) for place in range(stage.bs)]
    operands = [
        SmemBuffer(part.buffer, 0, size, stages, 512 if part.scales else 1024, what, part)
        for parts, size, what in (
            ([Part("A")], stage.a, "elements of A"),
            (bs, stage.b, "elements of B"),
            ([Part("A", scales=True)], stage.sfa, "scale atoms of A"),
            ([b.of_scales for b in bs], stage.sfb, "scale atoms of B"),
        )
        for part in parts
    ]
    wanted = [
        *(buffer for buffer in operands if buffer.bytes),
        *staging,
        SmemBuffer("ab_full", 0, 8, stages, 8, "barriers: the stage holds data"),
        SmemBuffer("ab_empty", 0, 8, stages, 8, "barriers: the stage may be filled"),
        SmemBuffer("acc_full", 0, 8, acc_stages, 8, "barriers: the accumulator is done"),
        SmemBuffer("acc_empty", 0, 8, acc_stages, 8, "barriers: the accumulator may be overwritten"),
        SmemBuffer("tmem_address", 0, 4, 1, 4, "where tcgen05.alloc writes"),
    ]
    return place_buffers(wanted, target.smem_bytes)


def plan_tmem(mmas: Sequence[Mma], bs: int, slots: int, tile: Tile, buffers: int | None, target: Target) -> Tmem | None:
    """`slots` accumulators for each tile, one or two buffers of them, and the scales of A and of `bs` Bs.

    Two buffers of one accumulator overlap if they do not fit apart: two of 256 columns and the scales exceed 512
    columns, so the second then starts early enough to leave room for the scales, and the columns both use are read
    first in each tile. Several accumulators do not overlap: of them there are two buffers where they fit, unless
    `buffers` says. None where they do not fit.
    """
    atoms = max(mma.atoms for mma in mmas)
    sfa = atoms * ATOM_COLUMNS
    sfb = atoms * row_atoms(tile.n) * ATOM_COLUMNS
    scales = sfa + bs * sfb
    width = slots * tile.n
    count = buffers or (2 if slots == 1 or 2 * width + scales <= target.tmem_columns else 1)
    needed = count * width + scales
    if needed <= target.tmem_columns:
        stride, release = width, tile.n // 32
        columns = max(32, 1 << (needed - 1).bit_length())
        first_scale = count * width
    elif slots == 1:
        columns = target.tmem_columns
        first_scale = (columns - scales) // 16 * 16
        stride = first_scale - tile.n
        release = -(-(tile.n - stride) // 32)
    else:
        return None
    return Tmem(
        columns=columns,
        acc_buffers=count,
        acc_stride=stride,
        release_after=release,
        sfa=first_scale,
        sfb=first_scale + sfa,
        sfa_columns=ATOM_COLUMNS,
        sfb_columns=ATOM_COLUMNS * row_atoms(tile.n),
        sfb_stride=sfb,
        end=first_scale + scales,
    )
