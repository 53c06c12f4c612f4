"""Lowering: a typed kernel and a target in, every number decided out.

The steps, each of which is a function of its own:

    limits      sizes that no kernel can count are refused          problem.limits
    marks       names of the user give way to marks                 rewrites.symbols
    launches    one or two typed kernels, each lowered by itself    rewrites.split, rewrites.wide, rewrites.launches
    plan        what multiplies plans a launch                      engines.registry
    verify      parts and whole hold together                       fp4cc.ir.verify_lowered
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.sizes import Sizes
from fp4cc.ir.verify_lowered import verify_lowered
from fp4cc.passes.choice.cases import Bounds, Candidate, Case
from fp4cc.passes.choice.schedule import applicable
from fp4cc.passes.choice.table import table
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.passes.engines.spec import EngineSpec
from fp4cc.passes.epilogue.blocks import TooNarrow
from fp4cc.passes.problem.limits import check_limits, check_tiles, too_large
from fp4cc.passes.rewrites.launches import join
from fp4cc.passes.rewrites.split import split
from fp4cc.passes.rewrites.symbols import lowered_by_marks
from fp4cc.passes.rewrites.wide import split_wide
from fp4cc.targets import CHIPS, NAMES, target_help
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
        plan = lowered_by_marks(kernel, lambda marked: verify_lowered(_launches(marked, target, plans)))
        return check_tiles(plan)
    except SizeError as problem:
        raise too_large(kernel, problem) from problem


def _launches(kernel: Kernel, target: str, plans: int) -> LoweredKernel:
    """The kernel in one launch; in two where its scales are for more than tiles see, or its tiles are too narrow."""
    parts = split(kernel)
    if parts is None:
        try:
            return _planned(kernel, target, plans)
        except TooNarrow as narrow:
            parts = split_wide(kernel, narrow.n_axis, narrow.columns)
            if parts is None:
                raise
    # The second launch is one kernel, whatever the plan of the first.
    return join(kernel, parts, _planned(parts.first, target, plans), _planned(parts.second, target, 1))


def _planned(kernel: Kernel, target: str, plans: int) -> LoweredKernel:
    """A launch as its engine plans it: the plan that always applies, with those of other schedules as variants."""
    written = [Case(when, schedule) for when, schedule in applicable(kernel, Sizes.of(kernel.dims), target)]
    wanted = [(ENGINES.of(kernel, target, Bounds.of(kernel, case.when), case.schedule), case) for case in written]
    if written[-1].schedule is None:
        wanted[-1:] = _by_size(kernel, target, plans, *wanted[-1])
    *variants, plan = _each_by_its_engine(kernel, target, wanted)
    return replace(plan, variants=tuple(variants))


def _by_size(kernel: Kernel, target: str, plans: int, engine: EngineSpec, case: Case) -> list[tuple[EngineSpec, Case]]:
    """The compiler's own plans, with their engines: those of the table over sizes, where engines have a model."""
    open_ = any(dim.value is None and dim.expr is None for dim in kernel.dims)
    if plans == 1 and open_:
        return [(engine, case)]
    others = [other for other in ENGINES.known if other is not engine]
    offers = [(other, candidate) for other in others for candidate in _offered(other, kernel, target)]
    if not (open_ or offers):
        return [(engine, case)]
    own = engine.candidates(kernel, target)
    if not own:
        return [(engine, case)]
    offers = [*((engine, candidate) for candidate in own), *offers]
    chosen = table(kernel, CHIPS[target], [candidate for _, candidate in offers], plans)
    found = [(offers[each.number][0], each.case) for each in chosen]
    # Of sizes that are all known an engine makes the best plan itself.
    return found if open_ else [(other, case) for other, _ in found]


def _offered(engine: EngineSpec, kernel: Kernel, target: str) -> list[Candidate]:
    """The candidates of an engine beside the one that takes the kernel: none where it refuses what that one builds."""
    try:
        return engine.candidates(kernel, target)
    except DiagnosticError:
        return []


def _each_by_its_engine(kernel: Kernel, target: str, wanted: Sequence[tuple[EngineSpec, Case]]) -> list[LoweredKernel]:
    """A plan for each case: an engine gets all of its cases at once, for it does much of its work once."""
    plans: dict[int, LoweredKernel] = {}
    for engine in dict.fromkeys(engine for engine, _ in wanted):
        own = [i for i, (other, _) in enumerate(wanted) if other is engine]
        plans.update(zip(own, engine.plan(kernel, target, [wanted[i][1] for i in own]), strict=True))
    return [plans[i] for i in range(len(wanted))]
