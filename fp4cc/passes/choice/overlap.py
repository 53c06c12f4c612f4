"""Whether a launch overlaps the one before it, which a schedule block asks for: programmatic dependent launch.

CUDA C++ Programming Guide, "Programmatic Dependent Launch and Synchronization"; PTX ISA 9.7.13.13, "griddepcontrol".
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from fp4cc.ir.kernel import Kernel, Schedule
from fp4cc.ir.lowered import Decision, LoweredKernel, Overlap

FIELD = "overlap"
_NEXT = {
    "early": "lets the next one begin once all of its CTAs run",
    "late": "lets the next one begin once its CTAs have asked for all that they read of their operands",
}


def asked(schedule: Schedule | None) -> Overlap:
    """What a block asks for."""
    found = False if schedule is None else schedule.fields.get(FIELD, (False,))[0]
    return "no" if found is False else cast("Overlap", found)  # `no` is a truth value to the front end


def rest(schedule: Schedule | None) -> Schedule | None:
    """What a block asks of an engine; None, as if there were no block, where it has no other field."""
    if schedule is None or FIELD not in schedule.fields:
        return schedule
    fields = {name: values for name, values in schedule.fields.items() if name != FIELD}
    return replace(schedule, fields=fields) if fields else None


def without(kernel: Kernel) -> Kernel:
    """The kernel with what its blocks ask of engines."""
    if not any(FIELD in schedule.fields for schedule in kernel.schedules):
        return kernel
    left = (rest(schedule) for schedule in kernel.schedules)
    return replace(kernel, schedules=tuple(schedule for schedule in left if schedule is not None))


def overlapped(plan: LoweredKernel, how: Overlap) -> LoweredKernel:
    """The plan as a block asks for it."""
    if how == "no":
        return plan
    why = (
        "a launch begins while the one before it in the stream still runs, makes its barriers, and touches nothing of "
        f"global memory until that one has ended; it {_NEXT[how]}"
    )
    decision = Decision("overlap", how, why, ("`overlap no`: a launch begins after the one before",), "schedule")
    return replace(plan, overlap=how, decisions=(*plan.decisions, decision))


def spread(kernel: LoweredKernel) -> LoweredKernel:
    """All launches of a plan as the plan itself.

    A launch that several plans share has one text, that of the first plan that overlaps. `griddepcontrol` has no effect
    where the manifest does not launch it so.
    """
    plans, how = (kernel, *kernel.variants), dict[str, Overlap]()
    for plan in plans:
        if plan.overlap != "no":
            for other in (*plan.before, *plan.after):
                how.setdefault(other.name, plan.overlap)
    if not how:
        return kernel

    def of(plan: LoweredKernel) -> LoweredKernel:
        before, after = (
            tuple(replace(other, overlap=how.get(other.name, "no")) for other in others)
            for others in (plan.before, plan.after)
        )
        return replace(plan, before=before, after=after)

    return replace(of(kernel), variants=tuple(of(variant) for variant in kernel.variants))
