"""From a lowered kernel and the sizes of a call to the numbers that the timing model takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import lcm

from fp4cc.explain.roofline import Work
from fp4cc.ir.kernel import Expr, Kernel
from fp4cc.ir.lowered import Conversion, LoweredKernel
from fp4cc.ir.roles import batch_dims, group_dims
from fp4cc.ir.serialize import to_constraint, to_typed
from fp4cc.ir.size_hints import suggested
from fp4cc.passes.choice.facts import Timing
from fp4cc.passes.choice.schedule import ASSUMED, ASSUMED_GROUPS
from fp4cc.passes.choice.split import meeting_clocks
from fp4cc.passes.feeds.converters import stage_clocks
from fp4cc.sema.sizes import resolved
from fp4rt.errors import DimensionError, RuntimeFault
from fp4rt.resolve import check_constraints
from fp4rt.sizes import SizeError, evaluate, text
from fp4rt.work import memory

#: Tried after it where the conditions of a kernel ask for something else.
_OTHERS = (12288, 15360, 1024, 256, 128, 96, 64, 16, 1)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a call launches: every dim's size, the dynamic dims that nobody gave, and the plan for these sizes."""

    sizes: Mapping[str, int]
    assumed: tuple[str, ...]
    plan: LoweredKernel


def choose(lowered: LoweredKernel, given: Mapping[str, int]) -> Chosen:
    """The call with the given sizes.

    Dynamic dims that are not given are taken as what schedules are chosen for (`ASSUMED`, one batch, and
    `ASSUMED_GROUPS`), or as the next of a few sizes that meets the kernel's conditions. Raises the runtime's error for
    given sizes that do not.
    """
    dims = lowered.kernel.dims
    open_ = tuple(d.name for d in dims if d.value is None and d.expr is None and d.name not in given)
    fault: RuntimeFault | None = None
    whole = lcm(ASSUMED, *(d for dim in dims if dim.expr is not None for d in _divisors(dim.expr)))
    for taken in _assumed(lowered.kernel, open_, tuple(dict.fromkeys((ASSUMED, whole, *_OTHERS)))):
        try:
            sizes = _every_size(lowered.kernel, {**given, **taken})
            plan = plan_for(lowered, sizes)
            check_constraints(map(to_constraint, (*lowered.kernel.constraints, *plan.constraints)), sizes)
        except RuntimeFault as found:
            fault = fault or found
        else:
            return Chosen(sizes, open_, plan)
    assert fault is not None, "sizes were tried"
    raise fault


def _assumed(kernel: Kernel, names: tuple[str, ...], usual: tuple[int, ...]) -> Iterator[dict[str, int]]:
    """One size for all open dims and one batch, then for each what its own conditions ask for."""
    batches = batch_dims(kernel)
    groups = group_dims(kernel)
    yield {name: ASSUMED_GROUPS if name in groups else 1 if name in batches else usual[0] for name in names}
    exprs = [to_constraint(c).expr for c in kernel.constraints]
    hints = {name: suggested(name, exprs, (1,) if name in batches else usual) for name in names}
    for i in range(1, max(map(len, hints.values()), default=1)):
        yield {name: sizes[min(i, len(sizes) - 1)] for name, sizes in hints.items()}
        for name in names:
            yield {n: sizes[min(i, len(sizes) - 1)] if n == name else sizes[0] for n, sizes in hints.items()}


def _every_size(kernel: Kernel, known: Mapping[str, int]) -> dict[str, int]:
    """Every dim's size. Raises DimensionError where a derived one is no whole number."""
    sizes = {d.name: known[d.name] if d.value is None else d.value for d in kernel.dims if d.expr is None}
    derived = resolved(kernel.dims)
    for dim in kernel.dims:
        if dim.expr is not None:
            try:
                sizes[dim.name] = int(evaluate(derived[dim.name], sizes)) if dim.value is None else dim.value
            except SizeError as error:
                raise DimensionError(f"{dim.name} = {text(dim.expr)}: {error}") from error
    return sizes


def _divisors(expr: Expr) -> list[int]:
    """The numbers by which a size divides something exactly."""
    if not isinstance(expr, tuple):
        return []
    own = [expr[2]] if expr[0] == "div" and isinstance(expr[2], int) and expr[2] != 0 else []
    return [*own, *(d for part in expr[1:] for d in _divisors(part))]


def plan_for(lowered: LoweredKernel, sizes: Mapping[str, int]) -> LoweredKernel:
    """The variant that a call with these sizes runs: the first whose condition holds, else the plan for the rest."""
    for variant in lowered.variants:
        if variant.when is None or evaluate(variant.when, sizes):
            return variant
    return lowered


def work_of(plan: LoweredKernel, timing: Timing, sizes: Mapping[str, int]) -> Work:
    """The work of one call; `timing` is the engine's."""

    def size(expr: object) -> int:
        return int(evaluate(expr, sizes))  # type: ignore[arg-type]

    problem, cluster = plan.products, plan.cluster
    read, written = traffic(plan.kernel, sizes)
    parts = 1 if plan.split is None else size(plan.split.parts)
    return Work(
        m=size(problem.m),
        n=size(problem.n),
        k=-(-sum(size(product.k) for product in problem.products) // max(1, size(problem.shared_k))),
        batch=size(problem.batch),
        tile_m=plan.tile.m,
        tile_n=plan.tile.n,
        tile_k=plan.tile.k,
        cluster_m=cluster.m,
        cluster_n=cluster.n,
        cta_group=timing.cta_group,
        mma_k=timing.mma_k,
        flop_per_clock=timing.flop_per_clock,
        fill_bytes=fill_bytes(plan),
        read_bytes=read,
        written_bytes=written,
        overlapped=timing.overlapped,
        convert_cycles=_each_product(plan, sum(map(stage_clocks, _conversions(plan)))),
        parts=parts,
        meeting_cycles=0
        if plan.split is None or plan.split.adds or parts == 1
        else meeting_clocks(parts, plan.split.part_bytes),
    )


def traffic(kernel: Kernel, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Bytes read and written, each tensor once."""
    ways = {arg.name: arg.direction for arg in kernel.args}
    sized = [(ways[one.name], one.total) for one in memory(to_typed(kernel), sizes)]
    read = sum(total for way, total in sized if way in ("in", "inout"))
    return read, sum(total for way, total in sized if way in ("out", "inout"))


def fill_bytes(plan: LoweredKernel) -> int:
    """What a CTA asks of L2 for one step of one product, on average over its cluster and the products.

    A multicast load counts for its issuer only, and an operand that products share once; what converter warps read
    counts for each CTA.
    """
    total = sum(load.slice_bytes * sum(mask != 0 for mask in load.masks) for load in plan.loads)
    own = sum(conversion.stage_bytes for conversion in _conversions(plan))
    return round(_each_product(plan, total / plan.cluster.size + own))


def _conversions(plan: LoweredKernel) -> list[Conversion]:
    return [conversion for mainloop in plan.mainloops for conversion in mainloop.conversions]


def _each_product(plan: LoweredKernel, of_all: float) -> float:
    """The average over the products of what is counted for all of them."""
    return of_all / len(plan.products.products)
