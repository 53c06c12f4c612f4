"""Scale atoms that lie in memory as the tensor core reads them."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.ir.kernel import Constraint
from fp4cc.ir.lowered import Operand
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.problem.divides import divides
from fp4cc.passes.problem.placement import same_placement
from fp4num import LAYOUTS


def native_scales(operand: Operand, tile_n: int, facts: Sequence[Constraint], sizes: Sizes) -> bool:
    """Whether scale atoms lie in memory as the tensor core reads them, so that TMA can bring them."""
    fmt = operand.format
    if operand.divided:  # a group starts within an atom
        return False
    laid_out = fmt.stored[0] == 1 and same_placement(fmt.layout, LAYOUTS["blocked_128x4"])
    return laid_out and starts_in_place(operand, tile_n, facts, sizes)


def starts_in_place(operand: Operand, tile_n: int, facts: Sequence[Constraint], sizes: Sizes) -> bool:
    """Whether the tiles of an operand are known to start where a scale atom, or the second half of one, does.

    A B tile of 64 or 192 columns may start in the middle of an atom, by a column offset; one of 128 or 256 would then
    reach into an atom more than it loads. Halves that take turns do so in multiples of a tile.
    """
    if operand.half is not None and operand.half.group is not None:
        return True
    return divides(64 if operand.half and tile_n % 128 else 128, operand.first_row, facts, sizes)
