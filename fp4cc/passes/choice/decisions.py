"""Why a lowered kernel is as it is: decisions that kernels of any engine have, for `explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fp4cc.ir.lowered import Decision, LoweredKernel, Problem
from fp4cc.passes.epilogue.registry import CONSTRUCTS
from fp4cc.passes.resources.params import Loop
from fp4rt.sizes import text


def explain_schedule(lowered: LoweredKernel) -> Decision:
    """Which schedule block is in use."""
    if lowered.schedule is None:
        others = sum(s.target == lowered.target for s in lowered.kernel.schedules)
        why = "no schedule block of this kernel applies" if others else "this kernel has no schedule block"
        return Decision("schedule", "the compiler's own", why)
    span = str(lowered.schedule.span)
    if lowered.when is None:
        return Decision("schedule", span, "the first block that holds for the static sizes", chosen_by="schedule")
    return Decision("schedule", span, f"used at a call where {text(lowered.when)}", chosen_by="schedule")


def explain_products(problem: Problem, mainloops: Sequence[Loop]) -> Iterator[Decision]:
    """Which products share loads, and which an accumulator."""
    if len(problem.products) == 1:
        return
    shared = [f"{m.products[0].a.arg} by {' and '.join(p.b.title for p in m.products)}" for m in mainloops]
    why = "products with different left operands take turns in the same stages"
    if len(mainloops) < len(problem.products):
        why = "products with the same left operand load it once"
    yield Decision("mainloops", "; then ".join(shared), why)
    slots = len(problem.accumulators)
    if slots < len(problem.products):
        yield Decision("accumulators of a tile", str(slots), "sums of products without factors between are one",
                       (f"{len(problem.products)}: one for each product",))  # fmt: skip
    else:
        why = "the epilogue uses each product by itself, or with a factor of its own"
        yield Decision("accumulators of a tile", str(slots), why)


def explain_stores(lowered: LoweredKernel) -> list[Decision]:
    """How each output reaches memory."""
    found = ((output.arg, CONSTRUCTS.of_output(output).explained(output)) for output in lowered.epilogue.outputs)
    return [Decision(f"store of {arg}", chosen, why) for arg, (chosen, why) in found]
