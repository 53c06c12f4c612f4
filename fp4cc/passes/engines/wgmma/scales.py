"""How Hopper's GEMM gets block scales: in TMA's atoms, or each by its layout from global memory."""

from __future__ import annotations

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import Operand, Scales
from fp4cc.passes.feeds.scale_reading import Readers
from fp4cc.passes.problem.divides import divides
from fp4cc.passes.problem.placement import same_placement
from fp4num import LAYOUTS

#: Blocks along K whose atoms TMA brings: a thread then finds a step's scales of its row in one word.
_ATOM_BLOCKS = (16, 32)


def plan_scales(operand: Operand, k: Expr, rows: int, readers: Readers) -> Scales | None:
    """How the scales of an operand with tiles of so many rows are read; None where it has none."""
    fmt = operand.format
    if fmt.scale is None:
        return None
    tall, block = fmt.stored
    # Atoms are read whole, padding included: another padding than zeros might be NaNs.
    laid_out = tall == 1 and same_placement(fmt.layout, LAYOUTS["blocked_128x4"])
    atoms = laid_out and block in _ATOM_BLOCKS and _in_one_atom(operand, rows, readers)
    return Scales(
        type="e4m3" if fmt.scale == "e4m3" else "e8m0",
        block=block if isinstance(block, int) else 0,
        reader=None if atoms else readers.scales(operand, k, 1),
        rows=None if atoms else readers.rows(operand),
    )


def _in_one_atom(operand: Operand, rows: int, readers: Readers) -> bool:
    """Whether every tile is known to lie within an atom of 128 rows. Halves that take turns do it in whole tiles."""
    takes_turns = operand.half is not None and operand.half.group is not None
    return takes_turns or divides(rows, operand.first_row, readers.facts, readers.sizes)
