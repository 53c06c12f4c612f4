"""The report of `fp4cc explain`: data first, then the same data as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from fp4cc.backend.elf import ResourceUsage
from fp4cc.explain.elementwise import ElementwiseFigures
from fp4cc.explain.gemm import GemmFigures
from fp4cc.explain.memory import memory_json, memory_rows
from fp4cc.explain.plans import PlanTable, number_of, plan_table, used_where
from fp4cc.explain.prepared import PreparedFigures, prepared_figures
from fp4cc.explain.rows import Row
from fp4cc.explain.tiles import TileFigures
from fp4cc.explain.work import choose
from fp4cc.ir.lowered import Decision, LoweredKernel
from fp4cc.ir.serialize import to_typed
from fp4cc.layout.padding import Padding
from fp4cc.passes.engines.registry import ENGINES
from fp4rt.sizes import evaluate
from fp4rt.work import Memory, memory


@dataclass(frozen=True, slots=True)
class Report:
    """Everything `explain` knows about one kernel at one set of sizes."""

    plan: LoweredKernel
    sizes: Mapping[str, int]
    assumed: tuple[str, ...]
    number: int
    others: int
    table: PlanTable | None
    figures: GemmFigures | TileFigures | ElementwiseFigures
    usage: ResourceUsage | None
    memory: tuple[Memory, ...]
    """Of a whole call; empty for what is launched before and after its plan."""
    prepared: tuple[PreparedFigures, ...] = ()
    """Of a whole call."""


def reports(
    lowered: LoweredKernel,
    given: Mapping[str, int],
    usage: Mapping[str, ResourceUsage],
    opened: tuple[LoweredKernel, str] | None = None,
) -> list[Report]:
    """Explain what a call at the given sizes launches; `usage` is by entry name, from the cubin, and may be empty.

    `opened`: the same kernel with a dim left open that is fixed in `lowered`, and the dim: the table of plans is its.
    """
    chosen = choose(lowered, given)
    other, dim = (lowered, None) if opened is None else opened
    known = given if dim is None else {**given, dim: chosen.sizes[dim]}
    table = plan_table(other, known, chosen.sizes, lambda plan, sizes: figures(plan, sizes).roofline_time, dim)
    return [
        Report(
            plan=plan,
            sizes=chosen.sizes,
            assumed=chosen.assumed,
            number=number_of(lowered, chosen.plan),
            others=len(lowered.variants),
            table=table if plan is chosen.plan else None,
            figures=figures(plan, chosen.sizes),
            usage=usage.get(plan.launch.entry),
            memory=tuple(memory(to_typed(lowered.whole or lowered.kernel), chosen.sizes))
            if plan is chosen.plan
            else (),
            prepared=prepared_figures(lowered, chosen.sizes) if plan is chosen.plan else (),
        )
        for plan in chosen.plan.launches
    ]


def figures(plan: LoweredKernel, sizes: Mapping[str, int]) -> GemmFigures | TileFigures | ElementwiseFigures:
    if plan.engine is None:
        return ElementwiseFigures.of(plan, sizes)
    timing = ENGINES.facts(plan).timing
    if timing is not None:
        return GemmFigures.of(plan, timing, sizes)
    return TileFigures.of(plan, sizes)


def call_seconds(plan: LoweredKernel, sizes: Mapping[str, int]) -> float | None:
    """Seconds of all launches of a plan in closed form; None where one of them has no formula."""
    found = 0.0
    for one in plan.launches:
        if one in plan.before and plan.clocks is not None:
            continue  # the plan's own formula has it
        time = figures(one, sizes).time
        if time is None:
            return None
        found += time
    return found


def roofline_seconds(plan: LoweredKernel, sizes: Mapping[str, int]) -> float:
    """Seconds of all launches of a plan at best."""
    return sum(figures(one, sizes).roofline_time for one in plan.launches)


def as_json(found: Report) -> dict[str, object]:
    """The report for machines."""
    plan = found.plan
    return {
        "kernel": plan.name,
        "target": plan.target,
        "sizes": dict(found.sizes),
        "assumed": list(found.assumed),
        "scales": {name: {"elements": p.size, "padding": p.padding} for name, p in _scale_buffers(found)},
        "decisions": [asdict(decision) for decision in plan.decisions],
        "resources": {
            "threads": plan.launch.threads,
            "shared_memory": {
                "bytes": plan.smem.total,
                "asked": plan.smem.asked,
                "limit": plan.smem.limit,
            },
            **found.figures.resources_json(),
            "registers": None if found.usage is None else found.usage.registers,
            "stack_bytes": None if found.usage is None else found.usage.stack,
            "code_bytes": None if found.usage is None else found.usage.code_bytes,
        },
        "memory": memory_json(found.memory),
        **({"prepared": [each.json(found.sizes) for each in found.prepared]} if found.prepared else {}),
        **found.figures.json(),
        **(_plans(found.number, found.table) if found.table is not None else {}),
    }


def _plans(number: int, table: PlanTable) -> dict[str, object]:
    """The table for machines: `plan` is the one that is explained, `open_plan` the one that a kernel with the dim left
    open takes instead."""
    if table.fixed is None:
        return {"plan": number, "plans": table.json()}
    taken = next((line.plan for line in table.lines if line.size == table.fixed), None)
    return {"open_plan": taken, "plans": table.json()}


def sections(found: Report) -> list[tuple[str, list[Row]]]:
    """Titles and rows of the text report, after the choices."""
    return [
        ("resources of one CTA", _resources(found)),
        *([("shared memory", _buffers(found.plan))] if found.plan.smem.buffers else []),
        *([("scale buffers", _padding(found))] if _scale_buffers(found) else []),
        *([("memory of a call, bytes", memory_rows(found.memory))] if found.memory else []),
        *(
            [("prepared once", [r for each in found.prepared for r in each.rows(found.sizes)])]
            if found.prepared
            else []
        ),
        *found.figures.sections(),
        *([(found.table.title, found.table.rows())] if found.table is not None else []),
    ]


def headline(found: Report) -> list[str]:
    """The first lines: what, for which target, at which sizes."""
    plan = found.plan
    sizes = ", ".join(f"{name} = {value}" for name, value in found.sizes.items())
    lines = [f"{plan.name} for {plan.target}" + (f" at {sizes}" if sizes else "")]
    if plan.role:
        lines.append(plan.role)
    if found.assumed:
        first = found.assumed[0]
        lines.append(f"{_taken(found)} here; --at {first}=... asks for another size, --set {first}=... fixes it")
    if found.others and (plan.before or plan.after or not plan.role):
        number = f" ({found.number})" if found.number else ""
        lines.append(f"one of {found.others + 1} plans{number}: used {used_where(plan.when)}")
    return lines


def _taken(found: Report) -> str:
    """`M, N dynamic, taken as 4096, L as 1`."""
    by_size: dict[int, list[str]] = {}
    for name in found.assumed:
        by_size.setdefault(found.sizes[name], []).append(name)
    (size, names), *others = by_size.items()
    first = f"{', '.join(names)} dynamic, taken as {size}"
    return ", ".join([first, *(f"{', '.join(names)} as {size}" for size, names in others)])


def choices(decisions: tuple[Decision, ...]) -> list[Row]:
    """The choices: what and which, then why and the alternatives."""
    rows: list[Row] = []
    for decision in decisions:
        by = {"schedule": " (by the schedule)", "target": " (by the target)", "compiler": ""}[decision.chosen_by]
        rows.append((decision.what, f"{decision.chosen}{by}"))
        rows.append(("", decision.why))
        rows.extend(("", f"instead of {alternative}") for alternative in decision.alternatives)
    return rows


def _resources(found: Report) -> list[Row]:
    plan = found.plan
    padding = f", {plan.smem.asked} asked for" if plan.smem.padding else ""
    rows = [
        ("threads", str(plan.launch.threads)),
        ("shared memory", f"{plan.smem.total} of {plan.smem.limit} bytes{padding}"),
        *found.figures.resources(),
    ]
    if found.usage is None:
        rows.append(("registers", "not compiled"))
    else:
        usage = found.usage
        spills = "no stack, nothing spilled" if usage.stack == 0 else f"{usage.stack} bytes of stack: spills"
        rows.append(("registers", f"{usage.registers} a thread, {spills}"))
        rows.append(("code", f"{usage.code_bytes} bytes"))
    rows.extend((f"registers, {who}", f"{count} (setmaxnreg)") for who, count in plan.launch.registers)
    return rows


def _scale_buffers(found: Report) -> list[tuple[str, Padding]]:
    """The scale buffer of each quantized argument at these sizes."""
    shapes = [
        (arg, tuple(int(evaluate(axis.extent, found.sizes)) for axis in arg.axes)) for arg in found.plan.kernel.args
    ]
    return [(a.name, Padding.of(a.format, shape)) for a, shape in shapes if a.format is not None and a.format.scale]


def _padding(found: Report) -> list[Row]:
    rows: list[Row] = []
    for name, padding in _scale_buffers(found):
        rows.append((name, f"padding: {padding}"))
        rows.extend([("", padding.remark)] if padding.remark else [])
    return rows


def _buffers(plan: LoweredKernel) -> list[Row]:
    return [
        (b.name, f"{b.total:>7} bytes at {b.offset:>6}: {b.stages} x {b.bytes}, {b.what}") for b in plan.smem.buffers
    ]
