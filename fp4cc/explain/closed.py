"""The time of a launch in closed form, from the parameters that `fp4cc trace` goes by too (`fp4rt.timing`).

The clocks of the SMs are the formula by which plans are chosen, times what a fit says of its engine; DRAM takes its
time beside them, and what the two add up to lies between the longer and their sum. How far this is off is measured:
docs/trace.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from fp4cc.explain.work import traffic
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes.engines.registry import ENGINES
from fp4rt.sizes import evaluate
from fp4rt.timing import values


def launch_seconds(plan: LoweredKernel, sizes: Mapping[str, int]) -> float | None:
    """Seconds of a launch, and of those before it where its formula has them; None where there is no formula."""
    found = values(plan.target)
    moved = sum(traffic(plan.kernel, sizes)) / found["dram_bytes_per_s"]
    fixed = found["closed_launch_seconds"]
    if plan.engine is None:
        return fixed + found["closed_elementwise_seconds"] + moved
    if plan.clocks is None:
        return None
    clocks = int(evaluate(plan.clocks, sizes)) * found.get(f"closed_{plan.engine.name}", 1.0)
    hertz = found["base_clock_ghz"] * 1e9
    if found["closed_power"] and clocks:
        busy = min(1.0, _least_clocks(plan, sizes, found["sms"]) / clocks)
        hertz *= max(found["clock_floor"], 1.0 - found["closed_power"] * busy)
    return fixed + together(clocks / hertz, moved, found["closed_overlap"])


def together(a: float, b: float, power: float) -> float:
    """The time of two things beside each other: (a^power + b^power)^(1/power), the longer one for a large power."""
    longer, shorter = max(a, b), min(a, b)
    return longer * (1.0 + (shorter / longer) ** power) ** (1.0 / power) if longer else 0.0


def _least_clocks(plan: LoweredKernel, sizes: Mapping[str, int], sms: float) -> float:
    """Clocks of the products at the full rate of the tensor cores; 0 where it is not known."""
    problem, rate = plan.products, ENGINES.facts(plan).flop_per_clock
    m, n, batch = (int(evaluate(e, sizes)) for e in (problem.m, problem.n, problem.batch))
    k = sum(int(evaluate(product.k, sizes)) for product in problem.products)
    return 2.0 * m * n * k * batch / (rate * sms) if rate else 0.0
