"""Lowering: a typed kernel and a target in, every number decided out.

The steps, each of which is a function of its own:

    limits      sizes that no kernel can count are refused          problem.limits
    marks       names of the user give way to marks                 rewrites.symbols
    terms       reductions over row numbers are written out         rewrites.unrolled
    launches    one or two typed kernels, each lowered by itself    rewrites.split, rewrites.wide, rewrites.launches
    overlap     what blocks say of launches is kept for the end     choice.overlap
    forms       an operand converted once, by a launch before       choice.forms, rewrites.converted
    prepared    an operand made ready once, beside the other plans  prepared, rewrites.rows
    plan        what multiplies plans a launch                      engines.registry
    verify      parts and whole hold together                       fp4cc.ir.verify_lowered
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Expr, Kernel, Schedule
from fp4cc.ir.lowered import Decision, LoweredKernel, Overlap
from fp4cc.ir.sizes import Sizes, fold
from fp4cc.ir.verify_lowered import verify_lowered
from fp4cc.passes.choice.cases import Bounds, Candidate, Case
from fp4cc.passes.choice.forms import Form, Forms
from fp4cc.passes.choice.overlap import asked, overlapped, rest, spread, without
from fp4cc.passes.choice.schedule import applicable
from fp4cc.passes.choice.table import table
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.passes.engines.spec import EngineSpec
from fp4cc.passes.epilogue.adding import check_sums
from fp4cc.passes.epilogue.blocks import TooNarrow
from fp4cc.passes.prepared import prepared_plans
from fp4cc.passes.problem.limits import check_limits, check_tiles, too_large
from fp4cc.passes.problem.roles import multiplies
from fp4cc.passes.rewrites.copied import copied_rows
from fp4cc.passes.rewrites.launches import join, precede
from fp4cc.passes.rewrites.split import split
from fp4cc.passes.rewrites.symbols import lowered_by_marks
from fp4cc.passes.rewrites.unrolled import unroll
from fp4cc.passes.rewrites.wide import split_wide
from fp4cc.targets import CHIPS, NAMES, SM90A, target_help
from fp4rt.sizes import SizeError


def lower(kernel: Kernel, target: str, plans: int = 1) -> LoweredKernel:
    """Lower a kernel whose static dims are set (`Dim.value`).

    Where schedule blocks have conditions on dynamic dims, the result carries one variant for each, in source order,
    before the plan that always applies. Where that one is left to the compiler, it makes up to `plans` of it, each with
    a condition on the sizes of a call. Raises DiagnosticError for what the target or this compiler cannot do.
    """
    if target not in NAMES:
        raise DiagnosticError([
            error("FP4012", f"kernels cannot be compiled for {target} yet", kernel.span, help=target_help(target)),
        ])  # fmt: skip
    check_limits(kernel, Sizes.of(kernel.dims))
    try:
        # What is judged has marks for names: spelled, the user's `acc` would share `acc_full` with the accumulators.
        plan = lowered_by_marks(kernel, lambda marked: verify_lowered(spread(_launches(marked, target, plans))))
        return check_tiles(plan)
    except SizeError as problem:
        raise too_large(kernel, problem) from problem


def _launches(kernel: Kernel, target: str, plans: int) -> LoweredKernel:
    """The kernel in one launch; in two where its scales are for more than tiles see, or its tiles are too narrow."""
    blocks = applicable(kernel, Sizes.of(kernel.dims), target)
    check_sums(kernel, (block for _, block in blocks if block is not None))
    kernel = kernel if multiplies(kernel) else unroll(kernel)
    parts = split(kernel)
    if parts is None:
        try:
            return _planned(kernel, target, plans, preparing=True)
        except TooNarrow as narrow:
            parts = split_wide(kernel, narrow.n_axis, narrow.columns)
            if parts is None:
                raise
    if any(store.at is not None for store in kernel.stores):
        raise DiagnosticError([_scattered_apart(kernel)])
    # The second launch is one kernel, whatever the plan of the first.
    return join(kernel, parts, _planned(parts.first, target, plans), _planned(parts.second, target, 1))


def _scattered_apart(kernel: Kernel) -> Diagnostic:
    store = next(store for store in kernel.stores if store.at is not None)
    return error("FP4058", f"rows of `{store.arg}` cannot be stored by number beside an output that takes two launches",
                 store.span, "stored here", help="write one kernel for each of them")  # fmt: skip


def _planned(kernel: Kernel, target: str, plans: int, *, preparing: bool = False) -> LoweredKernel:
    """A kernel that is one launch, or two where rows by number are copied first.

    `preparing`: with plans for an argument that is prepared, where no schedule block decides.
    """
    parts = copied_rows(kernel) if target == SM90A.name else None
    if parts is None:
        return _by_engines(kernel, target, plans, preparing=preparing)
    first = _planned(parts.first, target, 1)
    plan = _by_engines(parts.second, target, plans, converts=False)
    each = [precede(kernel, parts, first, replace(one, variants=())) for one in (*plan.variants, plan)]
    reason = f"TMA would bring them one by one, as a box each; {parts.first.name} leaves them in the workspace"
    decision = Decision("rows by number", "copied once a call", reason)
    each = [replace(one, decisions=(*one.decisions, decision)) for one in each]
    return replace(each[-1], variants=tuple(each[:-1]))


def _by_engines(
    kernel: Kernel, target: str, plans: int, *, converts: bool = True, preparing: bool = False
) -> LoweredKernel:
    """A launch as its engine plans it: the plan that always applies, with those of other schedules as variants.

    `converts`: there may be a launch before that converts an operand. `preparing`: see `_planned`.
    """
    blocks, kernel = applicable(kernel, Sizes.of(kernel.dims), target), without(kernel)
    forms = Forms.of(kernel, target) if converts else Forms.alone(kernel, target)
    overlaps: list[Overlap] = [asked(block) for _, block in blocks]
    wanted: list[Wanted] = []
    for when, block in blocks:
        written = rest(block)
        form, schedule = forms.of_block(written)
        engine = ENGINES.of(form.kernel, target, Bounds.of(form.kernel, when), schedule)
        wanted.append(_turned(forms, target, Wanted(form, engine, Case(when, schedule), written)))
    prepared: tuple[LoweredKernel, ...] = ()
    if wanted[-1].case.schedule is None:
        wanted[-1:], chosen = _by_size(forms, target, plans, wanted[-1])
        overlaps += overlaps[-1:] * (len(wanted) - len(overlaps))
        if preparing and len(wanted) == len(chosen):
            prepared = prepared_plans(kernel, target, chosen)
    made = _each_by_its_engine(kernel, target, wanted)
    made = [_moved(plan, one, target) for plan, one in zip(made, wanted, strict=True)]
    *variants, plan = map(overlapped, made, overlaps)
    return replace(plan, variants=tuple(variants), prepared=prepared)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A plan that is wanted of an engine, for a form of the kernel; `written`: the block that asks for it."""

    form: Form
    engine: EngineSpec
    case: Case
    written: Schedule | None = None


