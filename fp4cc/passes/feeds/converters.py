"""What converter warps bring into the stages of a mainloop, how many there are, and how they share the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from fp4cc.ir.kernel import Constraint, Kernel
from fp4cc.ir.lowered import Conversion, Problem
from fp4cc.ir.lowered_converters import Converters
from fp4cc.ir.part import Part
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.feeds.registry import FEEDS
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.passes.feeds.spec import Planning, Wanted
from fp4cc.passes.feeds.steps import Steps

#: Words that a lane may hold between fetching and writing: 448 threads have 144 registers each.
MOST_WORDS = 80
CTA_ROWS = 128
#: The kind that reads elements of 4 and 6 bits unpacked, beside others of 8.
PADDED = "mxf8f6f4"


def plan_conversions(
    kernel: Kernel,
    problem: Problem,
    steps: Sequence[Steps],
    sizes: Sizes,
    required: Sequence[Constraint],
    columns: float = inf,
) -> tuple[list[Steps], Needs]:
    """The mainloops with what converter warps bring of each, and what that asks of the kernel's parameters.

    `columns`: as many as the product has at most, if all of them are one run of each right operand.
    """
    facts = (*kernel.constraints, *required)
    needs = Needs(kernel.args)
    planning = Planning(Readers(kernel, sizes, problem, facts, needs), facts, sizes)
    found = (_conversions(step, planning, lone=step.mmas[0].n >= columns) for step in steps)
    return [replace(step, conversions=tuple(own)) for step, own in zip(steps, found, strict=True)], needs


def _conversions(steps: Steps, planning: Planning, *, lone: bool) -> list[Conversion]:
    """The conversions of a mainloop, A's first."""
    mma, first = steps.mmas[0], steps.products[0]
    operands = [(first.a, mma.a, Part("A"), CTA_ROWS)]
    operands += [
        (product.b, each.b, Part("B", place), mma.n // mma.cta_group)
        for place, (product, each) in enumerate(zip(steps.products, steps.mmas, strict=True))
    ]
    wanted = [
        Wanted(operand, part, "convert", element, first.k, rows, mma.n, mma.atoms, padded=mma.kind == PADDED, lone=lone)
        for operand, element, codes, rows in operands
        for part in (codes, *([codes.of_scales] if mma.scale is not None else []))
    ]
    return [found for found in (FEEDS.serving(each, planning) for each in wanted) if found is not None]


def plan_converters(steps: Sequence[Steps], stages: int) -> Converters | None:
    """The warps for the conversions of all mainloops; None where there are none.

    As many teams as there are slots for them, so that many stages are on their way; what is left of the warps joins
    them. A team has several warps also where one could not hold its share of a stage in registers.
    """
    conversions = [conversion for step in steps for conversion in step.conversions]
    if not conversions:
        return None
    specs = [FEEDS.of(conversion) for conversion in conversions]
    most, together = max(spec.most_warps for spec in specs), max(spec.most_members for spec in specs)
    allowed = [n for n in (1, 2, 4) if n <= together and all(each.shares % n == 0 for each in conversions)]
    words = max(sum(conversion.words for conversion in step.conversions) for step in steps)
    members = next((n for n in allowed if words <= n * MOST_WORDS), allowed[-1])
    while 2 * members in allowed and 2 * members * min(stages, most // members) <= most:
        members *= 2
    return Converters(min(stages, most // members), members)


def stage_clocks(conversion: Conversion) -> float:
    """Clocks that a CTA's converter warps take for a stage of what they bring."""
    return FEEDS.of(conversion).clocks(conversion)
