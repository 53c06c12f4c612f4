"""Operands that the multiplying threads convert to 16-bit elements: when, how they get their scales, and why."""

from __future__ import annotations

from typing import cast

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import TILE_K, Converted, Decision, Operand, Scales, Wide
from fp4cc.passes.feeds.scale_reading import Readers
from fp4cc.passes.feeds.spec import Arrival, FeedSpec, Planning, Wanted
from fp4cc.passes.problem.divides import divides
from fp4cc.passes.problem.placement import same_placement
from fp4num import LAYOUTS

#: Blocks along K whose atoms TMA brings: a thread then finds a step's scales of its row in one word.
_ATOM_BLOCKS = (16, 32)


def _serves(wanted: Wanted, _planning: Planning) -> bool:
    return wanted.by == "epilogue" and not wanted.part.scales and wanted.operand.element != wanted.to


def _plan(wanted: Wanted, planning: Planning) -> Converted:
    operand = wanted.operand
    return Converted(
        operand=operand,
        part=wanted.part,
        to=cast("Wide", wanted.to),
        rows=wanted.rows,
        row_bytes=TILE_K * operand.bits // 8,
        scales=_scales(operand, wanted.k, wanted.rows, planning.readers) if operand.scaled else None,
    )


def _scales(operand: Operand, k: Expr, rows: int, readers: Readers) -> Scales | None:
    """How the scales of an operand with tiles of so many rows are read; None without them, or where they are f32."""
    fmt = operand.format
    if fmt.scale is None or fmt.scale == "f32":
        return None
    tall, block = fmt.stored
    # Atoms are read whole, padding included: another padding than zeros might be NaNs.
    laid_out = tall == 1 and same_placement(fmt.layout, LAYOUTS["blocked_128x4"])
    atoms = laid_out and not operand.divided and block in _ATOM_BLOCKS and _in_one_atom(operand, rows, readers)
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


def _explain(found: Converted, arrival: Arrival) -> Decision:
    if found.scales is None:
        return Decision(arrival.what, f"converted to {found.to} by the threads", "a thread takes a row of each step")
    if found.scales.reader is None:
        scales = "TMA brings the scales' atoms with the codes"
    else:
        scales = f"it reads scales by layout {found.scales.reader.layout.name}, a step ahead"
    what = f"dequantized to {found.to} by the threads"
    return Decision(arrival.what, what, f"a thread takes a row of each step; {scales}")


CONVERTED = FeedSpec("converted", _serves, _plan, _explain)
