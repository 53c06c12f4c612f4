"""Shared memory, loads and rings of products of FP8: wgmma reads where TMA puts it, so all rows are swizzled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.ir.lowered import (
    FP8_TILE_K,
    Barrier,
    Cluster,
    Exchange,
    Load,
    Mainloop,
    Operand,
    Pipeline,
    Problem,
    Promotion,
    Smem,
    SmemBuffer,
    WgmmaFp8,
)
from fp4cc.ir.lowered.wgmma_rs import MMA_WARPS, WARPGROUP_WARPS
from fp4cc.ir.lowered_epilogue import CTA_ROWS
from fp4cc.ir.part import Part
from fp4cc.passes.resources.smem import place_buffers
from fp4cc.passes.resources.tensor_maps import codes_map
from fp4cc.targets.sm90 import SM90A
from fp4rt.manifest import TensorMap

#: Bytes of stages that hide the way from memory, before the epilogue gets what is left.
_WANTED_BYTES = 128 * 1024
_LEAST_STAGES = 2
_LEAST_STAGING = 8 * 1024
_ALIGNMENT = 1024
#: Steps whose factors are loaded together, one by each of the lanes that share a row; rows of sums of a warp.
FACTOR_STEPS, ROWS_OF_WARP = 4, 16


def plan_mainloop(
    problem: Problem, engine: WgmmaFp8, columns: int, cluster: Cluster
) -> tuple[Mainloop, tuple[TensorMap, ...]]:
    """The mainloop and the tensor maps of its loads: a CTA brings its rows of A, and its share of the cluster's B."""
    (product,) = problem.products
    a_map = _codes(problem, product.a, engine.rows)
    b_map = _codes(problem, product.b, columns // cluster.m)
    if a_map.name == b_map.name and a_map != b_map:  # an operand by itself, in other boxes
        b_map = replace(b_map, name=f"{b_map.name}2")
    everyone, share = (1 << cluster.m) - 1, columns // cluster.m * FP8_TILE_K
    a_bytes = engine.rows * FP8_TILE_K
    boxes = 1 if product.a.gather is None else engine.rows
    loads = (
        Load(a_map.name, Part("A"), 1, a_bytes, a_bytes, tuple(1 << rank for rank in range(cluster.m)), boxes),
        Load(b_map.name, Part("B"), cluster.m, share, share, (everyone,) * cluster.m),
    )
    maps = (a_map,) if a_map == b_map else (a_map, b_map)
    return Mainloop(problem.products, FP8_TILE_K, loads, a_bytes + share * cluster.m), maps


def _codes(problem: Problem, operand: Operand, rows: int) -> TensorMap:
    return codes_map(f"{operand.arg}_codes", problem, operand, "U8", problem.k, (FP8_TILE_K, rows), "128B")


def plan_pipeline(mainloop: Mainloop, cluster: Cluster, stages: int) -> Pipeline:
    """The ring of stages, and the hand-over of sums to the epilogue."""
    scope = "cta" if cluster.size == 1 else "cluster"
    barriers = (
        Barrier("ab_full", stages, 1, mainloop.tx_bytes, "the load warp, with the bytes of the stage",
                "the multiplying warps", ("load",), ("mma",), scope),
        Barrier("ab_empty", stages, MMA_WARPS * cluster.m, 0,
                "a lane of each warp that has multiplied it, of every CTA of the cluster", "the load warp",
                ("mma",), ("load",), scope),
        Barrier("acc_full", 1, MMA_WARPS, 0, "a lane of each warp that has written its sums", "the epilogue's warps",
                ("mma",), ("epilogue",)),
        Barrier("acc_empty", 1, WARPGROUP_WARPS, 0, "a lane of each of the epilogue's warps, which has used them",
                "the multiplying warps", ("epilogue",), ("mma",)),
    )  # fmt: skip
    return Pipeline(stages, barriers, (), ())


def exchange(columns: int) -> Exchange:
    """Where sums cross to the epilogue; 4 floats of padding keep both sides free of bank conflicts."""
    return Exchange("exchange_smem", 4 * (columns + 4), between=True)


def factors_buffer(promotion: Promotion | None) -> tuple[SmemBuffer, ...]:
    """Where a warp that multiplies keeps the factors of its 16 rows for four steps."""
    if promotion is None:
        return ()
    size = MMA_WARPS * FACTOR_STEPS * ROWS_OF_WARP * 4
    return (SmemBuffer("factors_smem", 0, size, 1, 16, "factors of partial sums, by the warps that add these"),)


def plan_smem(engine: WgmmaFp8, columns: int, stages: int, others: Sequence[SmemBuffer]) -> Smem:
    """The ring of stages, the exchanged sums, the epilogue's buffers, barriers."""
    crossing = exchange(columns)
    rows = {"A": engine.stage_rows, "B": columns}
    wanted = [
        *(SmemBuffer(part.buffer, 0, rows[part.role] * FP8_TILE_K, stages, 1024, f"rows of {part.role}", part)
          for part in (Part("A"), Part("B"))),
        SmemBuffer(crossing.buffer, 0, CTA_ROWS * crossing.pitch, 1, 128, "sums on their way to the epilogue"),
        *others,
        SmemBuffer("ab_full", 0, 8, stages, 8, "barriers: the stage holds data"),
        SmemBuffer("ab_empty", 0, 8, stages, 8, "barriers: the stage may be filled"),
        *(SmemBuffer(name, 0, 8, 1, 8, f"barrier: sums {what}")
          for name, what in (("acc_full", "are there"), ("acc_empty", "may be written"))),
    ]  # fmt: skip
    return place_buffers(wanted, SM90A.smem_bytes)


def fitting(engine: WgmmaFp8, columns: int, others: Sequence[SmemBuffer]) -> int:
    """The most stages that fit."""
    fits = SM90A.stages_max
    while fits and plan_smem(engine, columns, fits, others).total > SM90A.smem_bytes:
        fits -= 1
    return fits


def staging_limit(engine: WgmmaFp8, columns: int, others: Sequence[SmemBuffer]) -> int:
    """Bytes that the epilogue may take beside as many stages as are wanted, or fewer where that leaves it none."""
    stage = (engine.stage_rows + columns) * FP8_TILE_K
    most = min(SM90A.stages_max, _WANTED_BYTES // stage)
    left = [
        SM90A.smem_bytes - plan_smem(engine, columns, stages, others).total - _ALIGNMENT
        for stages in range(most, _LEAST_STAGES - 1, -1)
    ]
    return next((limit for limit in left if limit >= _LEAST_STAGING), left[-1])
