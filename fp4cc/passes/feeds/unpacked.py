"""Operands of 4 or 6 bits beside one of 8 whose rows TMA cannot unpack: when, what it costs, and why."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.ir.kernel import Constraint, Expr
from fp4cc.ir.lowered import Decision, Operand
from fp4cc.ir.lowered_converters import Unpacked
from fp4cc.ir.sizes import Sizes
from fp4cc.ir.sizes import scaled as scaled_size
from fp4cc.passes.feeds.conversion_cost import ISSUED, LINES, LOAD, warps_in_words
from fp4cc.passes.feeds.spec import Arrival, FeedSpec, Planning, Wanted
from fp4cc.passes.problem.divides import factor

#: Elements of a row that TMA unpacks together: a tensor map has whole runs of them (16U4/16U6_ALIGN16B).
RUN_OF_TMA = 128
#: What K is a multiple of otherwise: lanes load whole units, and scales have whole blocks.
MULTIPLE = 32


def unpacked(operand: Operand, k: Expr, facts: Sequence[Constraint], sizes: Sizes) -> bool:
    """Whether warps unpack the elements of an operand that is to be read unpacked.

    They do where the spec says that K is whole runs of 32, and not that it is of 128, and where groups along K start
    anywhere. Where it says nothing of K, TMA does, and asks for whole runs of 128.
    """
    if operand.bits >= 8 or operand.divided:
        return operand.bits < 8
    stated = [fact for fact in facts if fact.reason is None]  # others are the compiler's: blocks are whole
    return factor(k, facts, sizes) % RUN_OF_TMA != 0 and factor(k, stated, sizes) % MULTIPLE == 0


def _serves(wanted: Wanted, planning: Planning) -> bool:
    if wanted.by != "convert" or wanted.part.scales or not wanted.padded:
        return False
    return unpacked(wanted.operand, wanted.k, planning.facts, planning.sizes)


def _plan(wanted: Wanted, planning: Planning) -> Unpacked:
    operand, needs, readers = wanted.operand, planning.needs, planning.readers
    arg, all_rows = operand.arg, None
    if operand.batched:
        all_rows = needs.size(f"{arg}_all_rows", readers.all_rows(operand), f"rows of {arg} in all")
    return Unpacked(
        name=planning.name(arg),
        arg=arg,
        part=wanted.part,
        element=operand.element,
        bits=operand.bits,
        stage_rows=wanted.rows,
        codes=needs.pointer(f"{arg}_codes_ptr", operand.codes, f"{operand.element} codes of {arg}"),
        rows=readers.rows(operand),
        rows_of=readers.rows_of(operand),
        all_rows=all_rows,
        pitch=needs.size(f"{arg}_pitch", scaled_size(wanted.k, operand.bits, 8), f"bytes of a row of {arg}"),
        depth=needs.size("k_size", wanted.k, "elements along K"),
    )


def _clocks(found: Unpacked) -> float:
    loads = 1 if found.unit_words == 4 else found.unit_words
    issued = loads * LOAD + 2 * found.unit // 16  # an address and a store for each 16 bytes
    return found.units * max(issued / ISSUED, loads * found.rows_at_once / LINES)


def _explain(found: Unpacked, arrival: Arrival) -> Decision:
    axis = arrival.mainloop.products[0].k_axis
    reason = f"{axis} is no multiple of {RUN_OF_TMA}, the elements that TMA unpacks together"
    if arrival.operand.divided:
        reason = (
            f"groups along {axis} start at any multiple of {MULTIPLE}, and TMA unpacks {RUN_OF_TMA} elements together"
        )
    return Decision(
        arrival.what,
        f"codes unpacked by {warps_in_words(arrival.lowered)}",
        f"{reason}: {found.stage_bytes} bytes a stage come by ordinary loads, in each CTA for itself",
        () if arrival.operand.divided else (f"by TMA, shared in a cluster: `where {axis} % {RUN_OF_TMA} == 0`",),
    )


UNPACKED = FeedSpec(
    "unpacked",
    _serves,
    _plan,
    _explain,
    _clocks,
    most_warps=8,  # two for each of the SM's four schedulers
    most_members=4,
)
