"""The walks over a panel before the one that stores: Hadamard transforms through shared memory, then measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fp4cc.codegen.epilogue.hadamard import spread_end, spread_lines, spread_release
from fp4cc.codegen.epilogue.hooks import Walk
from fp4cc.codegen.epilogue.measure import measure_end, measure_lines, measure_release, measured
from fp4cc.codegen.epilogue.slices import needed
from fp4cc.codegen.fragments import Fragment, fragment
from fp4cc.ir.lowered import LoweredKernel


def walks(
    lowered: LoweredKernel,
    steps: Sequence[Fragment],
    points: Mapping[int, str],
    results: Mapping[int, str],
) -> tuple[Walk, ...]:
    """The walks in order.

    `steps` compute a sub-tile's values; `points` and `results` have the names of the lists of 32 that transforms take
    and that are stored.
    """
    program = lowered.epilogue
    found: list[Walk] = []
    for depth in sorted({plan.depth for plan in program.spread}):
        plans = [plan for plan in program.spread if plan.depth == depth]
        lines = [line for plan in plans for line in spread_lines(program, plan, points[plan.value])]
        end = dict.fromkeys(line for plan in plans for line in spread_end(program, plan))
        subtile = fragment(needed(steps, [points[plan.value] for plan in plans]), *lines)
        found.append(Walk("transform runs of 32", subtile, fragment(*end)))
    outputs = measured(lowered)
    if outputs:
        lines = [line for o in outputs for line in measure_lines(lowered, o, results[o.value])]
        subtile = fragment(needed(steps, [results[output.value] for output in outputs]), *lines)
        end = fragment(*(measure_end(lowered, output) for output in outputs))
        found.append(Walk("measure the blocks", subtile, end))
    return tuple(found)


def panel_end(lowered: LoweredKernel) -> Fragment:
    """Lines after a panel was stored: what other warps must have read before the next one."""
    return fragment(*measure_release(lowered), *spread_release(lowered))[:1]
