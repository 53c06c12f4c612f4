"""The part of a report that is about arguments which are prepared: what that takes once, and what a call then does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fp4cc.explain.plans import call_time, label, used_where
from fp4cc.explain.rows import Row, us
from fp4cc.explain.work import traffic
from fp4cc.ir.lowered import LoweredKernel, Preparation
from fp4cc.targets import CHIPS
from fp4cc.targets.base import LAUNCH
from fp4rt.sizes import evaluate


@dataclass(frozen=True, slots=True)
class PreparedFigures:
    """An argument that can be prepared, at the sizes of a call: the bytes that this adds, the seconds that it takes.

    `plan`: what a call on it takes then, in `time`; None where it takes the plan for natural weights. `plans`: all.
    """

    arg: str
    bytes: int
    seconds: float
    plan: LoweredKernel | None
    time: float | None
    plans: tuple[LoweredKernel, ...]

    def rows(self, sizes: Mapping[str, int]) -> list[Row]:
        """For the text report."""
        taken = "the plan for it as it is, which is no slower here"
        if self.plan is not None:
            engine = self.plan.engine.name if self.plan.engine is not None else "no product"
            taken = f"{engine}, {label(self.plan, sizes)}" + ("" if self.time is None else f"; {us(self.time)}")
        return [
            (
                self.arg,
                f"{self.bytes} bytes beside it, made once in {us(self.seconds)}: kernel.prepare({self.arg}=...)",
            ),
            ("", f"a call on it takes then: {taken}"),
            *(("", f"{label(plan)}: used {used_where(plan.when)}") for plan in self.plans),
        ]

    def json(self, sizes: Mapping[str, int]) -> dict[str, object]:
        """The same for machines."""
        return {
            "arg": self.arg,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "plan": None if self.plan is None else label(self.plan, sizes),
            "time": self.time,
            "plans": [{"schedule": label(plan), "used": used_where(plan.when)} for plan in self.plans],
        }


def prepared_figures(lowered: LoweredKernel, sizes: Mapping[str, int]) -> tuple[PreparedFigures, ...]:
    """Each argument of a kernel that can be prepared, at the sizes of a call."""
    found: dict[str, tuple[Preparation, list[LoweredKernel]]] = {}
    for plan in lowered.prepared:
        if plan.preparation is not None:
            found.setdefault(plan.preparation.arg, (plan.preparation, []))[1].append(plan)
    return tuple(_figures(arg, made, plans, sizes) for arg, (made, plans) in found.items())


def _figures(arg: str, made: Preparation, plans: list[LoweredKernel], sizes: Mapping[str, int]) -> PreparedFigures:
    size = int(evaluate(made.bytes, sizes))
    read, _ = traffic(made.launch.kernel, sizes)
    seconds = LAUNCH + (read + size) / CHIPS[made.launch.target].rates.dram_bytes_per_s
    taken = next((plan for plan in plans if plan.when is None or evaluate(plan.when, sizes)), None)
    return PreparedFigures(arg, size, seconds, taken, None if taken is None else call_time(taken, sizes), tuple(plans))
