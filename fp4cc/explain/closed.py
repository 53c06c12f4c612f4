"""The time of a call in closed form: what `explain` says, from the parameters that `trace` goes by too."""

from __future__ import annotations

from collections.abc import Mapping

from fp4cc.explain.plans import call_time
from fp4cc.explain.report import figures
from fp4cc.explain.tiles import TileFigures
from fp4cc.ir.lowered import LoweredKernel


def call_seconds(plan: LoweredKernel, sizes: Mapping[str, int]) -> float | None:
    """Seconds of all launches of a plan; None where there is no formula for one of them."""
    found = 0.0
    for one in plan.launches:
        made = figures(one, sizes)
        if not isinstance(made, TileFigures):
            found += made.time
        else:
            time = call_time(one, sizes)
            if time is None:
                return None
            found += time
    return found


def roofline_seconds(plan: LoweredKernel, sizes: Mapping[str, int]) -> float:
    """Seconds of all launches of a plan at best."""
    return sum(figures(one, sizes).roofline_time for one in plan.launches)
