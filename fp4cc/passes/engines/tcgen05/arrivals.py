"""How each operand's codes and scales reach shared memory, for `explain`: by TMA, or by other feeds and why."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import Decision, LoweredKernel, Mainloop, Mma, Operand, Tcgen05
from fp4cc.ir.part import Part
from fp4cc.passes.feeds.registry import FEEDS
from fp4cc.passes.feeds.spec import Arrival
from fp4cc.targets import Target


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
    for feed in (mainloop.feed(part), mainloop.feed(part.of_scales)):
        if feed is not None and feed.by == "convert":
            return FEEDS.of(feed).explain(feed, Arrival(what, lowered, mainloop, operand, mma.block, target))
    if mma.scale is None:
        return Decision(what, "by TMA", f"it is {operand.element} in memory as in the tensor core")
    return Decision(what, "codes and scales by TMA", "its scale atoms lie in memory as the tensor core reads them")
