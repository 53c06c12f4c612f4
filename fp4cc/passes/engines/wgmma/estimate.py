"""The time of a product on wgmma with operands that its own warps convert, in clocks of an SM.

Measured, 2026-11-26, on an H100 at N = K = 8192 and M of 128, 1024 and 4096 (benchmarks/hopper.md): with one tile an SM
at a time, a step of 64 along K takes 694 to 805 clocks of bf16, 310 more for an operand of four bits, 440 more for one
of eight; with f32 scales, 1940 to 2270 in all. All within 10 % of these formulas but at the edges of waves.
"""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import TILE_K, Problem
from fp4cc.ir.sizes import ceildiv, fold, mul
from fp4cc.passes.choice.split import meeting_clocks
from fp4cc.passes.engines.wgmma.operands import Steps
from fp4cc.targets.sm90 import SM90A

_STEP, _NARROW, _BYTES, _PROMOTED = 720, 330, 450, 2050
#: To start a CTA, fill its stages and drain its last tile; for a column of the epilogue, which nothing overlaps.
_RAMP, _COLUMN = 2500, 8


def step_clocks(steps: Steps, columns: int, *, promoted: bool) -> int:
    """Of `TILE_K` elements along K of a tile."""
    if promoted:
        return _PROMOTED
    rows = (SM90A.tile_m, *(columns for _ in steps.products))
    clocks = float(_STEP)
    for operand, count in zip(steps.operands, rows, strict=True):
        if operand.scaled or operand.element != steps.wide:
            clocks += (_NARROW if operand.bits <= 4 else _BYTES) * count / SM90A.tile_m
    return round(clocks)


def clocks(problem: Problem, steps: Sequence[Steps], columns: int, parts: int = 1, *, promoted: bool) -> Expr:
    """The time as a formula of the sizes: waves of tiles, one an SM, or of so many `parts` of K of each tile."""
    mainloops = [
        mul(ceildiv(ceildiv(each.products[0].k, TILE_K), parts), step_clocks(each, columns, promoted=promoted))
        for each in steps
    ]
    tile = fold("add", *mainloops, len(problem.accumulators) * columns * _COLUMN)
    tiles = mul(ceildiv(problem.m, SM90A.tile_m), ceildiv(problem.n, columns), problem.batch)
    if parts > 1:
        tile = fold("add", tile, meeting_clocks(parts, 4 * SM90A.tile_m * len(problem.accumulators) * columns))
    return fold("add", mul(ceildiv(mul(tiles, parts), SM90A.rates.sms), tile), _RAMP)
