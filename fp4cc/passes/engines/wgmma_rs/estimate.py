"""About how long a product takes on Hopper with weights in registers, in clocks of an SM.

A stage of 64 along K takes what was measured (benchmarks/hopper.md, one H100): the tensor core 4 clocks a row of x and
64 weight rows, unless converting takes longer. Tiles are made in waves, a CTA on each SM; a tile's end costs about as
much as two stages.
"""

from __future__ import annotations

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import Problem
from fp4cc.ir.lowered.wgmma_rs import STAGE_K
from fp4cc.ir.sizes import ceildiv, fold, mul
from fp4cc.targets.sm90 import SM90A

#: Clocks of a stage by the rows of x of a tile.
STAGE_CLOCKS = {256: 1060, 128: 840}
_TILE_STAGES = 2
#: To start a CTA and fill its stages.
_RAMP = 2500


def clocks(problem: Problem, columns: int, rows: int) -> Expr:
    """With tiles of `rows` rows of x. `columns`: those of each accumulator, which share the weight rows."""
    tiles = mul(ceildiv(problem.m, rows), ceildiv(problem.n, columns), problem.batch)
    stages = fold("add", ceildiv(problem.products[0].k, STAGE_K), _TILE_STAGES)
    return fold("add", mul(ceildiv(tiles, SM90A.rates.sms), stages, STAGE_CLOCKS[rows]), _RAMP)