def _moved(plan: LoweredKernel, wanted: Wanted, target: str) -> LoweredKernel:
    """The plan, which says so where its block's way to store has another engine multiply than there would be."""
    block = wanted.case.schedule
    fields = [] if block is None else [field for field in ("store", "reduce") if field in block.fields]
    if block is None or not fields:
        return plan
    kernel, rest_of = wanted.form.kernel, {name: v for name, v in block.fields.items() if name not in fields}
    usual = ENGINES.of(kernel, target, Bounds.of(kernel, wanted.case.when), replace(block, fields=rest_of))
    if usual is wanted.engine:
        return plan
    what = " and ".join(f"`{field} {block.fields[field][0]}`" for field in fields)
    why = f"{what} cannot be had of {usual.name}, which would multiply otherwise, and is often faster"
    decision = Decision("engine", wanted.engine.name, why, (usual.name,), "schedule")
    return replace(plan, decisions=(*plan.decisions, decision))


def _turned(forms: Forms, target: str, wanted: Wanted) -> Wanted:
    """The same with the converted operand's columns in the order that an engine may want, where it takes that."""
    other, case = forms.turned, wanted.case
    if other is None or wanted.form is not forms.once:
        return wanted
    engine = ENGINES.of(other.kernel, target, Bounds.of(other.kernel, case.when), case.schedule)
    return replace(wanted, form=other, engine=engine) if _offered(engine, other.kernel, target) else wanted


def _by_size(forms: Forms, target: str, plans: int, plain: Wanted) -> tuple[list[Wanted], list[Candidate]]:
    """The compiler's own plans, and their candidates: those of the table over sizes, where engines have a model.

    `plain`: without one.
    """
    kernel = plain.form.kernel
    open_ = any(dim.value is None and dim.expr is None for dim in kernel.dims)
    if plans == 1 and open_:
        return [plain], []
    others = [other for other in ENGINES.known if other is not plain.engine]
    offers = [(plain.form, other, candidate) for other in others for candidate in _offered(other, kernel, target)]
    for form in (each for each in (forms.turned, forms.once) if each is not None):
        found = [(other, each) for other in ENGINES.known for each in _offered(other, form.kernel, target)]
        offers += [(form, other, _later(candidate, form.clocks)) for other, candidate in found]
        if found:
            break
    if not (open_ or offers):
        return [plain], []
    own = plain.engine.candidates(kernel, target)
    if not own:
        return [plain], []
    offers = [*((plain.form, plain.engine, candidate) for candidate in own), *offers]
    chosen = table(kernel, CHIPS[target], [candidate for *_, candidate in offers], plans)
    # Of sizes that are all known an engine makes the best plan itself.
    wanted = [Wanted(*offers[each.number][:2], each.case if open_ else plain.case) for each in chosen]
    return wanted, [offers[each.number][2] for each in chosen]


def _later(candidate: Candidate, clocks: Expr) -> Candidate:
    """A candidate with so many clocks before it."""
    plain = None if candidate.plain is None else _later(candidate.plain, clocks)
    return replace(candidate, clocks=fold("add", candidate.clocks, clocks), plain=plain)


def _offered(engine: EngineSpec, kernel: Kernel, target: str) -> list[Candidate]:
    """The candidates of an engine beside the one that takes the kernel: none where it refuses what that one builds."""
    try:
        return engine.candidates(kernel, target)
    except (DiagnosticError, TooNarrow):
        return []


def _each_by_its_engine(kernel: Kernel, target: str, wanted: Sequence[Wanted]) -> list[LoweredKernel]:
    """A plan for each case: an engine gets all of its cases at once, for it does much of its work once."""
    plans: dict[int, LoweredKernel] = {}
    forms = {id(each.form): each.form for each in wanted}
    first = {key: None if form.parts is None else _planned(form.parts.first, target, 1) for key, form in forms.items()}
    for form in forms.values():
        for engine in dict.fromkeys(each.engine for each in wanted if each.form is form):
            own = [i for i, one in enumerate(wanted) if one.engine is engine and one.form is form]
            found = engine.plan(form.kernel, target, [wanted[i].case for i in own])
            plans.update(zip(own, found, strict=True))
    return [each.form.plan(kernel, plans[i], each.written, first[id(each.form)]) for i, each in enumerate(wanted)]
