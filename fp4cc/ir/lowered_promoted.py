"""The lowered GEMM with promoted sums: FP8 products of 128 along K, scaled and summed in f32 registers."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.ir.lowered import LoweredKernel, Pipeline, Problem
from fp4cc.ir.lowered_converters import ScaleReader


@dataclass(frozen=True, slots=True)
class PromotedScales:
    """The f32 scales of an operand: for each row, or each 128 of them, one a step along K, or one for all of K.

    `rows` names the size with the operand's rows.
    """

    arg: str
    reader: ScaleReader
    each_step: bool
    rows: str

    @property
    def each_row(self) -> bool:
        """Whether each row has its own."""
        return self.reader.tall == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredPromoted(LoweredKernel):
    """An FP8 product with f32 scales on tcgen05. Warps 0-3 promote and run the epilogue, 4 loads, 5 multiplies.

    Tensor memory holds two partial sums of `tile.n` columns, one a step along K; `descriptor` is the instruction's.
    `exchange_pitch`: bytes between the rows of a tile's sums on their way to the epilogue.
    """

    problem: Problem
    pipeline: Pipeline
    scales: tuple[PromotedScales, PromotedScales]
    descriptor: int
    exchange_pitch: int
    tmem_columns: int
