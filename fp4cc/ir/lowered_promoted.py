"""The lowered GEMM with promoted sums: FP8 products of 128 along K, scaled and summed in f32 registers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import LoweredKernel, Pipeline, Problem, Tile


@dataclass(frozen=True, slots=True)
class PromotedScales:
    """Where the f32 scale of (row, step along K) lies: element row // `rows` * `row_stride` + step * `step_stride`.

    `rows` is 1 (a scale for each row) or 128 (one for the whole tile); `step_stride` is 0 where one scale serves all K.
    `row_stride` and `batch_stride` name sizes of the kernel.
    """

    role: Literal["a", "b"]
    arg: str
    rows: Literal[1, 128]
    row_stride: str
    step_stride: Literal[0, 1]
    batch_stride: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredPromoted(LoweredKernel):
    """An FP8 product with f32 scales on tcgen05. Warps 0-3 promote and run the epilogue, 4 loads, 5 multiplies.

    Tensor memory holds two partial sums of `tile.n` columns, one a step along K; `descriptor` is the instruction's.
    `sizes` are those the scales need, by name: value and meaning; the numbers among them are no parameters.
    """

    problem: Problem
    tile: Tile
    pipeline: Pipeline
    scales: tuple[PromotedScales, PromotedScales]
    sizes: tuple[tuple[str, Expr, str], ...]
    descriptor: int
    tmem_columns: int
