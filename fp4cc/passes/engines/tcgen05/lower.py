"""Lowering products to tcgen05: operands by TMA and converter warps, accumulators in tensor memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.kernel import Kernel, Schedule
from fp4cc.ir.lowered import (
    Cluster,
    Decision,
    KernelParam,
    Launch,
    LoweredKernel,
    Size,
    SmemBuffer,
    Tcgen05,
    Tile,
    WarpRole,
)
from fp4cc.ir.lowered.split import Split
from fp4cc.ir.lowered_converters import Converters
from fp4cc.ir.sizes import ceildiv, mul
from fp4cc.passes.choice.cases import Bounds, Candidate, Case, Fields
from fp4cc.passes.choice.estimate import Option, clocks_by_parts
from fp4cc.passes.choice.schedule import ORDERS, assumed_shape, label, possible, problem_sizes, read
from fp4cc.passes.choice.split import in_parts, split_blocks
from fp4cc.passes.choice.stages import choose_stages, fewer_stages
from fp4cc.passes.engines.tcgen05.choosing import (
    SWAPPED_ROWS,
    choices,
    explain_operands,
    make_offer,
    plain_work,
    refuse_promoted_swap,
    swapped_work,
)
from fp4cc.passes.engines.tcgen05.decisions import explain_choices
from fp4cc.passes.engines.tcgen05.legality import tile_k
from fp4cc.passes.engines.tcgen05.mainloops import most_columns
from fp4cc.passes.engines.tcgen05.memory import fitting_stages, plan_smem
from fp4cc.passes.engines.tcgen05.pipeline import EPILOGUE_WARPS, acc_ring_stages, plan_pipeline
from fp4cc.passes.engines.tcgen05.promoted import (
    EXCHANGE,
    promoted_barriers,
    promoted_buffers,
    promoted_decisions,
    promoted_work,
)
from fp4cc.passes.engines.tcgen05.tensor_maps import mainloop_maps
from fp4cc.passes.engines.tcgen05.work import Choice, Offer, Picked, Work
from fp4cc.passes.epilogue.adding import adds_atomically
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.feeds.converters import plan_conversions, plan_converters
from fp4cc.passes.feeds.promoted_scales import is_promoted
from fp4cc.passes.feeds.scale_reading import Needs
from fp4cc.passes.feeds.steps import Steps
from fp4cc.passes.problem.emptiness import not_empty
from fp4cc.passes.problem.groups import check_groups
from fp4cc.passes.problem.unzip import released
from fp4cc.passes.resources.params import group_params, plan_params, product_sizes
from fp4cc.passes.resources.residency import bounded, explain_residency
from fp4cc.passes.resources.split import (
    over_parts,
    plan_split,
    split_barriers,
    split_sizes,
    split_words,
    with_parts,
)
from fp4cc.passes.resources.walk import plan_walk
from fp4cc.passes.rewrites.swap import can_swap
from fp4cc.targets import Target
from fp4rt.manifest import TensorMap

#: What a dynamic dim counts as when candidates are listed: any tile may be filled.
_LARGE = 1 << 20


def lower_tcgen05(kernel: Kernel, target: Target, cases: Sequence[Case]) -> list[LoweredKernel]:
    """A plan for each case. Raises DiagnosticError for what cannot be built."""
    check_groups(kernel)
    picks = [case.pick for case in cases if isinstance(case.pick, Picked) and not case.pick.work.swapped]
    if is_promoted(kernel):
        for case in cases:
            refuse_promoted_swap(case.schedule)
        work = promoted_work(kernel, target)
    else:
        work = picks[0].work if picks else plain_work(kernel, target)
    return [_lower_with(work, target, case) for case in cases]


def tcgen05_candidates(kernel: Kernel, target: Target) -> list[Candidate]:
    """Every tile and cluster that the kernel could have, with what each costs. Raises what `lower_tcgen05` does."""
    if is_promoted(kernel):  # one plan for every size
        return []
    check_groups(kernel)
    work = plain_work(kernel, target)
    return [*_candidates_of(work, target, None), *_swapped_candidates(work, target)]


def tcgen05_blocks(kernel: Kernel, target: Target) -> list[Fields]:
    """Blocks for every tile and cluster there is, with the operands as they are written and swapped."""
    if is_promoted(kernel):
        return []
    found: list[Fields] = []
    works = [plain_work(kernel, target), *([swapped_work(kernel, target, None)] if can_swap(kernel) else [])]
    for work in works:
        offer, options = _offered(work, target)
        swap: Fields = {"swap_ab": (True,)} if work.swapped else {}
        for option in options:
            tile = (target.cta_rows * option.cta_group, option.tile_n, offer.traffic.tile_k)
            fields: Fields = {"tile": tile, "cluster": (option.cluster_m, option.cluster_n), **swap}
            few = option.ctas <= option.cta_group and len(work.shared) == 1
            found += [{**fields, **parts} for parts in (split_blocks() if few else [{}])]
    return found


def tcgen05_variations(plan: LoweredKernel) -> list[Fields]:
    """The order of tiles, which changes what L2 holds, and accumulators and stages, which change what overlaps."""
    return [*ORDERS, *({"accumulators": (count,)} for count in (1, 2)), *fewer_stages(plan)]


def _offered(work: Work, target: Target) -> tuple[Offer, list[Option]]:
    """Every tile and cluster that any number of rows could fill."""
    request = read(None, tile_k(work.shared[0].pair, target), target)
    shape, _ = assumed_shape(work.problem, None, assumed=_LARGE)
    offer = make_offer(work, target, request, shape)
    return offer, possible(request, shape, offer.target)


def _candidates_of(work: Work, target: Target, rows: int | None) -> list[Candidate]:
    """The candidates of a work; `rows`: of swapped operands, the rows of x for which they are."""
    problem, sizes = work.problem, problem_sizes(work.problem)
    offer, options = _offered(work, target)
    swapped = "swapped, " if work.swapped else ""
    if rows is not None:
        options = [option for option in options if option.tile_n == rows and option.cluster_n == 1]
    within = None if rows is None else ("le", problem.n, rows)
    found: list[Candidate] = []
    for option in options:
        name = f"{swapped}{label(option, offer.traffic.tile_k)}"
        time = clocks_by_parts(option, sizes, offer.traffic, target)
        plain = Candidate(name, time(1), Picked(work, option, offer), within)
        one_way = len(work.shared) == 1 and problem.groups is None and problem.contracted is None
        found.append(in_parts(plain, time, Picked(work, option, offer, "auto")) if one_way else plain)
    return found


def _swapped_candidates(work: Work, target: Target) -> list[Candidate]:
    """Those with weights as A: a tile holds all rows of x, so no scale atom of theirs is cut."""
    if not can_swap(work.kernel) or Bounds.of(work.kernel).least(work.problem.m) > SWAPPED_ROWS:
        return []
    try:
        turned = swapped_work(work.kernel, target, ("le", work.problem.m, SWAPPED_ROWS))
        return _candidates_of(turned, target, SWAPPED_ROWS)
    except DiagnosticError:  # what the epilogue does takes more columns than such tiles have
        return []


def _conversions(work: Work, steps: Sequence[Steps]) -> tuple[list[Steps], Needs]:
    """The mainloops with what converter warps bring of each."""
    most = most_columns(work.problem, work.frame.kernel)
    return plan_conversions(work.parts, work.problem, steps, work.sizes, work.required, most)


def _lower_with(work: Work, target: Target, case: Case) -> LoweredKernel:
    """The plan of the best choice that can be built. Raises DiagnosticError with what is wrong with the best of all."""
    refused: list[DiagnosticError] = []
    for own, choice in choices(work, target, case):
        try:
            return _lowered(own, choice, target, case)
        except DiagnosticError as failed:
            refused.append(failed)
    raise refused[0]


def _lowered(work: Work, choice: Choice, target: Target, case: Case) -> LoweredKernel:
    promotion, problem, sizes, memory = work.promotion, work.problem, work.sizes, choice.memory
    promoted = promotion is not None
    mmas, tmem = tuple(step.mmas for step in memory.steps), memory.tmem
    tile = Tile(mmas[0][0].m, mmas[0][0].n, memory.steps[0].tile_k, target.cta_rows)
    if work.frame.group is not None:
        tmem = released(tmem, tile.n, work.frame.group)
    cluster = Cluster(choice.option.cluster_m, choice.option.cluster_n)
    epilogue = plan_epilogue(work.frame, sizes, tile.n, schedule=case.schedule)
    split = _split(work, choice, tile, case.schedule)
    staging = (*promoted_buffers(promotion), *split_words(split), *epilogue.staging)
    ring = acc_ring_stages(tmem, tile.n)
    stages = _stages(work, choice, ring, staging, target)
    steps, needs = memory.steps, work.needs
    if needs is None:
        steps, needs = _conversions(work, steps)
    converters = plan_converters(steps, stages)
    done = "of a step's MMAs" if promoted else "after a tile's last MMA"
    pipeline, mainloops = plan_pipeline(steps, converters, cluster, memory.stage, stages, tmem, tile.n, done)
    walk = plan_walk(problem, tile, cluster, choice.request.band)
    program, split_params = with_parts(epilogue.program, mul(walk.tiles, cluster.size), split)
    walk = over_parts(walk, split)
    maps, groups = (*mainloop_maps(problem, mainloops, mmas, tile), *epilogue.tensor_maps), group_params(walk, problem)
    lengths = [*product_sizes(problem, walk, program, mainloops), *split_sizes(split)]
    roles = _roles(converters, promoted)
    threads = 32 * sum(role.warps for role in roles)
    lowered = LoweredKernel(
        name=work.kernel.name,
        target=target.name,
        kernel=work.kernel,
        schedule=case.schedule,
        problem=problem,
        mainloops=mainloops,
        engine=Tcgen05(mmas, tmem),
        promotion=promotion,
        tile=tile,
        cluster=cluster,
        walk=walk,
        roles=roles,
        named_barriers=(*epilogue.barriers, *promoted_barriers(promotion), *split_barriers(split, "epilogue")),
        smem=bounded(plan_smem(memory.stage, stages, ring, staging, target), tmem.columns, threads, target),
        pipeline=pipeline,
        converters=converters,
        exchange=EXCHANGE if promoted else None,
        tensor_maps=maps,
        epilogue=program,
        launch=Launch(
            f"{work.kernel.name}_0",
            threads,
            _params(maps, lengths, needs, (*groups, *epilogue.params, *split_params), promoted=promoted),
            (*lengths, *needs.lengths()),
        ),
        constraints=(*work.required, *not_empty(work.parts, epilogue.program, sizes)),
        decisions=(),
        when=case.when,
        clocks=choice.clocks,
        split=split,
    )
    return replace(lowered, decisions=_decisions(lowered, choice, target, swapped=work.swapped))


def _split(work: Work, choice: Choice, tile: Tile, schedule: Schedule | None) -> Split | None:
    """How K is shared by clusters; a thread has the sums of a row in all accumulators."""
    k_tiles = ceildiv(work.problem.products[0].k, tile.k)
    sums = len(work.problem.accumulators) * tile.n
    adds = adds_atomically(schedule)
    return plan_split(choice.parts, k_tiles, 32 * EPILOGUE_WARPS, sums, filled=True, adds=adds)


def _params(
    maps: Sequence[TensorMap], lengths: Sequence[Size], needs: Needs, others: Sequence[KernelParam], *, promoted: bool
) -> tuple[KernelParam, ...]:
    if promoted:
        return plan_params(maps, lengths, (*others, *needs.params()))
    return plan_params(maps, (*lengths, *needs.lengths()), (*needs.addresses(), *others))


def _decisions(lowered: LoweredKernel, choice: Choice, target: Target, *, swapped: bool) -> tuple[Decision, ...]:
    if lowered.promotion is None:
        found = explain_choices(lowered, choice.request, choice.ranked, choice.assumed, target)
        return (found[0], *explain_operands(lowered, choice.request, swapped=swapped), *found[1:])
    columns = lowered.engine_as(Tcgen05).tmem.columns
    return (*promoted_decisions(lowered), *explain_residency(lowered.smem, columns, target))


def _roles(converters: Converters | None, promoted: bool) -> tuple[WarpRole, ...]:
    """The warps of a CTA: each of the first reads its quarter of the tensor memory lanes."""
    what = "that promote partial sums and run the epilogue" if promoted else "for the epilogue"
    epilogue = WarpRole("epilogue", 0, EPILOGUE_WARPS, what)
    load = WarpRole("load", EPILOGUE_WARPS, 1, "for TMA")
    mma = WarpRole("mma", EPILOGUE_WARPS + 1, 1, "for the MMA")
    if converters is None:
        return (epilogue, load, mma)
    teams = f", in {converters.teams} teams" if converters.members > 1 else ""
    return (epilogue, load, mma, WarpRole("convert", mma.first + 1, converters.warps, f"that convert{teams}"))


def _stages(work: Work, choice: Choice, ring: int, staging: Sequence[SmemBuffer], target: Target) -> int:
    stage = choice.memory.stage
    return choose_stages(
        work.kernel,
        choice.request.schedule,
        lambda most: fitting_stages(stage, ring, staging, most, target),
        target.stages_max,
        taken=f"a stage takes {stage.total} bytes, the epilogue's buffers {sum(b.total for b in staging)}, "
        f"and there are {target.smem_bytes}",
        otherwise="use a smaller tile" if work.promotion is None else "store fewer outputs",
    )
