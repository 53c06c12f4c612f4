"""The lowered GEMM of Hopper: operands are dequantized to bf16 in shared memory and multiplied by wgmma."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fp4cc.ir.lowered import LoweredKernel, Pipeline, Problem, Tile


@dataclass(frozen=True, slots=True)
class Dequantized:
    """How an operand's stage becomes bf16: a thread takes one row of `row_bytes` with `scales_per_step` scales.

    A scale atom's word holds 4 scales of a row, so it serves `steps_per_atom` steps along K.
    """

    role: Literal["a", "b"]
    arg: str
    format: str
    element: Literal["e2m1", "e4m3", "e5m2"]
    scale: Literal["e4m3", "e8m0"]
    bits: int
    block: int
    row_bytes: int
    scales_per_step: int
    steps_per_atom: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredWgmma(LoweredKernel):
    """A block-scaled product on wgmma. Warps 0-3 dequantize, multiply and run the epilogue; warp 4 loads by TMA.

    `slots`: dequantized operands in shared memory, each `operand_bytes` of A and as many of B.
    """

    problem: Problem
    tile: Tile
    pipeline: Pipeline
    operands: tuple[Dequantized, Dequantized]
    slots: int
    operand_bytes: int
