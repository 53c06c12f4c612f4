"""Scales that converter warps lay out anew: when, what it costs, and why."""

from __future__ import annotations

from fp4cc.ir.lowered import Decision
from fp4cc.ir.lowered_converters import Relaid
from fp4cc.passes.feeds.conversion_cost import ISSUED, LINES, LOAD, warps_in_words
from fp4cc.passes.feeds.native import HALF_ATOM, native_scales
from fp4cc.passes.feeds.spec import Arrival, FeedSpec, Planning, Wanted
from fp4cc.passes.problem.placement import same_placement
from fp4num import LAYOUTS

#: Scales that one load can take at most.
_WIDEST = 16


def _serves(wanted: Wanted, planning: Planning) -> bool:
    if wanted.by != "convert" or not wanted.part.scales:
        return False
    return not native_scales(wanted.operand, wanted.columns, planning.facts, planning.sizes, lone=wanted.lone)


def _plan(wanted: Wanted, planning: Planning) -> Relaid:
    operand = wanted.operand
    return Relaid(
        name=planning.name(operand.arg),
        arg=operand.arg,
        part=wanted.part,
        scales=planning.readers.scales(operand, wanted.k, 4 * wanted.atoms),
        rows=planning.readers.rows(operand),
        atoms=wanted.atoms,
        row_atoms=-(-(wanted.columns if operand.role == "B" else wanted.rows) // 128),
    )


def _clocks(relaid: Relaid) -> float:
    """Of a lane's four rows in each run of 128."""
    rows = 4 * relaid.row_atoms
    loads = rows * relaid.per_row // relaid.scales.width
    parts = relaid.per_row - relaid.per_row // 4 if relaid.scales.width < 4 else 0  # joined to words
    return max((loads * LOAD + rows * parts) / ISSUED, _lines(relaid) * loads / LINES)


def _lines(relaid: Relaid) -> int:
    """Lines of memory that the lanes' rows, which follow one another, lie on in a load."""
    return 4 if relaid.scales.tall == 1 and same_placement(relaid.scales.layout, LAYOUTS["blocked_128x4"]) else 32


def _explain(relaid: Relaid, arrival: Arrival) -> Decision:
    lowered, operand = arrival.lowered, arrival.operand
    width, fmt = relaid.scales.width, operand.format
    loads = f"loads of {width} byte{'s' * (width > 1)}"
    tall = fmt.stored[0]
    if operand.gather is not None:
        reason = f"its rows are those that {operand.gather.arg} numbers"
        instead = f"codes and scales by TMA: with rows that lie as they are multiplied, without `{operand.gather.arg}`"
    elif tall != 1:
        reason = f"a scale is stored for {tall} rows, and the tensor core reads one a row"
        instead = "codes and scales by TMA: with scales stored `1 x ...` in `layout blocked_128x4`"
    elif same_placement(fmt.layout, LAYOUTS["blocked_128x4"]) and lowered.tile.n % HALF_ATOM:
        reason = f"tiles of {lowered.tile.n} columns start within scale atoms of {operand.arg}"
        instead = "codes and scales by TMA: with tiles of a multiple of 64 columns, or one along N"
    elif same_placement(fmt.layout, LAYOUTS["blocked_128x4"]):
        axis = lowered.products.n_axis
        reason = f"it starts at row {axis} of {operand.arg}, which may lie within a scale atom"
        instead = f"codes and scales by TMA: `where {axis} % 128 == 0`"
    else:
        reason = f"layout {fmt.layout.name} is not what the tensor core reads"
        instead = "codes and scales by TMA, shared in a cluster: with `layout blocked_128x4`"
    others = [instead]
    most = min(_WIDEST, relaid.per_row)
    if width < most and fmt.layout == LAYOUTS["linear"]:
        multiple = most * arrival.block
        others.append(f"loads of {most} bytes: `where {arrival.mainloop.products[0].k_axis} % {multiple} == 0`")
    return Decision(
        arrival.what,
        f"codes by TMA, scales re-laid by {warps_in_words(lowered)}",
        f"{reason}: {relaid.stage_bytes} bytes a stage come by {loads}, in each CTA for itself",
        tuple(others),
    )


RELAID = FeedSpec(
    "relaid",
    _serves,
    _plan,
    _explain,
    _clocks,
    most_warps=4,  # each holds the scales of a stage in registers, so this many stages are on their way
    most_members=1,
)
