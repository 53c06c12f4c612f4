"""How each operand's codes and scales reach shared memory, for `explain`: by TMA, or by converter warps and why."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import Decision, LoweredKernel, Mainloop, Mma, Operand, Tcgen05
from fp4cc.ir.lowered_converters import Dequantized, Relaid
from fp4cc.ir.part import Part
from fp4cc.passes.problem.placement import same_placement
from fp4cc.targets import Target
from fp4num import LAYOUTS

_PART = {1: "the same rate as", 2: "half the rate of", 4: "a quarter of the rate of"}
#: Scales that one load can take at most.
_WIDEST = 16


def explain_arrivals(lowered: LoweredKernel, target: Target) -> Iterator[Decision]:
    """A decision for each operand, or several where mainloops need it in different forms."""
    seen: set[tuple[str, str]] = set()
    for mainloop, (mma, *_) in zip(lowered.mainloops, lowered.engine_as(Tcgen05).mmas, strict=True):
        for part, operand in sorted(mainloop.operands, key=lambda found: found[0].name):
            decision = _arrival(lowered, mainloop, mma, operand, part, target)
            if (decision.what, decision.chosen) not in seen:
                seen.add((decision.what, decision.chosen))
                yield decision
                if operand.source is not None:
                    why = "one f32 scale a row is a factor of all of the row's sums"
                    yield Decision(f"scales of {operand.arg}", "multiplied in by the epilogue", why)


def _arrival(
    lowered: LoweredKernel, mainloop: Mainloop, mma: Mma, operand: Operand, part: Part, target: Target
) -> Decision:
    what = f"operand {operand.arg}" if operand.half is None else operand.title
    codes, scales = mainloop.feed(part), mainloop.feed(part.of_scales)
    if isinstance(codes, Dequantized):
        return _dequantized(what, lowered, mainloop, operand, codes, target)
    if isinstance(scales, Relaid):
        return _relaid(what, lowered, mainloop, mma, operand, scales)
    if mma.scale is None:
        return Decision(what, "by TMA", f"it is {operand.element} in memory as in the tensor core")
    return Decision(what, "codes and scales by TMA", "its scale atoms lie in memory as the tensor core reads them")


def _warps(lowered: LoweredKernel) -> str:
    converters = lowered.converters
    if converters is None:
        raise TypeError("no converter warps")
    return f"{converters.warps} warp{'s' * (converters.warps > 1)}"


def _relaid(
    what: str, lowered: LoweredKernel, mainloop: Mainloop, mma: Mma, operand: Operand, relaid: Relaid
) -> Decision:
    width, fmt = relaid.scales.width, operand.format
    loads = f"loads of {width} byte{'s' * (width > 1)}"
    tall = fmt.stored[0]
    if tall != 1:
        reason = f"a scale is stored for {tall} rows, and the tensor core reads one a row"
        instead = "codes and scales by TMA: with scales stored `1 x ...` in `layout blocked_128x4`"
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
        multiple = most * mma.block
        others.append(f"loads of {most} bytes: `where {mainloop.products[0].k_axis} % {multiple} == 0`")
    return Decision(
        what,
        f"codes by TMA, scales re-laid by {_warps(lowered)}",
        f"{reason}: {relaid.stage_bytes} bytes a stage come by {loads}, in each CTA for itself",
        tuple(others),
    )


def _dequantized(
    what: str, lowered: LoweredKernel, mainloop: Mainloop, operand: Operand, found: Dequantized, target: Target
) -> Decision:
    verb = "dequantized" if found.scales is not None else "converted"
    other = next(o for part, o in mainloop.operands if part.role != found.role)
    reason = f"it meets {other.name} in kind::f16, which has no scales"
    if found.scales is None:
        reason = f"it meets {other.name} in kind::f16, which has no fp8"
    rate, native = target.kind("f16").flop_per_clock, _native(operand, target)
    others: list[str] = []
    if native is not None:
        name, flop = native
        reason += f", at {_PART.get(flop // rate, f'1/{flop // rate} of the rate of')} kind::{name}"
        others.append(f"kind::{name}: with `{other.arg}` in {operand.name} too")
    return Decision(
        what,
        f"{verb} to {found.to} by {_warps(lowered)}",
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
