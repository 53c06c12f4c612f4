"""Operands that converter warps dequantize to 16-bit elements: when, what it costs, and why."""

from __future__ import annotations

from dataclasses import replace

from fp4cc.ir.lowered import Decision, Operand
from fp4cc.ir.lowered_converters import Dequantized
from fp4cc.ir.sizes import scaled as scaled_size
from fp4cc.passes.feeds.conversion_cost import ISSUED, LINES, LOAD, warps_in_words
from fp4cc.passes.feeds.spec import Arrival, FeedSpec, Planning, Wanted
from fp4cc.passes.feeds.steps import converted
from fp4cc.targets import Target

#: Instructions to convert two elements: to f16 by one, by f32 to bf16; and to scale them.
_TO = {"f16": 1, "bf16": 4}
_SCALE = 1
_PART = {1: "the same rate as", 2: "half the rate of", 4: "a quarter of the rate of"}


def _serves(wanted: Wanted, _planning: Planning) -> bool:
    """An instruction without scales reads other elements than there are in memory."""
    return (
        wanted.by == "convert"
        and not wanted.part.scales
        and not wanted.atoms
        and converted(wanted.operand, wanted.to)
    )  # fmt: skip


def _plan(wanted: Wanted, planning: Planning) -> Dequantized:
    operand, needs, readers = wanted.operand, planning.needs, planning.readers
    arg, scaled = operand.arg, operand.scaled and operand.format.scale is not None
    block = operand.format.stored[1] if scaled else 0
    found = Dequantized(
        name=planning.name(arg),
        arg=arg,
        part=wanted.part,
        element=operand.element,
        bits=operand.bits,
        to="f16" if wanted.to == "f16" else "bf16",
        stage_rows=wanted.rows,
        block=block if isinstance(block, int) else 0,
        scales=None,
        codes=needs.pointer(f"{arg}_codes_ptr", operand.codes, f"{operand.element} codes of {arg}"),
        rows=readers.rows(operand),
        rows_of=readers.rows_of(operand),
        all_rows=_all_rows(operand, planning) if operand.batched else None,
        pitch=needs.size(f"{arg}_pitch", scaled_size(wanted.k, operand.bits, 8), f"bytes of a row of {arg}"),
        depth=needs.size("k_size", wanted.k, "elements along K"),
    )
    return replace(found, scales=readers.scales(operand, wanted.k, found.unit_scales)) if scaled else found


def _all_rows(operand: Operand, planning: Planning) -> str:
    rows = planning.readers.all_rows(operand)
    return planning.needs.size(f"{operand.arg}_all_rows", rows, f"rows of {operand.arg} in all")


def _clocks(found: Dequantized) -> float:
    loads = 1 if found.unit_words == 4 else found.unit_words
    pair = _TO[found.to]
    if found.scales is not None:
        loads += found.unit_scales // min(found.unit_scales, found.scales.width)
        pair += _SCALE
    issued = loads * LOAD + found.unit // 2 * pair + found.unit // 8  # and stores of 16 bytes
    lines = loads * found.rows_at_once
    return found.units * max(issued / ISSUED, lines / LINES)


def _explain(found: Dequantized, arrival: Arrival) -> Decision:
    lowered, operand, target = arrival.lowered, arrival.operand, arrival.target
    verb = "dequantized" if found.scales is not None else "converted"
    other = next(o for part, o in arrival.mainloop.operands if part.role != found.role)
    reason = f"it meets {other.name} in kind::f16, which has no scales"
    if found.scales is None:
        reason = f"it meets {other.name} in kind::f16, which has no fp8"
    others: list[str] = []
    native = None if target is None else _native(operand, target)
    if target is not None and native is not None:
        name, flop = native
        rate = target.kind("f16").flop_per_clock
        reason += f", at {_PART.get(flop // rate, f'1/{flop // rate} of the rate of')} kind::{name}"
        others.append(f"kind::{name}: with `{other.arg}` in {operand.name} too")
    return Decision(
        arrival.what,
        f"{verb} to {found.to} by {warps_in_words(lowered)}",
        f"{reason}: {found.stage_bytes} bytes a stage by ordinary loads, in each CTA for itself, "
        f"{operand.bits} bits an element from memory instead of 16",
        tuple(others),
    )


def _native(operand: Operand, target: Target) -> tuple[str, int] | None:
    """The kind that multiplies an operand as it is stored, with its rate; None if none does."""
    for kind in (*target.kinds, *target.plain_kinds):
        scales: tuple[str, ...] = ()
        if operand.scaled and isinstance(operand.format.stored[1], int):
            scales = kind.blocks.get(operand.format.stored[1], ())
        fits = operand.format.scale in scales if operand.scaled else not kind.blocks
        if operand.element in kind.formats and fits:
            return kind.name, kind.flop_per_clock
    return None


DEQUANTIZED = FeedSpec(
    "dequantized",
    _serves,
    _plan,
    _explain,
    _clocks,
    most_warps=8,  # two for each of the SM's four schedulers
    most_members=4,
)
