"""Lowering products to Hopper: TMA brings operands, warps convert them to what wgmma multiplies, wgmma multiplies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Constraint, Expr, Kernel, Schedule
from fp4cc.ir.lowered import Cluster, Launch, Problem, SmemBuffer, Tile
from fp4cc.ir.lowered_wgmma import TILE_K, LoweredWgmma, WgmmaLoop
from fp4cc.passes.emptiness import not_empty
from fp4cc.passes.epilogue import plan_epilogue
from fp4cc.passes.params import plan_params
from fp4cc.passes.raster import plan_raster
from fp4cc.passes.roles import find_problem
from fp4cc.passes.schedule import applicable
from fp4cc.passes.sizes import Sizes
from fp4cc.passes.unzip import Frame, epilogue_frame, tile_widths
from fp4cc.passes.wgmma_decisions import explain_choices
from fp4cc.passes.wgmma_memory import CONSUMERS, SLOT_BYTES, SLOTS, plan_loops, plan_pipeline, plan_smem
from fp4cc.passes.wgmma_operands import Steps, constraints, plan_steps
from fp4cc.passes.wgmma_scales import scale_params, scale_sizes
from fp4cc.targets.sm90 import SM90A

THREADS = (CONSUMERS + 1) * 32
#: What a thread of the epilogue takes at a time.
LEAST_COLUMNS = 32


def lower_wgmma(kernel: Kernel) -> LoweredWgmma:
    """Lower a kernel with products for sm_90a. Raises DiagnosticError for what cannot be built there."""
    sizes = Sizes.of(kernel.dims)
    problem = find_problem(kernel, sizes)
    frame = epilogue_frame(kernel, problem, sizes)
    apart = None if tile_widths(frame, (SM90A.tile_n,)) else frame.group
    columns = _columns(kernel, problem) if apart is None else SM90A.tile_n // 2
    steps = plan_steps(kernel, problem, columns, apart)
    required = constraints(kernel, steps)
    plans = [
        _lower_with(frame, kernel, problem, steps, columns, sizes, when, schedule, required)
        for when, schedule in applicable(kernel, sizes, SM90A.name)
    ]
    return replace(plans[-1], variants=tuple(plans[:-1]))


def _lower_with(
    frame: Frame,
    kernel: Kernel,
    problem: Problem,
    steps: Sequence[Steps],
    columns: int,
    sizes: Sizes,
    when: Expr | None,
    schedule: Schedule | None,
    required: tuple[Constraint, ...],
) -> LoweredWgmma:
    accumulators = 1 + max(slot for each in steps for slot in each.slots)
    # Halves that are loaded apart are columns of one product.
    apart = accumulators > len(problem.accumulators)
    tile = Tile(SM90A.tile_m, SM90A.tile_n if apart else columns, TILE_K, SM90A.tile_m)
    cluster = Cluster(_cluster_m(schedule, problem, tile), 1)
    if tile.n == SM90A.tile_n and frame.group is None:
        frame = replace(frame, walks="tile")
    epilogue = plan_epilogue(frame, sizes, tile.n)
    loops, maps = plan_loops(problem, steps, cluster)
    stages = _stages(kernel, schedule, loops, epilogue.staging)
    raster = plan_raster(problem, tile, cluster, None)
    maps = (*maps, *epilogue.tensor_maps)
    scales = scale_sizes(problem, loops)
    own = (*epilogue.params, *scale_params(scales, loops))
    params = plan_params(problem, tile, raster, maps, epilogue.program, own, loops)
    lowered = LoweredWgmma(
        name=kernel.name,
        target=SM90A.name,
        kernel=kernel,
        schedule=schedule,
        cluster=cluster,
        raster=raster,
        smem=plan_smem(loops, stages, epilogue.staging),
        tensor_maps=maps,
        epilogue=epilogue.program,
        launch=Launch(f"{kernel.name}_0", THREADS, params),
        constraints=(*required, *not_empty(kernel, epilogue.program, sizes)),
        decisions=(),
        when=when,
        problem=problem,
        loops=loops,
        tile=tile,
        columns=columns,
        accumulators=accumulators,
        pipeline=plan_pipeline(loops, cluster, stages),
        slots=SLOTS,
        slot_bytes=SLOT_BYTES,
        sizes=scales,
    )
    return replace(lowered, decisions=explain_choices(lowered))


def _columns(kernel: Kernel, problem: Problem) -> int:
    """Columns of each accumulator: with all of them a thread has 128 sums. Raises DiagnosticError for too many."""
    slots = len(problem.accumulators)
    most = SM90A.tile_n // LEAST_COLUMNS
    if slots > most:
        raise DiagnosticError([
            error("FP4002", f"{slots} accumulators do not fit in a thread's registers",
                  kernel.values[problem.accumulators[-1]].span, f"accumulator {slots}",
                  notes=[f"on sm_90a a tile has at most {most}, of {LEAST_COLUMNS} columns"],
                  help="write several kernels"),
        ])  # fmt: skip
    return SM90A.tile_n >> (slots - 1).bit_length()


def _cluster_m(schedule: Schedule | None, problem: Problem, tile: Tile) -> int:
    """CTAs along M that share B: what the block asks for, else two where M has two tiles."""
    if schedule is None:
        return 1 if isinstance(problem.m, int) and problem.m <= tile.m else 2
    errors: list[Diagnostic] = []
    cluster = (2, 1)
    for field, values in schedule.fields.items():
        span = schedule.field_spans[field]
        if field == "tile" and values != (tile.m, tile.n, tile.k):
            made = f"{tile.m} x {tile.n} x {tile.k}"
            errors.append(
                error("FP5010", f"sm_90a makes tiles of {made}", span, "another tile", help=f"write `tile {made}`"),
            )  # fmt: skip
        elif field == "cluster":
            cluster = values
            if values not in ((1, 1), (2, 1)):
                errors.append(
                    error("FP5011", "sm_90a takes clusters of 1 x 1 or 2 x 1", span, "another cluster",
                          help="write `cluster 2 x 1`"),
                )  # fmt: skip
        elif field not in ("tile", "stages"):
            errors.append(
                error("FP5013", f"`{field}` cannot be chosen on sm_90a yet", span, "asked for here",
                      help="leave it out"),
            )  # fmt: skip
    if errors:
        raise DiagnosticError(errors)
    return cast("int", cluster[0])


def _stages(
    kernel: Kernel, schedule: Schedule | None, loops: Sequence[WgmmaLoop], staging: Sequence[SmemBuffer]
) -> int:
    """Stages of the ring: those asked for, or as many as fit.

    Where wgmma reads what TMA has put there, a stage is free only when the next one has been multiplied: two at least.
    """
    asked = schedule.fields.get("stages", ("auto",))[0] if schedule else "auto"
    least = 2 if any(loop.direct for loop in loops) else 1
    fits = SM90A.stages_max
    while fits and plan_smem(loops, fits, staging).total > SM90A.smem_bytes:
        fits -= 1
    if isinstance(asked, int) and least <= asked <= fits:
        return asked
    if fits >= least and not isinstance(asked, int):
        return fits
    span = schedule.field_spans.get("stages", kernel.span) if schedule else kernel.span
    if isinstance(asked, int) and asked < least <= fits:
        raise DiagnosticError([
            error("FP5012", f"{asked} stage does not do: wgmma reads one while the next is loaded", span,
                  f"at least {least}", help=f"write `stages {least}` or `stages auto`"),
        ])  # fmt: skip
    raise DiagnosticError([
        error("FP5012", f"{asked} stages do not fit in shared memory", span, f"at most {fits} fit",
              help=f"write `stages {fits}`" if fits else "store fewer outputs"),
    ])  # fmt: skip
