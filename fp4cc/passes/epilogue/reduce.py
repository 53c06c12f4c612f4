"""Reductions of an epilogue's values: over the columns, the rows, or all of a product."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, cast

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Arg, Expr, Kernel, Value
from fp4cc.ir.lowered import KernelParam, SmemBuffer
from fp4cc.ir.lowered_epilogue import EpilogueOutput, EpilogueProgram, ReducePlan, Space, StorePlan
from fp4cc.ir.sizes import ceildiv, fold, mul
from fp4cc.passes.epilogue.construct import Construct, GlobalMemory, Planning
from fp4cc.passes.epilogue.memory import transposition
from fp4cc.passes.problem.unzip import Frame
from fp4cc.source import Span
from fp4rt.manifest import Init, Param
from fp4rt.plan import WORKSPACE

Over = Literal["columns", "rows", "all"]
Kind = Literal["amax", "amax_nan", "max", "min", "sum", "mean", "mean_square"]
SUMS = ("sum", "mean", "mean_square")
BLOCK = 32  # rows and columns of a partial sum
#: What atomics start from: 0 for magnitudes, else a NaN that loses to every number under the integer comparisons of
#: the atomics (signed for numbers that are not negative, unsigned and reversed for negative ones): all ones for max,
#: all but the sign for min.
_START = {"max": 0xFFFFFFFF, "min": 0x7FFFFFFF, "amax": 0, "amax_nan": 0}


class Reduce(Construct):
    """The reduced outputs of an epilogue. A reduction is known only after all tiles are done."""

    name = "reduce"
    writes = ("reduced",)
    says_all = True

    def makes(self, index: int, frame: Frame) -> bool:
        return frame.kernel.values[index].op == "reduce"

    def stores(self, arg: Arg, value: Value, frame: Frame) -> bool:
        return arg.format is None and value.op == "reduce"

    def refusals(self, index: int, frame: Frame) -> Iterator[Diagnostic]:
        """It is used in the kernel: one that is only stored is computed by the store."""
        value = frame.kernel.values[index]
        users = [v for v in frame.kernel.values if index in v.operands]
        yield error("FP4020", "a reduction is used in the kernel that computes it: this cannot be compiled yet",
                    users[0].span if users else value.span, "uses a reduction", also=[(value.span, "reduced here")],
                    notes=["a reduction is known only after all tiles are done; it can be an output of its own, bare, "
                           "over the columns, the rows or all of the product"],
                    help=_two_kernels(value))  # fmt: skip

    def output_refusals(self, arg: Arg, value: Value, frame: Frame) -> Iterable[Diagnostic]:
        return refusals(arg, value, frame)

    def stored(self, index: int, kernel: Kernel) -> Sequence[int]:
        return kernel.values[index].operands

    def output(self, arg: Arg, index: int, planning: Planning) -> EpilogueOutput:
        return plan_reduced(arg, planning.kernel.values[index], planning.space)

    def explained(self, output: EpilogueOutput, program: EpilogueProgram) -> tuple[str, str]:
        if output.reduce is not None and output.reduce.partials_param is None:
            return "atomics", "tiles join their maxima on the bits of the floats, which is exact in any order"
        return "partial sums", "whoever finishes last adds them up in their order, so the bits never change"

    def buffers(self, program: EpilogueProgram) -> Sequence[SmemBuffer]:
        return [transposition()] if any(o.reduce and o.reduce.over == "rows" for o in program.outputs) else []

    def memory(self, program: EpilogueProgram, start: Expr) -> GlobalMemory:
        return workspace(program.outputs, program.problem, program.tile_n, start)


def _two_kernels(reduction: Value) -> str:
    """How to do what a use of a reduction wants in two kernels."""
    axes = ", ".join(reduction.axes)
    kind = str(reduction.attrs["kind"])
    return (
        f"output the reduction by itself (`out r : f32[{axes}]`, `r = {kind}(...)`) beside the values it is used with, "
        f"and compute with both in a second kernel that takes them as inputs"
    )


def refusals(arg: Arg, value: Value, frame: Frame) -> list[Diagnostic]:
    """Why this reduced output cannot be built yet; empty if it can."""
    kind = str(value.attrs["kind"])
    # The store, not the value: equal reductions are one value, whose place is that of the first.
    place = next(store.span for store in frame.kernel.stores if store.arg == arg.name)
    reduced = frame.kernel.values[value.operands[0]]
    product = {frame.problem.m_axis, frame.problem.n_axis}
    if kind not in (*_START, *SUMS):
        return [_refusal(arg, place, f"{kind} over an axis of the product")]
    if kind in SUMS and set(_names(value)) & set(frame.problem.batch_axes):
        return [_refusal(arg, place, "a sum over batches")]
    if kind in SUMS and frame.problem.groups is not None and _over(value, frame.problem) != "columns":
        return [_in_groups(arg, place, f"a sum over {' and '.join(_names(value))}")]
    if arg.dtype != "f32":
        return [_refusal(arg, place, f"a reduction stored as {arg.dtype}: its type is f32")]
    if not product <= set(reduced.axes):
        return [_refusal(arg, place, "a reduction of something that is not computed for each element")]
    if _over(value, frame.problem) is None:
        return [_refusal(arg, place, f"a reduction over [{', '.join(_names(value))}]")]
    kept = tuple(a for a in reduced.axes if a not in _names(value))
    if tuple(str(axis.name) for axis in arg.axes) != kept:
        return [_refusal(arg, place, f"a reduction to [{', '.join(kept)}] stored with other axes")]
    return []


def _in_groups(arg: Arg, place: Span, what: str) -> Diagnostic:
    return error("FP4300", f"`{arg.name}` cannot be computed beside groups of rows yet: {what}", place, "computed here",
                 help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip


def _refusal(arg: Arg, place: Span, what: str) -> Diagnostic:
    return error("FP4020", f"`{arg.name}` cannot be compiled in an epilogue yet: {what}", place, "computed here",
                 help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip


def plan_reduced(arg: Arg, value: Value, problem: Space) -> EpilogueOutput:
    """The plan of an output that `refusals` has no word against."""
    over = _over(value, problem)
    if over is None:
        raise ValueError(f"{arg.name} is reduced over {_names(value)}")
    m, n = (problem.m_axis,), (problem.n_axis,)
    reduced = {"columns": n, "rows": m, "all": (*m, *n)}[over]
    left = problem.m if over == "columns" else problem.n if over == "rows" else 1
    batched = bool(problem.batch_axes) and not set(problem.batch_axes) & set(_names(value))
    return EpilogueOutput(
        arg=arg.name,
        param_name=f"{arg.name}_ptr",
        kind="reduced",
        dtype="f32",
        value=value.operands[0],
        batch_stride=left if batched else 0,
        row_stride=1 if over == "columns" else 0,
        column_stride=1 if over == "rows" else 0,
        store=StorePlan("direct"),
        reduce=_plan(arg.name, cast("Kind", value.attrs["kind"]), over, problem),
        beyond=reduced if batched or not problem.batch_axes else (*problem.batch_axes, *reduced),
    )


def _plan(name: str, kind: Kind, over: Over, space: Space) -> ReducePlan:
    """Atomics start from a value that is filled in, which rows past a masked group may not get."""
    masked = space.groups is not None and not space.ragged
    if kind not in SUMS and not (masked and kind in ("max", "min")):
        return ReducePlan(kind, over)
    return ReducePlan(kind, over, f"{name}_partials_ptr", f"{name}_tickets_ptr")


def workspace(outputs: Sequence[EpilogueOutput], problem: Space, tile_n: int, start: Expr) -> GlobalMemory:
    """Lay out the workspace: each sum's partials, then its tickets, which start at 0."""
    init: list[Init] = []
    params: list[KernelParam] = []
    end = start
    for output in outputs:
        plan = output.reduce
        if plan is None:
            continue
        params.append(KernelParam(output.param_name, Param("pointer", output.arg), f"{plan.kind} over {plan.over}"))
        if plan.partials_param is None or plan.tickets_param is None:
            init.append(_start(output, problem))
            continue
        partials, tickets = _counts(plan, problem, tile_n)
        at = _sum(end, mul(partials, 4))
        params.append(KernelParam(plan.partials_param, Param("pointer", WORKSPACE, end), "partial sums"))
        params.append(KernelParam(plan.tickets_param, Param("pointer", WORKSPACE, at), "arrivals"))
        init.append(Init(WORKSPACE, tickets, 0, 4, at))
        end = _sum(at, mul(tickets, 4))
    return GlobalMemory(tuple(init), tuple(params), end)


