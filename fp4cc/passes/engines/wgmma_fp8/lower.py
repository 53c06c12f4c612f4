"""Lowering products of FP8 to Hopper as they are: TMA brings operands, two warpgroups multiply and add in f32.

The tensor core keeps few bits of a sum (docs/numerics.md), so what it makes of 128 along K is added to sums in f32. One
warpgroup does that while the other's product runs. Sums of a tile cross shared memory to a warpgroup that runs the
epilogue under the next tile's mainloop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.kernel import Constraint, Expr, Kernel
from fp4cc.ir.lowered import (
    FP8_TILE_K,
    Cluster,
    Launch,
    LoweredKernel,
    NamedBarrier,
    Tile,
    WarpRole,
    WgmmaFp8,
)
from fp4cc.ir.lowered.wgmma_rs import MMA_WARPS, WARPGROUP_WARPS
from fp4cc.ir.lowered_epilogue import CTA_ROWS
from fp4cc.ir.sizes import Sizes, ceildiv, mul
from fp4cc.passes.choice.cases import Bounds, Candidate, Case, Fields
from fp4cc.passes.choice.schedule import ORDERS, asked_band, assumed_shape, problem_sizes
from fp4cc.passes.choice.split import Parts, Picked, in_parts, least_clocks, parts_asked, parts_of, split_blocks
from fp4cc.passes.choice.stages import choose_stages, fewer_stages
from fp4cc.passes.engines.wgmma_fp8.decisions import explain_choices
from fp4cc.passes.engines.wgmma_fp8.memory import (
    exchange,
    factors_buffer,
    fitting,
    plan_mainloop,
    plan_pipeline,
    plan_smem,
    staging_limit,
)
from fp4cc.passes.engines.wgmma_fp8.shape import STEP_CLOCKS, Shape, asked_wrongly, clocks, possible
from fp4cc.passes.epilogue.adding import adds_atomically
from fp4cc.passes.epilogue.blocks import whole_panels
from fp4cc.passes.epilogue.memory import STAGING_LIMIT
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.feeds.fp8 import Fp8Work, fp8_work
from fp4cc.passes.problem.emptiness import not_empty
from fp4cc.passes.problem.groups import check_groups
from fp4cc.passes.problem.unzip import tile_widths
from fp4cc.passes.problem.whole_loads import whole_loads
from fp4cc.passes.resources.params import group_params, plan_params, product_sizes
from fp4cc.passes.resources.split import over_parts, plan_split, split_barriers, split_sizes, split_words, with_parts
from fp4cc.passes.resources.walk import plan_walk
from fp4cc.targets.sm90 import SM90A
from fp4rt.sizes import evaluate

_WARP = 32
#: Registers of a thread, by the warpgroups in their order: together what four warpgroups start with.
REGISTERS = (("epilogue", 104), ("mma", 192), ("mma", 192), ("load", 24))
#: Where the multiplying warpgroups take turns: each waits at its own for the other's arrival.
ORDER_BARRIERS = (
    NamedBarrier("ORDER_BARRIER", 6, "mma", "where the first multiplying warpgroup waits for its turn"),
    NamedBarrier("ORDER_BARRIER_2", 7, "mma", "and the second"),
)
_ROLES = (
    WarpRole("epilogue", 0, WARPGROUP_WARPS, "that run the epilogue"),
    WarpRole("mma", WARPGROUP_WARPS, MMA_WARPS, "that multiply and add in f32"),
    WarpRole("load", WARPGROUP_WARPS + MMA_WARPS, WARPGROUP_WARPS, "of which one is for TMA"),
)


@dataclass(frozen=True, slots=True)
class _Work:
    """A product, and the tiles that it may have."""

    fast: Fp8Work
    sizes: Sizes
    shapes: list[Shape]

    def clocks(self, shape: Shape, parts: int = 1) -> Expr:
        """The time with one of the tiles and K in so many parts, but for DRAM."""
        return clocks(self.fast.problem, shape, parts)


def takes_fp8(kernel: Kernel, target: str, bounds: Bounds) -> bool:
    """Whether its product is for this engine."""
    del bounds
    return target == SM90A.name and _work_if_any(kernel) is not None


def wgmma_fp8_candidates(kernel: Kernel, target: str) -> list[Candidate]:
    """A plan for each tile of a CTA by itself, which is never slower; those of few rows serve no more."""
    work = _work_if_any(kernel) if target == SM90A.name else None
    if work is None:
        return []
    m, found, groups = work.fast.problem.m, list[Candidate](), work.fast.problem.groups
    for shape in work.shapes:  # how many rows a group has at most is not known at a call
        if shape.cluster == 1 and (shape.rows == CTA_ROWS or (isinstance(m, str) and groups is None)):
            within = None if shape.rows == CTA_ROWS else ("le", m, shape.rows)
            plain = Candidate(shape.label, work.clocks(shape), Picked(shape), within)
            whole = groups is not None  # K is not split
            found.append(plain if whole else in_parts(plain, partial(work.clocks, shape), Picked(shape, "auto")))
    return found


def wgmma_fp8_blocks(kernel: Kernel, target: str) -> list[Fields]:
    """Blocks for each tile and cluster with K in one and in several parts."""
    work = _work_if_any(kernel) if target == SM90A.name else None
    shapes = [] if work is None else work.shapes
    return [{"tile": s.tile, "cluster": (s.cluster, 1), **parts} for s in shapes for parts in split_blocks()]


def wgmma_fp8_variations(plan: LoweredKernel) -> list[Fields]:
    """Orders of tiles, and fewer stages."""
    return [*ORDERS, *fewer_stages(plan)]


def lower_wgmma_fp8(kernel: Kernel, cases: Sequence[Case]) -> list[LoweredKernel]:
    """A plan for each case. Raises DiagnosticError for what cannot be built."""
    check_groups(kernel)
    work = _work(kernel)
    if work is None:
        raise ValueError(f"`{kernel.name}` is not for FP8 as it is")
    problem = work.fast.problem
    wrong = [
        each
        for case in cases
        if case.schedule is not None
        for each in asked_wrongly(case.schedule, work.shapes, problem, Bounds.of(kernel, case.when))
    ]
    if wrong:
        raise DiagnosticError(wrong)
    required = whole_loads(work.fast.kernel, [problem.products])
    return [replace(_lower_with(work, case, required), kernel=kernel) for case in cases]


def _work_if_any(kernel: Kernel) -> _Work | None:
    """What there is to do; None of what this engine does not take, and of what none takes, which the others tell."""
    try:
        return _work(kernel)
    except DiagnosticError:
        return None


def _work(kernel: Kernel) -> _Work | None:
    fast = fp8_work(kernel)
    if isinstance(fast, str):
        return None
    widths = sorted({shape.columns for shape in STEP_CLOCKS}, reverse=True)
    widths = whole_panels(fast.frame, tile_widths(fast.frame, fast.problem, widths))
    return _Work(fast, Sizes.of(kernel.dims), [shape for shape in STEP_CLOCKS if shape.columns in widths])


def _shape(work: _Work, case: Case) -> Shape:
    """The tile: as chosen by the table over sizes, or the fastest of what is asked for."""
    problem, fields = work.fast.problem, case.schedule.fields if case.schedule is not None else {}
    for shape in work.shapes:
        if isinstance(case.pick, Picked) and case.pick.tile == shape:
            return shape
    bounds = Bounds.of(work.fast.kernel, case.when)
    tile, cluster = fields.get("tile", ("auto",)), fields.get("cluster", ("auto",))
    found = [
        shape
        for shape in work.shapes
        if possible(shape, problem, bounds)
        and tile in (("auto",), shape.tile)
        and cluster in (("auto",), (shape.cluster, 1))
    ]
    _, values = assumed_shape(problem, case.when, case.at)
    parts = _parts(work, case)
    return min(found, key=lambda shape: evaluate(least_clocks(parts, partial(work.clocks, shape)), values))


def _parts(work: _Work, case: Case) -> Parts:
    """Into how many parts K is to be split."""
    problem = work.fast.problem
    return parts_asked(case, problem_sizes(problem).values(), splittable=problem.groups is None)


def _lower_with(work: _Work, case: Case, required: tuple[Constraint, ...]) -> LoweredKernel:
    kernel, problem, schedule = work.fast.kernel, work.fast.problem, case.schedule
    shape = _shape(work, case)
    tile = Tile(CTA_ROWS, shape.columns, FP8_TILE_K, CTA_ROWS)
    cluster, engine = (
        Cluster(shape.cluster, 1),
        WgmmaFp8(shape.rows, ordered=shape.rows == CTA_ROWS and work.fast.promotion is None),
    )
    mainloop, maps = plan_mainloop(problem, engine, tile.n, cluster)
    factors = factors_buffer(work.fast.promotion)
    limit = staging_limit(engine, tile.n, factors)
    epilogue = plan_epilogue(work.fast.frame, work.sizes, tile.n, min(STAGING_LIMIT, limit), schedule)
    parts = parts_of(_parts(work, case), partial(work.clocks, shape))
    k_tiles = ceildiv(problem.products[0].k, FP8_TILE_K)
    adds = adds_atomically(schedule)
    split = plan_split(parts, k_tiles, _WARP * MMA_WARPS, engine.columns(tile.n) // 2, adds=adds)
    others = (*factors, *split_words(split), *epilogue.staging)
    fits = fitting(engine, tile.n, others)
    stages = choose_stages(kernel, schedule, lambda _: fits, SM90A.stages_max, least=1)
    walk = plan_walk(problem, tile, cluster, asked_band(schedule))
    program, split_params = with_parts(epilogue.program, mul(walk.tiles, cluster.size), split)
    walk = over_parts(walk, split)
    maps = (*maps, *epilogue.tensor_maps)
    groups = group_params(walk, problem)
    lengths = [*product_sizes(problem, walk, program, (mainloop,)), *split_sizes(split)]
    needs = work.fast.needs
    lowered = LoweredKernel(
        name=kernel.name,
        target=SM90A.name,
        kernel=kernel,
        schedule=schedule,
        cluster=cluster,
        walk=walk,
        roles=_ROLES,
        named_barriers=(*epilogue.barriers, *(ORDER_BARRIERS if engine.ordered else ()), *split_barriers(split, "mma")),
        smem=plan_smem(engine, tile.n, stages, others),
        tensor_maps=maps,
        epilogue=program,
        launch=Launch(
            f"{kernel.name}_0",
            _WARP * sum(role.warps for role in _ROLES),
            plan_params(maps, lengths, (*groups, *epilogue.params, *split_params, *needs.params())),
            (*lengths, *needs.lengths()),
            REGISTERS,
        ),
        constraints=(*required, *not_empty(kernel, epilogue.program, work.sizes)),
        decisions=(),
        when=case.when,
        clocks=least_clocks(_parts(work, case), partial(work.clocks, shape)),
        problem=problem,
        mainloops=(mainloop,),
        engine=engine,
        promotion=work.fast.promotion,
        split=split,
        tile=tile,
        pipeline=plan_pipeline(mainloop, cluster, stages),
        exchange=exchange(tile.n),
    )
    return replace(lowered, decisions=explain_choices(lowered))
