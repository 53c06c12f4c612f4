"""Shared memory, loads and rings of the engine with weights in registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.ir.lowered import (
    Barrier,
    Exchange,
    Load,
    Mainloop,
    Pipeline,
    Problem,
    Smem,
    SmemBuffer,
    WgmmaRS,
)
from fp4cc.ir.lowered.wgmma_rs import WARPGROUP_WARPS, WEIGHT_ROWS
from fp4cc.ir.lowered_epilogue import CTA_ROWS
from fp4cc.ir.part import Part
from fp4cc.ir.sizes import scaled
from fp4cc.passes.resources.smem import ATOM_BYTES, place_buffers
from fp4cc.passes.resources.tensor_maps import codes_map, scale_atoms_map
from fp4cc.targets.sm90 import SM90A
from fp4rt.manifest import TensorMap

_MAP_TYPES = {"bf16": "BF16", "f16": "F16", "e4m3": "U8", "e5m2": "U8"}
#: Bytes of a row of x in a stage, whatever its type: a swizzle row.
_ROW_BYTES = 128
#: Where sums cross to the epilogue, 128 rows at a time; 4 floats of padding keep both sides free of bank conflicts.
EXCHANGE = Exchange("exchange_smem", 4 * (WEIGHT_ROWS + 4), between=True)


def plan_mainloop(problem: Problem, engine: WgmmaRS) -> tuple[Mainloop, tuple[TensorMap, ...]]:
    """The mainloop with its loads, and their tensor maps. Right operands that are read alike share a map."""
    maps: dict[str, TensorMap] = {}
    a = problem.a
    box = (engine.stage_k, engine.rows)
    wanted = codes_map(f"{a.arg}_codes", problem, a, _MAP_TYPES[engine.wide], problem.k, box, "128B")
    loads = [_load(maps, wanted, Part("A"), engine.rows * _ROW_BYTES)]
    for each in engine.weights:
        b = each.operand
        width, box = scaled(problem.k, b.bits, 8), (each.row_bytes, each.rows)
        # Where lanes read a word of each eight bytes, the swizzle keeps rows in banks of their own.
        wanted = codes_map(f"{b.arg}_codes", problem, b, "U8", width, box, "64B" if engine.fast else "none")
        loads.append(_load(maps, wanted, each.part, each.rows * each.row_bytes))
    for each in engine.weights:
        if each.scales is not None and each.scales.reader is None:
            wanted = scale_atoms_map(
                f"{each.operand.arg}_scales", problem, each.operand, each.scales.block, (256, 1, 1)
            )
            loads.append(_load(maps, wanted, each.part.of_scales, ATOM_BYTES))
    products = tuple(sorted(problem.products, key=lambda p: p.slot))
    total = sum(load.slice_bytes for load in loads)
    return Mainloop(products, engine.step_stages * engine.stage_k, tuple(loads), total), tuple(maps.values())


def _load(maps: dict[str, TensorMap], wanted: TensorMap, part: Part, size: int) -> Load:
    name, number = wanted.name, 1
    while name in maps and maps[name] != replace(wanted, name=name):
        number += 1
        name = f"{wanted.name}{number}"
    maps[name] = replace(wanted, name=name)
    return Load(name, part, 1, size, size, (1,))


def plan_pipeline(mainloop: Mainloop, stages: int, exchange: Exchange | None, warps: int) -> Pipeline:
    """The ring of stages, each for so many warps, and the hand-over of sums where there is one."""
    ring = (
        Barrier("ab_full", stages, 1, mainloop.tx_bytes, "the load warp, with the bytes of the stage",
                "the multiplying warps", ("load",), ("mma",)),
        Barrier("ab_empty", stages, warps, 0, "a lane of each warp that has multiplied it", "the load warp",
                ("mma",), ("load",)),
    )  # fmt: skip
    crossing = (
        Barrier("acc_full", 1, warps, 0, "a lane of each warp that has written its sums", "the epilogue's warps",
                ("mma",), ("epilogue",)),
        Barrier("acc_empty", 1, WARPGROUP_WARPS, 0, "a lane of each of the epilogue's warps, which has used them",
                "the multiplying warps", ("epilogue",), ("mma",)),
    )  # fmt: skip
    return Pipeline(stages, ring if exchange is None else (*ring, *crossing), (), ())


def plan_smem(
    mainloop: Mainloop, stages: int, others: Sequence[SmemBuffer], exchange: Exchange | None = EXCHANGE
) -> Smem:
    """The ring of stages, the exchanged sums, the epilogue's buffers, barriers."""
    crossing = () if exchange is None else (exchange,)
    names = {True: "a scale atom of", False: "rows of"}
    wanted = [
        *(SmemBuffer(load.buffer, 0, load.slice_bytes, stages, _alignment(mainloop, load),
                     f"{names[load.part.scales]} {load.part.role}", load.part) for load in mainloop.loads),
        *(SmemBuffer(each.buffer, 0, CTA_ROWS * each.pitch, 1, 128, "sums on their way to the epilogue")
          for each in crossing),
        *others,
        SmemBuffer("ab_full", 0, 8, stages, 8, "barriers: the stage holds data"),
        SmemBuffer("ab_empty", 0, 8, stages, 8, "barriers: the stage may be filled"),
        *(SmemBuffer(name, 0, 8, 1, 8, f"barrier: sums {what}")
          for _ in crossing for name, what in (("acc_full", "are there"), ("acc_empty", "may be written"))),
    ]  # fmt: skip
    return place_buffers(wanted, SM90A.smem_bytes)


def _alignment(mainloop: Mainloop, load: Load) -> int:
    """Of the start of a stage: rows of x are swizzled, and beside FP8 those of weights are."""
    fast = mainloop.products[0].a.bits == 8
    return 1024 if load.part.role == "A" or (fast and not load.part.scales) else 128


def fitting(mainloop: Mainloop, others: Sequence[SmemBuffer], exchange: Exchange | None) -> int:
    """The most stages that fit."""
    fits = SM90A.stages_max
    while fits and plan_smem(mainloop, fits, others, exchange).total > SM90A.smem_bytes:
        fits -= 1
    return fits


def least_stages(engine: WgmmaRS) -> int:
    """Each warpgroup gives a stage back when it has begun to multiply its next: it needs two of its own."""
    return 4 if engine.turns else 2


def staging_limit(mainloop: Mainloop, stages: int, others: Sequence[SmemBuffer]) -> int:
    """Bytes that the epilogue may take beside so many stages and other buffers."""
    alignment = 1024
    return SM90A.smem_bytes - plan_smem(mainloop, stages, others).total - alignment


def partial_sums(engine: WgmmaRS) -> tuple[SmemBuffer, ...]:
    """Where the second warpgroup's sums cross to the first, if they take turns."""
    if not engine.turns:
        return ()
    size = 4 * engine.rows * (WEIGHT_ROWS // 2)
    return (SmemBuffer("partial_smem", 0, size, 1, 128, "the second warpgroup's sums on their way to the first"),)
