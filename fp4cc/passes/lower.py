"""Lowering: a typed kernel and a target in, every number decided out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Constraint, Expr, Kernel, Schedule
from fp4cc.ir.lowered import Cluster, Launch, LoweredGemm, LoweredKernel, Problem, SmemBuffer, Tile
from fp4cc.passes.decisions import explain_choices
from fp4cc.passes.elementwise import lower_elementwise
from fp4cc.passes.epilogue import plan_epilogue
from fp4cc.passes.estimate import Traffic
from fp4cc.passes.legality import Pair, instruction, k_multiple, operand_pair, tile_k
from fp4cc.passes.memory import StageBytes, fitting_stages, plan_smem, plan_tmem, scale_atoms, stage_bytes
from fp4cc.passes.params import plan_params
from fp4cc.passes.pipeline import acc_ring_stages, plan_pipeline
from fp4cc.passes.raster import plan_raster
from fp4cc.passes.roles import find_roles
from fp4cc.passes.schedule import Request, applicable, assumed_shape, rank, read
from fp4cc.passes.sizes import Sizes, fold
from fp4cc.passes.tensor_maps import mainloop_maps
from fp4cc.passes.unzip import Frame, epilogue_frame, tile_widths
from fp4cc.passes.wgmma import lower_wgmma
from fp4cc.targets import CHIPS, NAMES, SM90A, TARGETS, Target

#: Threads of a CTA: four epilogue warps, a load warp, an MMA warp.
THREADS = 192


def lower(kernel: Kernel, target: str) -> LoweredKernel:
    """Lower a kernel whose static dims are set (`Dim.value`).

    Where schedule blocks have conditions on dynamic dims, the result carries one variant for each, in source order,
    before the plan that always applies. Raises DiagnosticError for what the target or this compiler cannot do.
    """
    if target not in NAMES:
        known = ", ".join(NAMES)
        raise DiagnosticError([
            error("FP4012", f"kernels cannot be compiled for {target} yet", kernel.span, help=f"targets: {known}"),
        ])  # fmt: skip
    sizes = Sizes.of(kernel.dims)
    if not any(value.op == "matmul" for value in kernel.values):
        elementwise = lower_elementwise(kernel, CHIPS[target], applicable(kernel, sizes, target))
        return replace(elementwise[-1], variants=tuple(elementwise[:-1]))
    if target == SM90A.name:
        return lower_wgmma(kernel)
    sheet = TARGETS[target]
    problem = find_roles(kernel, sizes)
    pair = operand_pair(kernel, problem, sheet)
    constraints = _constraints(kernel, problem, pair)
    plans = [
        _lower_with(kernel, problem, pair, sizes, sheet, when, schedule, constraints)
        for when, schedule in applicable(kernel, sizes, target)
    ]
    return replace(plans[-1], variants=tuple(plans[:-1]))


def _lower_with(
    kernel: Kernel,
    problem: Problem,
    pair: Pair,
    sizes: Sizes,
    target: Target,
    when: Expr | None,
    schedule: Schedule | None,
    constraints: tuple[Constraint, ...],
) -> LoweredGemm:
    request = read(schedule, tile_k(pair, target), target)
    shape, assumed = assumed_shape(problem, when)
    traffic = _traffic(kernel, problem, pair, target, shape.m, shape.n, shape.k, shape.batch)
    frame = epilogue_frame(kernel, problem, sizes)
    widths = replace(target, tile_n=tile_widths(frame, target))
    ranked = rank(_with_widths(request, frame, target), shape, traffic, widths)
    option = ranked[0].option
    mma = instruction(pair, problem, target, option.cta_group, option.tile_n)
    tile = Tile(mma.m, mma.n, tile_k(pair, target), target.cta_rows)
    cluster = Cluster(option.cluster_m, option.cluster_n)
    stage = stage_bytes(mma, tile, target)
    tmem = plan_tmem(mma, tile, request.accumulators or 2, target)
    epilogue = plan_epilogue(frame, sizes, tile.n)
    ring = acc_ring_stages(tmem, tile.n)
    stages = _stages(kernel, request, stage, ring, epilogue.staging, target)
    pipeline = plan_pipeline(problem, mma, cluster, stage, stages, tmem, tile.n)
    raster = plan_raster(problem, tile, cluster, request.band)
    maps = (*mainloop_maps(problem, mma, tile, pipeline), *epilogue.tensor_maps)
    lowered = LoweredGemm(
        name=kernel.name,
        target=target.name,
        kernel=kernel,
        problem=problem,
        schedule=schedule,
        mma=mma,
        tile=tile,
        cluster=cluster,
        raster=raster,
        smem=plan_smem(stage, stages, ring, epilogue.staging, target),
        tmem=tmem,
        pipeline=pipeline,
        tensor_maps=maps,
        epilogue=epilogue.program,
        launch=Launch(
            f"{kernel.name}_0", THREADS, plan_params(problem, tile, raster, maps, epilogue.program, epilogue.params)
        ),
        constraints=constraints,
        decisions=(),
        when=when,
    )
    return replace(lowered, decisions=explain_choices(lowered, request, ranked, assumed, target))


def _with_widths(request: Request, frame: Frame, target: Target) -> Request:
    """The request itself. Raises DiagnosticError if it asks for a tile that tears a group of unzip."""
    if request.tile is not None and request.schedule is not None and request.tile[1] not in tile_widths(frame, target):
        span = request.schedule.field_spans["tile"]
        wanted = ", ".join(map(str, tile_widths(frame, target)))
        raise DiagnosticError([
            error("FP5010", f"a tile of {request.tile[1]} columns does not hold whole groups of unzip", span,
                  f"it must hold {frame.group} columns of both halves", help=f"tile widths that do: {wanted}"),
        ])  # fmt: skip
    return request


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


def _constraints(kernel: Kernel, problem: Problem, pair: Pair) -> tuple[Constraint, ...]:
    """What the target asks of the sizes; what static sizes already break is an error here."""
    multiple, reason = k_multiple(pair, problem)
    condition = fold("eq", fold("mod", problem.k, multiple), 0)
    span = next((d.span for d in kernel.dims if d.name == problem.k_axis), kernel.arg(problem.a.arg).span)
    if condition is True:
        return ()
    if condition is False:
        size = int(problem.k) if isinstance(problem.k, int) else 0
        raise DiagnosticError([
            error("FP4011", f"{problem.k_axis} = {size} is not a multiple of {multiple}", span, notes=[reason],
                  help=f"pad {problem.k_axis} to {-(-size // multiple) * multiple} with zeros"),
        ])  # fmt: skip
    return (Constraint(condition, f"{problem.k_axis} % {multiple} == 0", span, reason),)


def _traffic(
    kernel: Kernel, problem: Problem, pair: Pair, target: Target, m: int, n: int, k: int, batch: int
) -> Traffic:
    mma = instruction(pair, problem, target, 1, 128)
    outputs = sum(4 if arg.dtype == "f32" else 2 for arg in kernel.args if arg.direction in ("out", "inout"))
    per_row = [k * o.format.bits / 8 + k / pair.block for o in (problem.a, problem.b)]
    copies = [batch if o.batched else 1 for o in (problem.a, problem.b)]
    total = m * per_row[0] * copies[0] + n * per_row[1] * copies[1] + m * n * outputs * batch
    return Traffic(
        tile_k=tile_k(pair, target),
        row_bytes=target.tile_k_bytes,
        atom_bytes=scale_atoms(mma) * 512,
        instructions=mma.instructions_per_tile_k,
        global_bytes=total,
    )


@dataclass(frozen=True, slots=True)
class Lowering:
    """The pass as an object, for the list of passes."""

    target: str
    name: str = "lower"

    def run(self, kernel: Kernel) -> LoweredKernel:
        """See `lower`."""
        return lower(kernel, self.target)
