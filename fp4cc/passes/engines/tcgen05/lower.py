"""Lowering products to tcgen05: operands by TMA and converter warps, accumulators in tensor memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Constraint, Expr, Kernel, Schedule
from fp4cc.ir.lowered import Cluster, Launch, LoweredGemm, Problem, SmemBuffer, Tile
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.choice.schedule import Request, applicable, assumed_shape, rank, read
from fp4cc.passes.engines.tcgen05.decisions import explain_choices
from fp4cc.passes.engines.tcgen05.legality import tile_k
from fp4cc.passes.engines.tcgen05.mainloops import Fit, Shared, constraints, group_products
from fp4cc.passes.engines.tcgen05.memory import StageBytes, fitting_stages, plan_smem
from fp4cc.passes.engines.tcgen05.pipeline import acc_ring_stages, plan_pipeline
from fp4cc.passes.engines.tcgen05.tensor_maps import mainloop_maps
from fp4cc.passes.engines.tcgen05.traffic import plan_traffic
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.feeds.converters import plan_conversions, plan_converters
from fp4cc.passes.problem.emptiness import not_empty
from fp4cc.passes.problem.unzip import Frame, find_products, released
from fp4cc.passes.resources.params import plan_params, product_sizes
from fp4cc.passes.resources.raster import plan_raster
from fp4cc.passes.resources.residency import bounded
from fp4cc.passes.rewrites.row_scales import split_row_scales
from fp4cc.targets import Target

#: Threads of a CTA without converter warps: four epilogue warps, a load warp, an MMA warp.
THREADS = 192
#: Beside accumulators tensor memory holds scales: at least as many columns as tiles are multiples of.
SCALE_COLUMNS = 64


def lower_tcgen05(kernel: Kernel, target: Target) -> LoweredGemm:
    """Lower a kernel with products. Raises DiagnosticError for what cannot be built."""
    sizes, parts = Sizes.of(kernel.dims), split_row_scales(kernel)
    problem, frame = find_products(parts, sizes, target.tmem_columns - SCALE_COLUMNS)
    shared = group_products(parts, problem, target)
    required = constraints(parts, shared)
    plans = [
        replace(_lower_with(parts, problem, frame, shared, sizes, target, when, schedule, required), kernel=kernel)
        for when, schedule in applicable(kernel, sizes, target.name)
    ]
    return replace(plans[-1], variants=tuple(plans[:-1]))


def _lower_with(
    kernel: Kernel,
    problem: Problem,
    frame: Frame,
    shared: Sequence[Shared],
    sizes: Sizes,
    target: Target,
    when: Expr | None,
    schedule: Schedule | None,
    required: tuple[Constraint, ...],
) -> LoweredGemm:
    request = read(schedule, tile_k(shared[0].pair, target), target)
    shape, assumed = assumed_shape(problem, when)
    fit = Fit(problem, shared, target)
    traffic = plan_traffic(kernel, problem, shared, fit, target, shape, sizes, required)
    widths = replace(target, tile_n=fit.widths(frame, sizes, request))
    ranked = rank(request, shape, traffic, widths)
    option = ranked[0].option
    memory = fit.memory(option.cta_group, option.tile_n, request.accumulators)
    if memory is None:
        raise RuntimeError(f"a tile of {option.tile_n} columns was chosen and does not fit")
    stage, tmem, mma = memory.stage, memory.tmem, memory.steps[0].mmas[0]
    if frame.group is not None:
        tmem = released(tmem, option.tile_n, frame.group)
    tile = Tile(mma.m, mma.n, memory.steps[0].tile_k, target.cta_rows)
    cluster = Cluster(option.cluster_m, option.cluster_n)
    epilogue = plan_epilogue(frame, sizes, tile.n)
    ring = acc_ring_stages(tmem, tile.n)
    stages = _stages(kernel, request, stage, ring, epilogue.staging, target)
    steps, needs = plan_conversions(kernel, problem, memory.steps, sizes, required)
    converters = plan_converters(steps, stages)
    pipeline, mainloops = plan_pipeline(steps, converters, cluster, stage, stages, tmem, tile.n)
    raster = plan_raster(problem, tile, cluster, request.band)
    maps = (*mainloop_maps(problem, mainloops, tile), *epilogue.tensor_maps)
    lengths = (*product_sizes(problem, raster, epilogue.program, mainloops), *needs.lengths())
    threads = THREADS + (32 * converters.warps if converters else 0)
    lowered = LoweredGemm(
        name=kernel.name,
        target=target.name,
        kernel=kernel,
        problem=problem,
        mainloops=mainloops,
        schedule=schedule,
        mma=mma,
        tile=tile,
        cluster=cluster,
        raster=raster,
        smem=bounded(plan_smem(stage, stages, ring, epilogue.staging, target), tmem.columns, threads, target),
        tmem=tmem,
        pipeline=pipeline,
        tensor_maps=maps,
        epilogue=epilogue.program,
        converters=converters,
        launch=Launch(
            f"{kernel.name}_0",
            threads,
            plan_params(maps, lengths, (*needs.addresses(), *epilogue.params)),
            lengths,
        ),
        constraints=(*required, *not_empty(kernel, epilogue.program, sizes)),
        decisions=(),
        when=when,
    )
    return replace(lowered, decisions=explain_choices(lowered, request, ranked, assumed, target))


def _stages(
    kernel: Kernel,
    request: Request,
    stage: StageBytes,
    ring: int,
    staging: Sequence[SmemBuffer],
    target: Target,
) -> int:
    """Mainloop stages: those asked for, or as many as fit."""
    fits = fitting_stages(stage, ring, staging, max(target.stages_max, request.stages or 0), target)
    if fits >= (request.stages or 1):
        return request.stages or min(fits, target.stages_max)
    span = request.schedule.field_spans.get("stages", request.schedule.span) if request.schedule else kernel.span
    raise DiagnosticError([
        error("FP5012", f"{request.stages or 1} stages do not fit in shared memory", span,
              f"a stage takes {stage.total} bytes, the epilogue's buffers {sum(b.total for b in staging)}, "
              f"and there are {target.smem_bytes}",
              help=f"write `stages {fits}` or `stages auto`" if fits else "use a smaller tile"),
    ])  # fmt: skip
