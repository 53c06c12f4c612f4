"""The plans of a kernel over the sizes of one dim: which a call takes, the time in the model, and the roofline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fp4cc.explain.closed import launch_seconds
from fp4cc.explain.rows import Row, us
from fp4cc.explain.work import choose
from fp4cc.ir.kernel import Expr, Kernel
from fp4cc.ir.lowered import LoweredKernel
from fp4rt.errors import RuntimeFault
from fp4rt.sizes import evaluate, names, text

#: The sizes that a table shows.
_SHOWN = (1, 8, 16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 8192, 16384)
#: Letters of a condition that people read; longer ones compare what plans cost.
_READABLE = 160


@dataclass(frozen=True, slots=True)
class Line:
    """What a call of one size takes: the plan, when it is used, its engine. Times in seconds; none without a model."""

    size: int
    plan: int
    used: str
    engine: str
    label: str
    time: float | None
    roofline: float


@dataclass(frozen=True, slots=True)
class PlanTable:
    """The plans over sizes of `dim`, the others as in `others`.

    `asked`: the size of the call that is explained. `fixed`: the size that `--set` gives the dim, which the spec leaves
    open: the table is of the kernel that does, and what is shown in full elsewhere is the kernel for this size alone.
    """

    dim: str
    others: Mapping[str, int]
    lines: tuple[Line, ...]
    asked: int | None = None
    fixed: int | None = None

    @property
    def title(self) -> str:
        """What the table is of."""
        others = ", ".join(f"{name} = {size}" for name, size in self.others.items())
        opened = "" if self.fixed is None else f" where a kernel leaves it open (--at {self.dim}={self.fixed})"
        return f"plans over {self.dim}{opened}, estimated" + (f", at {others}" if others else "")

    @property
    def several(self) -> bool:
        """Whether there is more than one plan in it."""
        return any(line.plan for line in self.lines)

    def rows(self) -> list[Row]:
        """The table as text, the call that is explained marked, and when each plan is used."""
        found: list[Row] = []
        used: dict[str, str] = {}
        for line in self.lines:
            time = "" if line.time is None else f"{us(line.time)}, "
            name = f"plan {line.plan}" if line.plan else "the other" if self.several else "the one plan"
            mark = " <- this call" if line.size == self.asked else ""
            plan = f"{name}: {line.engine}, {line.label}; {time}roofline {us(line.roofline)}{mark}"
            found.append((f"{self.dim} = {line.size}", plan))
            used[name] = line.used if self.several else "for every size"
        return [*found, *((name, line) for name, line in sorted(used.items()))]

    def json(self) -> list[dict[str, object]]:
        """The table for machines."""
        return [
            {
                "sizes": {**self.others, self.dim: line.size},
                "plan": line.plan,
                "used": line.used,
                "engine": line.engine,
                "schedule": line.label,
                "time": line.time,
                "roofline_time": line.roofline,
            }
            for line in self.lines
        ]


def used_where(when: Expr | None) -> str:
    """When a plan is used, in words."""
    if when is None:
        return "where no other plan applies"
    spans = _spans(when)
    condition = text(when) if spans is None else f"{spans[0]} is {', '.join(spans[1])}"
    return f"where {condition}" if len(condition) <= _READABLE else "where it is the fastest of them in the model"


def _spans(when: Expr) -> tuple[str, list[str]] | None:
    """The name and the intervals of a condition that has several of one dim, and nothing else."""
    if not isinstance(when, tuple) or when[0] != "or":
        return None
    found: list[str] = []
    dims: set[str] = set()
    for part in when[1:]:
        match part:
            case ("and", ("ge", str(name), int(low)), ("le", str(same), int(high))) if name == same:
                found.append(f"{low} to {high}" if low < high else f"{low}")
            case ("le", str(name), int(high)):
                found.append(f"at most {high}")
            case _:
                return None
        dims.add(name)
    return (dims.pop(), found) if len(dims) == 1 else None


def number_of(lowered: LoweredKernel, plan: LoweredKernel) -> int:
    """The number of a plan: of the variants from 1, 0 for the one that always applies."""
    return next((number for number, variant in enumerate(lowered.variants, 1) if variant is plan), 0)


def plan_table(
    lowered: LoweredKernel,
    given: Mapping[str, int],
    taken: Mapping[str, int],
    roofline: Callable[[LoweredKernel, Mapping[str, int]], float],
    fixed: str | None = None,
) -> PlanTable | None:
    """The plans over the rows, or whatever dim is open and not `given`; None for a kernel with one plan.

    `taken` has a size for every dim; `roofline` is the time of a call at best. `fixed`: a dim that is open here and
    `given`, and fixed in what is explained; then the table is over this one, also of one plan.
    """
    dim = fixed or (tabulated(lowered.kernel, given) if lowered.variants else None)
    if dim is None:
        return None
    open_ = {d.name for d in lowered.kernel.dims if d.value is None and d.expr is None}
    others = {name: size for name, size in taken.items() if name in open_ and name != dim}
    lines: list[Line] = []
    for size in sorted({*_SHOWN, *([given[dim]] if dim in given else ())}):
        try:
            chosen = choose(lowered, {**others, dim: size})
        except RuntimeFault:  # a condition of the kernel does not hold for it
            continue
        number = number_of(lowered, chosen.plan)
        time = call_time(chosen.plan, chosen.sizes)
        plan, best = chosen.plan, roofline(chosen.plan, chosen.sizes)
        engine = plan.engine.name if plan.engine is not None else "no product"
        lines.append(Line(size, number, f"used {used_where(plan.when)}", engine, label(plan, chosen.sizes), time, best))
    return PlanTable(dim, others, tuple(lines), given.get(dim), given[dim] if fixed else None)


def label(plan: LoweredKernel, sizes: Mapping[str, int] | None = None) -> str:
    """A plan in short; with the parts of K at the sizes of a call, where there are several."""
    tile, cluster = plan.tile, plan.cluster
    depth = f" x {tile.k}" if tile.k else ""
    parts = 1 if plan.split is None or sizes is None else int(evaluate(plan.split.parts, sizes))
    return (
        f"{tile.m} x {tile.n}{depth}"
        + (f", cluster {cluster.m} x {cluster.n}" if cluster.size > 1 else "")
        + (f", K in {parts} parts" if parts > 1 else "")
    )


def call_time(plan: LoweredKernel, sizes: Mapping[str, int]) -> float | None:
    """Seconds of a call by the formula by which plans are chosen; none for a kernel that no formula chose."""
    return None if plan.clocks is None else launch_seconds(plan, sizes)


def tabulated(kernel: Kernel, given: Mapping[str, int]) -> str | None:
    """The dim of the table: one that is rows of a product, else one that is not given, else any that is open."""
    open_ = [d.name for d in kernel.dims if d.value is None and d.expr is None]
    return next(iter((*open_rows(kernel), *(name for name in open_ if name not in given), *open_)), None)


def open_rows(kernel: Kernel) -> list[str]:
    """The dims left open that are rows of a product."""
    open_ = {d.name for d in kernel.dims if d.value is None and d.expr is None}
    extents = {str(axis.name): axis.extent for arg in kernel.args for axis in arg.axes if axis.name is not None}
    return [
        name
        for value in kernel.values
        if value.op == "matmul" and value.axes[-2] in extents
        for name in names(extents[value.axes[-2]])
        if name in open_
    ]
