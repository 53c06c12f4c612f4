"""Which calls `fp4cc bench` times, and what `explain`'s model says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fp4cc.driver.request import Request, RequestError
from fp4cc.driver.sizes import at_sizes
from fp4cc.explain.memory import memory_json
from fp4cc.explain.plans import call_time, label, tabulated
from fp4cc.explain.report import figures
from fp4cc.explain.work import choose
from fp4cc.ir.lowered import LoweredKernel
from fp4rt.bench import calls_of
from fp4rt.typed import TypedKernel
from fp4rt.work import Memory, memory

#: Rows that are timed where nobody says which.
USUAL = (1, 16, 64, 256, 1024, 4096)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A call before it is timed: its sizes, its plan in short, the seconds that the model says (None where it has no
    formula), those of the roofline, and what its tensors take."""

    sizes: Mapping[str, int]
    plan: str
    seconds: float | None
    roofline: float
    memory: Sequence[Memory]

    def json(self) -> dict[str, object]:
        """The estimate for machines."""
        return {
            "plan": self.plan,
            "seconds": self.seconds,
            "roofline_seconds": self.roofline,
            "memory": memory_json(self.memory),
        }


def requested(request: Request, lowered: LoweredKernel, given: Sequence[str]) -> list[dict[str, int]]:
    """The sizes of the calls that `--at` asks for, or usual ones of the rows where it does not.

    Raises RequestError for what cannot be read or is no open dim.
    """
    try:
        calls = calls_of(given)
    except ValueError as error:
        raise RequestError(str(error)) from error
    calls = [at_sizes(request, call) for call in calls]
    rows = tabulated(lowered.kernel, calls[0])
    if rows is None or rows in calls[0]:
        return calls
    return [{**call, rows: size} for call in calls for size in USUAL]


def estimates(lowered: LoweredKernel, typed: TypedKernel, calls: Sequence[Mapping[str, int]]) -> list[Estimate]:
    """What the model says of each call; dims that nobody gave are taken as `explain` takes them."""
    found: list[Estimate] = []
    for call in calls:
        chosen = choose(lowered, call)
        # The time of a plan has what is launched before it.
        times = [call_time(plan, chosen.sizes) for plan in (chosen.plan, *chosen.plan.after)]
        known = [time for time in times if time is not None]
        found.append(
            Estimate(
                {d.name: chosen.sizes[d.name] for d in typed.dims if d.expr is None},
                label(chosen.plan, chosen.sizes),
                sum(known) if len(known) == len(times) else None,
                sum(figures(plan, chosen.sizes).roofline_time for plan in chosen.plan.launches),
                memory(typed, chosen.sizes),
            )
        )
    return found