def _counts(plan: ReducePlan, problem: Space, tile_n: int) -> tuple[Expr, Expr]:
    """Partial sums and tickets."""
    rows, columns = ceildiv(problem.m, BLOCK), ceildiv(problem.n, BLOCK)
    if plan.over == "columns":
        # A warp's rows start at any row of a tensor where a group does: it counts itself at its first.
        tickets = rows if problem.groups is None else problem.m
        return mul(problem.batch, columns, problem.m), mul(problem.batch, tickets)
    if plan.over == "rows":
        return mul(problem.batch, rows, problem.n), mul(problem.batch, ceildiv(problem.n, tile_n))
    return mul(problem.batch, rows, columns), problem.batch


def _sum(a: Expr, b: Expr) -> Expr:
    return b if a == 0 else fold("add", a, b)


def _start(output: EpilogueOutput, problem: Space) -> Init:
    """The fill that the atomics start from."""
    if output.reduce is None:
        raise TypeError(f"{output.arg} is not reduced")
    left = {"columns": problem.m, "rows": problem.n, "all": 1}[output.reduce.over]
    count = mul(left, problem.batch) if output.batch_stride != 0 else left
    return Init(output.arg, count, _START[output.reduce.kind], 4)


def _names(value: Value) -> tuple[str, ...]:
    over = value.attrs["over"]
    return (over,) if isinstance(over, str) else tuple(str(name) for name in over) if isinstance(over, tuple) else ()


def _over(value: Value, problem: Space) -> Over | None:
    names = set(_names(value))
    whole = set(problem.batch_axes)
    if names == {problem.n_axis}:
        return "columns"
    if names == {problem.m_axis}:
        return "rows"
    return "all" if names in ({problem.m_axis, problem.n_axis}, {problem.m_axis, problem.n_axis, *whole}) else None
