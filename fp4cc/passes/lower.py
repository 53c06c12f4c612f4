"""Lowering: a typed kernel and a target in, every number decided out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Constraint, Expr, Kernel, Schedule
from fp4cc.ir.lowered import Cluster, Launch, LoweredGemm, LoweredKernel, Problem, SmemBuffer, Tile
from fp4cc.ir.verify_lowered import verify_lowered
from fp4cc.passes.converters import plan_conversions, plan_converters
from fp4cc.passes.decisions import explain_choices
from fp4cc.passes.elementwise import lower_elementwise
from fp4cc.passes.emptiness import not_empty
from fp4cc.passes.epilogue.blocks import TooNarrow
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.launches import join
from fp4cc.passes.legality import tile_k
from fp4cc.passes.limits import check_limits, check_tiles, too_large
from fp4cc.passes.mainloops import Fit, Shared, constraints, group_products
from fp4cc.passes.memory import StageBytes, fitting_stages, plan_smem
from fp4cc.passes.params import plan_params
from fp4cc.passes.pipeline import acc_ring_stages, plan_pipeline
from fp4cc.passes.promoted import lower_promoted
from fp4cc.passes.promoted_scales import is_promoted
from fp4cc.passes.raster import plan_raster
from fp4cc.passes.residency import bounded
from fp4cc.passes.row_scales import split_row_scales
from fp4cc.passes.schedule import Request, applicable, assumed_shape, rank, read
from fp4cc.passes.sizes import Sizes
from fp4cc.passes.split import split
from fp4cc.passes.symbols import lowered_by_marks
from fp4cc.passes.tensor_maps import mainloop_maps
from fp4cc.passes.traffic import plan_traffic
from fp4cc.passes.unzip import Frame, find_products, released
from fp4cc.passes.wgmma.lower import lower_wgmma
from fp4cc.passes.wide import split_wide
from fp4cc.targets import CHIPS, NAMES, SM90A, TARGETS, Target, target_help
from fp4rt.sizes import SizeError

#: Threads of a CTA without converter warps: four epilogue warps, a load warp, an MMA warp.
THREADS = 192
#: Beside accumulators tensor memory holds scales: at least as many columns as tiles are multiples of.
SCALE_COLUMNS = 64


def lower(kernel: Kernel, target: str) -> LoweredKernel:
    """Lower a kernel whose static dims are set (`Dim.value`).

    Where schedule blocks have conditions on dynamic dims, the result carries one variant for each, in source order,
    before the plan that always applies. Raises DiagnosticError for what the target or this compiler cannot do.
    """
    if target not in NAMES:
        raise DiagnosticError([
            error("FP4012", f"kernels cannot be compiled for {target} yet", kernel.span, help=target_help(target)),
        ])  # fmt: skip
    check_limits(kernel, Sizes.of(kernel.dims))
    try:
        # What is judged has marks for names: spelled, the user's `acc` would share `acc_full` with the accumulators.
        plan = lowered_by_marks(kernel, lambda marked: verify_lowered(_lower_launches(marked, target)))
        return check_tiles(plan)
    except SizeError as problem:
        raise too_large(kernel, problem) from problem


def _lower_launches(kernel: Kernel, target: str) -> LoweredKernel:
    """Lower a kernel of one launch or of two."""
    parts = split(kernel)
    if parts is None:
        try:
            return _lower(kernel, target)
        except TooNarrow as narrow:
            parts = split_wide(kernel, narrow.n_axis, narrow.columns)
            if parts is None:
                raise
    return join(kernel, parts, _lower(parts.first, target), _lower(parts.second, target))


def _lower(kernel: Kernel, target: str) -> LoweredKernel:
    """Lower a kernel of one launch."""
    sizes = Sizes.of(kernel.dims)
    if not any(value.op == "matmul" for value in kernel.values):
        elementwise = lower_elementwise(kernel, CHIPS[target], applicable(kernel, sizes, target))
        return replace(elementwise[-1], variants=tuple(elementwise[:-1]))
    if target == SM90A.name:
        return lower_wgmma(kernel)
    sheet = TARGETS[target]
    if is_promoted(kernel):
        return lower_promoted(kernel, sheet)
    parts = split_row_scales(kernel)
    problem, frame = find_products(parts, sizes, sheet.tmem_columns - SCALE_COLUMNS)
    shared = group_products(parts, problem, sheet)
    required = constraints(parts, shared)
    plans = [
        replace(_lower_with(parts, problem, frame, shared, sizes, sheet, when, schedule, required), kernel=kernel)
        for when, schedule in applicable(kernel, sizes, target)
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
    converters = plan_converters(steps, stages, needs)
    pipeline, mainloops = plan_pipeline(steps, converters, cluster, stage, stages, tmem, tile.n)
    raster = plan_raster(problem, tile, cluster, request.band)
    maps = (*mainloop_maps(problem, mainloops, tile), *epilogue.tensor_maps)
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
            plan_params(problem, tile, raster, maps, epilogue.program, epilogue.params, mainloops, converters),
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
