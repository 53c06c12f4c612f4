"""How many columns a CTA of the decoding engine makes, and over how many warps it spreads K."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4cc.ir.lowered import Problem
from fp4cc.ir.lowered.decode import LANES
from fp4cc.ir.sizes import approximate

EPILOGUE_WARPS = 4
#: Columns of an accumulator that a warp makes.
WARP_COLUMNS = 32
#: Steps of weights that a lane has on their way.
AHEAD = 2
#: What a size counts as that is not known.
_ASSUMED = 4096
_WARPS = (16, 8)


@dataclass(frozen=True, slots=True)
class Shape:
    """`columns` of each accumulator in a tile, made by `blocks` x `shares` warps, each of `warp_columns`."""

    columns: int
    warp_columns: int
    blocks: int
    shares: int
    ahead: int

    @property
    def warps(self) -> int:
        """Of a CTA."""
        return self.blocks * self.shares


def choose(problem: Problem, widths: Sequence[int], run: int) -> Shape:
    """The narrowest tiles, for as many CTAs as there can be; eight warps of them where each still has two steps."""
    columns = min(widths)
    blocks = len(problem.accumulators) * columns // WARP_COLUMNS
    steps = max(approximate(product.k, {}, _ASSUMED) for product in problem.products) / (LANES * run)
    warps = next((n for n in _WARPS if steps >= 2 * n // blocks), _WARPS[-1])
    return Shape(columns, WARP_COLUMNS, blocks, warps // blocks, AHEAD)
