"""The tiles of products of FP8: which there are, what a schedule block asks for, and about how long each takes.

A step of 128 along K takes what was measured (benchmarks/hopper.md, one H100). Tiles are made in waves, a CTA on each
SM; the epilogue runs under the next tile's mainloop, and handing the sums over costs about as much as a step.
"""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Expr, Schedule
from fp4cc.ir.lowered import FP8_TILE_K, Problem
from fp4cc.ir.lowered_epilogue import CTA_ROWS
from fp4cc.ir.sizes import ceildiv, fold, mul
from fp4cc.passes.choice.cases import Bounds
from fp4cc.passes.choice.refused import left_to_hopper
from fp4cc.passes.choice.schedule import problem_sizes
from fp4cc.passes.choice.split import meeting_clocks, split_refusals
from fp4cc.targets.sm90 import SM90A

#: What a block may choose.
OWN_FIELDS = ("tile", "cluster", "stages", "split_k", "raster", "store", "reduce")


@dataclass(frozen=True, slots=True)
class Shape:
    """A tile: rows of A in a stage, columns, and CTAs along M that share loads of B."""

    rows: int
    columns: int
    cluster: int = 1

    @property
    def tile(self) -> tuple[int, int, int]:
        """As a schedule block says it."""
        return (self.rows, self.columns, FP8_TILE_K)

    @property
    def label(self) -> str:
        """For people."""
        shared = f", cluster {self.cluster} x 1" if self.cluster > 1 else ""
        return f"FP8 as it is, {self.rows} x {self.columns} x {FP8_TILE_K}{shared}"


#: Clocks of a step by tile. Those of 128 rows serve any number of rows, the others no more than they have.
STEP_CLOCKS = {
    Shape(CTA_ROWS, 128): 740,
    Shape(CTA_ROWS, 64): 430,
    Shape(CTA_ROWS, 128, 2): 780,
    Shape(CTA_ROWS, 64, 2): 800,
    Shape(64, 64): 390,
    Shape(64, 32): 365,
    Shape(16, 64): 385,
    Shape(16, 32): 360,
}
#: TMA is slow where it fills rows past the end of A with zeros: a step takes so much longer for each.
_MISSING = 3
#: Handing a tile's sums over, in steps; to start a CTA and fill its stages, and for a column of the last epilogue.
_TILE_STEPS, _RAMP, _COLUMN = 1, 2500, 8


def clocks(problem: Problem, shape: Shape, parts: int = 1) -> Expr:
    """The time with one of the tiles and K in so many parts, but for DRAM."""
    sizes = problem_sizes(problem)
    m = sizes["m"]
    tall, across = ceildiv(m, shape.rows * shape.cluster), mul(ceildiv(problem.n, shape.columns), sizes["batch"])
    tiles = across if shape.rows < CTA_ROWS else mul(tall, shape.cluster, across)
    steps = ceildiv(ceildiv(problem.products[0].k, FP8_TILE_K), parts)
    missing = fold("sub", shape.rows, fold("min", m, shape.rows))
    step = fold("add", STEP_CLOCKS[shape], mul(missing, _MISSING))
    each = mul(fold("add", steps, _TILE_STEPS), step)
    if parts > 1:
        each = fold("add", each, meeting_clocks(parts, 4 * CTA_ROWS * shape.columns))
    waves = ceildiv(mul(tiles, parts), SM90A.rates.sms)
    if shape.rows < CTA_ROWS:  # beyond its rows no tile is, and others must be less there
        waves = mul(waves, tall)
    return fold("add", mul(waves, each), _RAMP + _COLUMN * shape.columns)


def possible(shape: Shape, problem: Problem, bounds: Bounds) -> bool:
    """Whether a tile has room for all rows that there can be."""
    most = bounds.most(problem.m)
    return shape.rows == CTA_ROWS or (most is not None and most <= shape.rows)


def asked_wrongly(schedule: Schedule, shapes: list[Shape], problem: Problem, bounds: Bounds) -> list[Diagnostic]:
    """What a schedule block asks for that there is not; `shapes` are those for the widths of the epilogue."""
    found = [*split_refusals(schedule, problem), *left_to_hopper(schedule, OWN_FIELDS)]
    tiles = list(dict.fromkeys(shape.tile for shape in shapes))
    for field, values in schedule.fields.items():
        span = schedule.field_spans[field]
        if field == "tile" and values not in tiles:
            legal = " or ".join(_text(tile) for tile in tiles)
            found.append(
                error("FP5010", f"of FP8 as it is tiles are {legal} here", span, "another tile",
                      help=f"write `tile {_text(tiles[0])}`"),
            )  # fmt: skip
        elif field == "tile" and not any(possible(s, problem, bounds) for s in shapes if s.tile == values):
            found.append(
                error("FP5010", f"a tile of {values[0]} rows is for at most {values[0]} rows of the product", span,
                      "there may be more", help=f"give the block the condition `when M <= {values[0]}`, of the rows, "
                      f"or write `tile {_text(tiles[0])}`"),
            )  # fmt: skip
        elif field == "cluster" and values not in ((1, 1), (2, 1)):
            found.append(
                error("FP5011", "sm_90a takes clusters of 1 x 1 or 2 x 1", span, "another cluster",
                      help="write `cluster 2 x 1`"),
            )  # fmt: skip
    few = schedule.fields.get("tile", (CTA_ROWS,))[0] != CTA_ROWS
    if not found and few and schedule.fields.get("cluster", (1, 1)) != (1, 1):
        found.append(
            error("FP5011", "a cluster shares loads between tiles of 128 rows", schedule.field_spans["cluster"],
                  "of fewer rows there is one tile", help="write `cluster 1 x 1`"),
        )  # fmt: skip
    return found


def _text(tile: tuple[int, ...]) -> str:
    return " x ".join(map(str, tile))
