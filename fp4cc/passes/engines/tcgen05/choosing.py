"""Which operand is the instruction's A, and which tile and cluster there are then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Expr, Kernel, Schedule
from fp4cc.ir.lowered import Decision, LoweredKernel, Problem
from fp4cc.ir.lowered.split import PARTS
from fp4cc.ir.sizes import Sizes, free_names
from fp4cc.passes.choice.cases import Bounds, Case
from fp4cc.passes.choice.estimate import Shape, clocks_by_parts, estimate
from fp4cc.passes.choice.refused import ALONE, alone
from fp4cc.passes.choice.schedule import Ranked, Request, assumed_shape, problem_sizes, rank, read
from fp4cc.passes.choice.split import Parts, least_clocks, parts_asked, parts_of, split_refusals
from fp4cc.passes.engines.tcgen05.legality import tile_k
from fp4cc.passes.engines.tcgen05.mainloops import Fit, constraints, group_products
from fp4cc.passes.engines.tcgen05.promoted import promoted_choice
from fp4cc.passes.engines.tcgen05.traffic import global_bytes, plan_traffic
from fp4cc.passes.engines.tcgen05.work import Choice, Offer, Picked, Work
from fp4cc.passes.problem.unzip import find_products
from fp4cc.passes.problem.whole_loads import rows_across
from fp4cc.passes.rewrites.row_scales import split_row_scales
from fp4cc.passes.rewrites.swap import can_swap, swap_operands, where
from fp4cc.source import Span
from fp4cc.targets import Target

#: Beside accumulators tensor memory holds scales: at least as many columns as tiles are multiples of.
SCALE_COLUMNS = 64
#: The rows of x up to which the compiler offers tiles with swapped operands, which hold all of them. A tile of 64 rows
#: of x by 128 of weights takes what one of 128 by 64 does, so swapping gains nothing there in the model.
SWAPPED_ROWS = 32
#: Rows of a tile that one CTA makes.
_ROWS = 128
#: By how much swapped operands have to be faster: the model does not know differences that are smaller.
_GAIN = 1.02


def plain_work(kernel: Kernel, target: Target) -> Work:
    """What is decided before the schedule, with the operands as they are written."""
    return _work(kernel, kernel, target, swapped=False)


def swapped_work(kernel: Kernel, target: Target, when: Expr | None, asked: Span | None = None) -> Work:
    """The same with swapped operands, for calls that fulfil `when`. Raises DiagnosticError where it cannot be."""
    turned = swap_operands(kernel, asked)
    return _work(turned, where(turned, when), target, swapped=True)


def _work(kernel: Kernel, known: Kernel, target: Target, *, swapped: bool) -> Work:
    sizes, parts = Sizes.of(kernel.dims), split_row_scales(known)
    problem, frame = find_products(parts, sizes, target.tmem_columns - SCALE_COLUMNS)
    shared = group_products(parts, problem, target)
    required = (*constraints(parts, shared), *rows_across(parts, problem))
    return Work(kernel, parts, sizes, problem, frame, shared, required, swapped=swapped)


def make_offer(work: Work, target: Target, request: Request, shape: Shape) -> Offer:
    """What tiles need, and which there can be. Raises DiagnosticError where there is none, or not the one asked for."""
    problem, shared = work.problem, work.shared
    fit = Fit(problem, shared, target)
    traffic = plan_traffic(work.parts, problem, shared, fit, target, shape, work.sizes, work.required)
    widths = fit.widths(work.frame, work.sizes, request)
    if problem.contracted is None:
        return Offer(fit, traffic, replace(target, tile_n=widths))
    return Offer(fit, traffic, replace(target, tile_n=_alone(request, widths), cluster_shapes=((1, 1),)))


def _alone(request: Request, widths: tuple[int, ...]) -> tuple[int, ...]:
    """The tile widths where a CTA clears what its own stages hold past a group, in runs of 64 rows of an operand.

    Raises DiagnosticError for a pair of CTAs, a cluster, and other widths.
    """
    schedule = request.schedule
    errors = [] if schedule is None else alone(schedule)
    if schedule is not None and request.tile is not None and (request.tile[0] != _ROWS or request.tile[1] % 64):
        errors.append(
            error("FP5010", "a product over rows in groups has tiles of 128 rows and of whole runs of 64 columns",
                  schedule.field_spans["tile"], "another tile", notes=[ALONE], help="write `tile 128 x 128 x 64`"),
        )  # fmt: skip
    if errors:
        raise DiagnosticError(errors)
    return tuple(n for n in widths if n % 64 == 0)


def choices(plain: Work, target: Target, case: Case) -> list[tuple[Work, Choice]]:
    """The operands, the tile and the cluster: those asked for, those of the table, or those of the best estimate.

    Where operands may be swapped or not, both ways, the better one first: what else a block asks may refuse one.
    """
    if plain.promotion is not None:
        refuse_split(plain, case.schedule)
        return [(plain, promoted_choice(plain, case.schedule, target))]
    request = read(case.schedule, tile_k(plain.shared[0].pair, target), target)
    if isinstance(case.pick, Picked):  # what else there was is in the table
        work, offer, option, asked = case.pick.work, case.pick.offer, case.pick.option, case.pick.parts
        shape, _ = assumed_shape(work.problem, case.when, case.at)
        traffic = replace(offer.traffic, global_bytes=global_bytes(work.parts, work.shared, shape))
        ranked = [Ranked(option, estimate(option, shape, traffic, target))]
        return [(work, _chosen(work, target, case, request, offer, ranked, asked))]
    found: list[tuple[Work, Choice]] = []
    refused: list[DiagnosticError] = []
    at = None if case.schedule is None else case.schedule.field_spans.get("swap_ab")
    for swapped in _orders(plain, case, request):
        try:
            work = swapped_work(plain.kernel, target, case.when, at) if swapped else plain
            refuse_split(work, case.schedule)
            shape, _ = assumed_shape(work.problem, case.when, case.at)
            offer, asked = make_offer(work, target, request, shape), _parts(work, case)
            ranked = rank(request, shape, offer.traffic, offer.target, PARTS if asked == "auto" else (asked,))
            found.append((work, _chosen(work, target, case, request, offer, ranked, asked)))
        except DiagnosticError as failed:
            refused.append(failed)
    if not found:
        raise refused[0]
    return sorted(found, key=lambda each: each[1].ranked[0].estimate.clocks * (_GAIN if each[0].swapped else 1.0))


def _orders(plain: Work, case: Case, request: Request) -> tuple[bool, ...]:
    """Whether operands may be swapped, for each way to choose from."""
    if request.swap is True:
        return (True,)
    few = Bounds.of(plain.kernel, case.when).most(plain.problem.m)
    wanted = request.swap is None or (case.schedule is None and few is not None and few <= SWAPPED_ROWS)
    return (False, True) if wanted and can_swap(plain.kernel) else (False,)


def _parts(work: Work, case: Case) -> Parts:
    """The parts of K that are asked for; where nothing is, and the sizes are known, those that take the least time."""
    problem = work.problem
    splittable = problem.groups is None and problem.contracted is None and len(work.shared) == 1
    return parts_asked(case, problem_sizes(problem).values(), splittable=splittable)


def _known(problem: Problem) -> bool:
    """Whether all sizes of a problem are known."""
    return not any(map(free_names, problem_sizes(problem).values()))


def _chosen(
    work: Work, target: Target, case: Case, request: Request, offer: Offer, ranked: list[Ranked], asked: Parts
) -> Choice:
    option = ranked[0].option
    memory = offer.fit.memory(option.cta_group, option.tile_n, request.accumulators)
    if memory is None:
        raise RuntimeError(f"a tile of {option.tile_n} columns was chosen and does not fit")
    _, assumed = assumed_shape(work.problem, case.when, case.at)
    if asked == "auto" and _known(work.problem):
        asked = option.parts
    time = clocks_by_parts(option, problem_sizes(work.problem), offer.traffic, target)
    return Choice(request, option, memory, ranked, assumed, least_clocks(asked, time), parts_of(asked, time))


def refuse_split(work: Work, schedule: Schedule | None) -> None:
    """Raise DiagnosticError where K cannot be split as a block asks: swapped, weights are the left operands."""
    errors = [] if schedule is None else split_refusals(schedule, work.problem, len(work.shared))
    if work.swapped and len(work.shared) > 1:
        note = "with swapped operands these are the weights; as they are written there may be one"
        errors = [replace(each, notes=(*each.notes, note)) for each in errors]
    if errors:
        raise DiagnosticError(errors)


def refuse_promoted_swap(schedule: Schedule | None) -> None:
    """FP8 with f32 scales along K: the epilogue warps keep 128 sums of a row of x in registers."""
    if schedule is None or schedule.fields.get("swap_ab", (False,))[0] is not True:
        return
    raise DiagnosticError([
        error("FP4060", "the operands of FP8 products with f32 scales along K cannot be swapped",
              schedule.field_spans["swap_ab"], "asked for here",
              notes=["their partial sums are scaled in registers, 128 columns of a row at a time, with a scale of x "
                     "for each row and one of w for 128 rows"],
              help="write `swap_ab no`, or leave it out"),
    ])  # fmt: skip


def explain_operands(lowered: LoweredKernel, request: Request, *, swapped: bool) -> Iterator[Decision]:
    """Which operand is A, where that is not as it is written or was to be chosen."""
    problem, by = lowered.products, "schedule" if request.swap is True else "compiler"
    if swapped:
        few = "an instruction has 128 lanes for weights, and as few columns as there are rows"
        why = "asked for by `swap_ab yes`" if request.swap else f"faster in the model: {few}"
        chosen = f"swapped: {problem.m_axis} along the lanes, {problem.n_axis} along the columns of a tile"
        yield Decision("operands", chosen, why, ("as written: tiles of 128 rows of the left operand",), by)
    elif request.swap is None:
        why = "swapping them is no faster in the model"
        yield Decision("operands", "as written", why, ("swapped: tiles of 128 rows of the right operand",))
