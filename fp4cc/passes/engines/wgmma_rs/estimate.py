"""About how long a product takes on Hopper, in clocks of an SM: with weights in registers, and converted in memory.

A stage of 64 along K takes what was measured (benchmarks/hopper.md, one H100): the tensor core 4 clocks a row of x and
64 weight rows, unless converting takes longer. Tiles are made in waves, a CTA on each SM; a tile's end costs about as
much as two stages.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fp4cc.ir.lowered.wgmma_rs import STAGE_K, WEIGHT_ROWS
from fp4cc.passes.choice.estimate import Shape
from fp4cc.targets.sm90 import SM90A

#: Clocks of a stage by the rows of x of a tile, and whether warpgroups take stages in turns, with 64 weight rows.
STAGE_CLOCKS = {(256, False): 1060, (128, False): 840, (128, True): 440, (64, True): 380}
#: The same of 128 x 128 with both operands in shared memory, where four warps convert and multiply.
SHARED_CLOCKS = 1040
_TILE_STAGES = 2
#: TMA is slow where it fills rows past the end of x with zeros: a stage takes this, and 6.25 clocks for each.
_FILL_CLOCKS = 300


@dataclass(frozen=True, slots=True)
class Clocks:
    """Those with tiles of so many `rows` of x, in turns or not, and those of the engine that converts in memory."""

    rows: int
    turns: bool
    ours: int
    shared: int


def estimate(shape: Shape, columns: int, options: Collection[tuple[int, bool]]) -> Clocks:
    """The fastest of some options. `columns`: those of each accumulator, which share the weight rows."""
    found = {
        each: _clocks(shape, columns // 2 if each[1] else columns, each[0], STAGE_CLOCKS[each]) for each in options
    }
    best = min(found, key=lambda each: (found[each], -each[0], each[1]))
    return Clocks(*best, found[best], _clocks(shape, columns, WEIGHT_ROWS, SHARED_CLOCKS))


def _clocks(shape: Shape, columns: int, rows: int, stage: int) -> int:
    tiles = -(-shape.m // rows) * -(-shape.n // columns) * shape.batch
    waves = -(-tiles // SM90A.rates.sms)
    missing = max(0, rows - shape.m)
    if missing:
        stage = max(stage, _FILL_CLOCKS + missing * 25 // 4)
    return waves * stage * (-(-shape.k // STAGE_K) + _TILE_STAGES)
