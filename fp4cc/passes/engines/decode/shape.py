"""How many columns a CTA of the decoding engine makes, over how many warps it spreads K, and how long that takes.

The time model was fitted to 48 measurements on an H100 (benchmarks/hopper.md): all but 4 are within a tenth of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import Problem
from fp4cc.ir.lowered.decode import LANES, ROWS
from fp4cc.ir.sizes import approximate, ceildiv, fold, mul
from fp4cc.passes.choice.schedule import tiles_along_m
from fp4cc.targets.sm90 import SM90A

EPILOGUE_WARPS = 4
#: Columns of an accumulator that a warp makes.
WARP_COLUMNS = 32
#: Steps of weights that a lane has on their way: more of them take registers that other warps need.
AHEAD = 1
#: Warps that an SM holds: with them a thread has 128 registers, and loads can be issued long before they are used.
RESIDENT = 16
#: What a size counts as that is not known.
_ASSUMED = 8192
#: Warps that a CTA may have; K is shared by a power of two of them, so that three accumulators take 12.
_WARPS = (8, 16, 4, 12)
#: Clocks of a warp's step, by itself and for each warp of the SM beyond those that its latency hides; and of the rest
#: of a CTA: its start, its first loads, the sum of the shares, the epilogue.
_STEP, _STEP_BESIDE, _HIDDEN = 1580.0, 123.0, 6.0
_CTA = 4740.0
#: How much longer a step takes with a second group of 8 rows.
_GROUP = 0.15
#: Groups that have rows, where it is not known how many there are.
_GROUPS = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """`columns` of each accumulator in a tile, made by `blocks` x `shares` warps."""

    columns: int
    blocks: int
    shares: int

    @property
    def warps(self) -> int:
        """Of a CTA."""
        return self.blocks * self.shares

    @property
    def ctas(self) -> int:
        """That an SM holds."""
        return max(1, RESIDENT // self.warps)


def choose(problem: Problem, widths: Sequence[int], run: int) -> Shape:
    """The narrowest tiles, and of the warps that a CTA can have the number that takes the least time."""
    columns = min(widths)
    blocks = len(problem.accumulators) * columns // WARP_COLUMNS
    shapes = [
        Shape(columns, blocks, warps // blocks)
        for warps in _WARPS
        if warps % blocks == 0 and (warps // blocks).bit_count() == 1
    ]
    return min(shapes, key=lambda shape: clocks(problem, shape, run))


def clocks(problem: Problem, shape: Shape, run: int) -> float:
    """The time of a product, in clocks of an SM."""
    sms = SM90A.rates.sms
    steps = sum(-(-_known(product.k) // (LANES * run * shape.shares)) for product in problem.products)
    steps /= len(problem.accumulators)
    groups = problem.groups
    batch = approximate(problem.batch, {}, 1) if groups is None else approximate(groups.count, {}, _GROUPS)
    tiles = -(-_known(problem.n) // shape.columns) * batch
    waves, left = divmod(tiles, sms * shape.ctas)
    beside = max(shape.warps, left * shape.warps / sms)
    return waves * (steps * _step(RESIDENT) + _CTA) + (steps * _step(beside) + _CTA if left else 0.0)


def _step(warps: float) -> float:
    return _STEP + max(0.0, warps - _HIDDEN) * _STEP_BESIDE


def _known(size: Expr) -> int:
    return approximate(size, {}, _ASSUMED)


def clocks_of(problem: Problem, shape: Shape, run: int, groups: int) -> Expr:
    """About the same time as a formula of the sizes, for `groups` of 8 rows: all waves are as long as a full one.

    Of rows in groups a tile has so many rows of one of them, and as many tiles are counted as there may be.
    """
    step, cta = int(_step(RESIDENT) * (1.0 + _GROUP * (groups - 1))), int(_CTA)
    tiles: Expr = mul(ceildiv(problem.n, shape.columns), problem.batch)
    if problem.groups is not None:
        tiles = mul(ceildiv(problem.n, shape.columns), tiles_along_m(problem, ROWS * groups))
    ks = [fold("ceildiv", product.k, LANES * run * shape.shares) for product in problem.products]
    steps = reduce(lambda x, y: fold("add", x, y), ks)
    slots = len(problem.accumulators)
    work = fold("mul", steps, step)
    each = fold("add", work if slots == 1 else fold("ceildiv", work, slots), cta)
    return fold("mul", fold("ceildiv", tiles, SM90A.rates.sms * shape.ctas), each)
