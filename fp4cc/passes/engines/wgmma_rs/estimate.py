"""About how long a product takes on Hopper with weights in registers, in clocks of an SM.

A stage of 64 along K takes what was measured (benchmarks/hopper.md, one H100): the tensor core 4 clocks a row of x and
64 weight rows, unless converting takes longer. Tiles are made in waves, a CTA on each SM; a tile's end costs about as
much as two stages.
"""

from __future__ import annotations

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import Problem
from fp4cc.ir.lowered.wgmma_rs import FAST_STAGE_K, STAGE_K, WEIGHT_ROWS
from fp4cc.ir.sizes import ceildiv, fold, mul
from fp4cc.passes.choice.schedule import tiles_along_m
from fp4cc.passes.choice.split import meeting_clocks
from fp4cc.targets.sm90 import SM90A

#: Clocks of a stage by the rows of x of a tile, and whether warpgroups take stages in turns, with 64 weight rows.
STAGE_CLOCKS = {(256, False): 1060, (128, False): 840, (128, True): 440, (64, True): 380}
#: The same of FP8, whose stages have 128 along K.
FAST_STAGE_CLOCKS = {(128, False): 1430, (128, True): 780, (64, True): 720}
_TILE_STAGES = 2
#: TMA is slow where it fills rows past the end of x with zeros: a stage takes this, and 6.25 clocks for each.
_FILL_CLOCKS, _MISSING, _QUARTERS = 300, 25, 4
#: To start a CTA and fill its stages.
_RAMP = 2500


def clocks(problem: Problem, columns: int, kind: tuple[int, bool], parts: int = 1, *, fast: bool = False) -> Expr:
    """With tiles of so many rows of x, in turns or not; `columns` of each accumulator share its weight rows.

    `parts`: of K, each made by a CTA.
    """
    rows, turns = kind
    tiles = mul(tiles_along_m(problem, rows), ceildiv(problem.n, columns))
    missing = fold("sub", rows, fold("min", problem.m, rows))  # of rows in groups TMA brings the next group's
    filled = fold("add", fold("floordiv", fold("mul", missing, _MISSING), _QUARTERS), _FILL_CLOCKS)
    stage_k = FAST_STAGE_K if fast else STAGE_K
    stage = fold("max", (FAST_STAGE_CLOCKS if fast else STAGE_CLOCKS)[kind], filled)
    step = stage_k * (2 if turns else 1) * (1 if fast else 2)
    steps = ceildiv(ceildiv(problem.products[0].k, step), parts)
    stages = ceildiv(problem.products[0].k, stage_k) if parts == 1 else mul(steps, step // stage_k)
    each = mul(fold("add", stages, _TILE_STAGES), stage)
    if parts > 1:
        moved = 4 * rows * (WEIGHT_ROWS // 2 if turns else WEIGHT_ROWS)
        each = fold("add", each, meeting_clocks(parts, moved))
    return fold("add", mul(ceildiv(mul(tiles, parts), SM90A.rates.sms), each), _RAMP)
