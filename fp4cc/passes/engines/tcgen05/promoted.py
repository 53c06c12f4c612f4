"""Lowering FP8 products with f32 scales to tcgen05: every 128 along K the partial sum is scaled and added in f32.

The tensor core's kind::f8f6f4 has no scales, so each partial product of 128 stays in tensor memory only until the
epilogue warps have read it, multiplied it by the product of its two scales and added it to their registers: what
DeepSeek-V3 does (DeepSeek-AI 2024, section 3.3.2), and exactly the meaning of the formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Expr, Kernel, Schedule
from fp4cc.ir.lowered import (
    Barrier,
    Cluster,
    Decision,
    Launch,
    Load,
    Pipeline,
    Problem,
    Product,
    Smem,
    SmemBuffer,
    Tile,
)
from fp4cc.ir.lowered_promoted import LoweredPromoted
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.choice.schedule import applicable
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.feeds.promoted_scales import (
    COLUMNS,
    STEP,
    promoted_constraints,
    promoted_product,
    promoted_scales,
)
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.passes.problem.emptiness import not_empty
from fp4cc.passes.problem.unzip import Frame
from fp4cc.passes.resources.params import plan_params, product_sizes
from fp4cc.passes.resources.raster import plan_raster
from fp4cc.passes.resources.residency import bounded, explain_residency
from fp4cc.passes.resources.smem import place_buffers
from fp4cc.passes.resources.tensor_maps import codes_map
from fp4cc.targets import Target

ROWS = 128
THREADS = 192
#: Bytes between rows of sums: 4 floats of padding keep them off each other's banks.
EXCHANGE_PITCH = 4 * (COLUMNS + 4)
ACC_STAGES = 2
#: Numbers of the element types in the instruction descriptor (PTX ISA, tcgen05 instruction descriptor, kind::f8f6f4).
FORMATS = {"e4m3": 0, "e5m2": 1}


def lower_promoted(kernel: Kernel, target: Target) -> LoweredPromoted:
    """Lower a kernel with one FP8 product. Raises DiagnosticError for what cannot be built."""
    sizes = Sizes.of(kernel.dims)
    problem, frame = promoted_product(kernel, sizes, tuple(FORMATS))
    plans = [
        _lower_with(kernel, problem, frame, sizes, target, when, schedule)
        for when, schedule in applicable(kernel, sizes, target.name)
    ]
    return replace(plans[-1], variants=tuple(plans[:-1]))


def _lower_with(
    kernel: Kernel,
    problem: Problem,
    frame: Frame,
    sizes: Sizes,
    target: Target,
    when: Expr | None,
    schedule: Schedule | None,
) -> LoweredPromoted:
    _check_schedule(schedule)
    tile = Tile(ROWS, COLUMNS, STEP, ROWS)
    cluster = Cluster(1, 1)
    epilogue = plan_epilogue(frame, sizes, tile.n)
    stages = _stages(kernel, problem, schedule, epilogue.staging, target)
    pipeline = _pipeline(problem, stages)
    raster = plan_raster(problem, tile, cluster, None)
    maps = (
        codes_map(f"{problem.a.arg}_codes", problem, problem.a, "U8", problem.k, (STEP, ROWS), "128B"),
        codes_map(f"{problem.b.arg}_codes", problem, problem.b, "U8", problem.k, (STEP, COLUMNS), "128B"),
        *epilogue.tensor_maps,
    )
    needs = Needs(kernel.args)
    scales = promoted_scales(problem, Readers(kernel, sizes, problem, kernel.constraints, needs))
    lengths = product_sizes(problem, raster, epilogue.program, [_Loop(problem.products, tile.k)])
    params = plan_params(maps, lengths, (*epilogue.params, *needs.params()))
    formats = FORMATS[problem.a.format.element] << 7 | FORMATS[problem.b.format.element] << 10
    lowered = LoweredPromoted(
        name=kernel.name,
        target=target.name,
        kernel=kernel,
        schedule=schedule,
        cluster=cluster,
        raster=raster,
        smem=bounded(_smem(problem, stages, epilogue.staging, target), ACC_STAGES * COLUMNS, THREADS, target),
        tensor_maps=maps,
        epilogue=epilogue.program,
        launch=Launch(f"{kernel.name}_0", THREADS, params, (*lengths, *needs.lengths())),
        constraints=(*promoted_constraints(kernel, problem), *not_empty(kernel, epilogue.program, sizes)),
        decisions=(),
        when=when,
        problem=problem,
        tile=tile,
        pipeline=pipeline,
        scales=scales,
        descriptor=1 << 4 | formats | COLUMNS // 8 << 17 | ROWS // 16 << 24,
        exchange_pitch=EXCHANGE_PITCH,
        tmem_columns=ACC_STAGES * COLUMNS,
    )
    decisions = (*_decisions(lowered), *explain_residency(lowered.smem, lowered.tmem_columns, target))
    return replace(lowered, decisions=decisions)


@dataclass(frozen=True, slots=True)
class _Loop:
    """The one mainloop."""

    products: tuple[Product, ...]
    tile_k: int


# What can be built.


def _check_schedule(schedule: Schedule | None) -> None:
    errors: list[Diagnostic] = []
    for field, values in schedule.fields.items() if schedule else ():
        span = schedule.field_spans[field] if schedule else None
        legal = {"tile": (ROWS, COLUMNS, STEP), "cluster": (1, 1), "cta_group": (1,)}.get(field)
        if span is None or field == "stages" or values == legal:
            continue
        wanted = "leave it out" if legal is None else f"write `{field} {' x '.join(map(str, legal))}`"
        errors.append(
            error("FP5013", f"`{field}` cannot be chosen for FP8 products with f32 scales", span, "asked for here",
                  notes=["the epilogue warps keep 128 sums of a row in registers"], help=wanted),
        )  # fmt: skip
    if errors:
        raise DiagnosticError(errors)


# Memory and rings.


def _stages(
    kernel: Kernel, problem: Problem, schedule: Schedule | None, staging: Sequence[SmemBuffer], target: Target
) -> int:
    asked = schedule.fields.get("stages", ("auto",))[0] if schedule else "auto"
    fits = target.stages_max
    while fits and _smem(problem, fits, staging, target).total > target.smem_bytes:
        fits -= 1
    if fits and (not isinstance(asked, int) or asked <= fits):
        return asked if isinstance(asked, int) else fits
    span = schedule.field_spans.get("stages", kernel.span) if schedule else kernel.span
    raise DiagnosticError([
        error("FP5012", f"{asked} stages do not fit in shared memory", span, f"at most {fits} fit",
              help=f"write `stages {fits}`" if fits else "store fewer outputs"),
    ])  # fmt: skip


def _smem(problem: Problem, stages: int, staging: Sequence[SmemBuffer], target: Target) -> Smem:
    by_column = problem.b.format.stored[0] == 1
    factors = (
        [SmemBuffer("b_factors", 0, 4 * COLUMNS, 2, 16, "B's scales of a step, one a column")] if by_column else []
    )
    wanted = [
        SmemBuffer("a_smem", 0, ROWS * STEP, stages, 1024, "codes of A"),
        SmemBuffer("b_smem", 0, COLUMNS * STEP, stages, 1024, "codes of B"),
        SmemBuffer("exchange_smem", 0, ROWS * EXCHANGE_PITCH, 1, 16, "a tile's sums on their way to the epilogue"),
        *factors,
        *staging,
        SmemBuffer("ab_full", 0, 8, stages, 8, "barriers: the stage holds data"),
        SmemBuffer("ab_empty", 0, 8, stages, 8, "barriers: the stage may be filled"),
        SmemBuffer("acc_full", 0, 8, ACC_STAGES, 8, "barriers: the partial sum is done"),
        SmemBuffer("acc_empty", 0, 8, ACC_STAGES, 8, "barriers: the partial sum has been read"),
        SmemBuffer("tmem_address", 0, 4, 1, 4, "where tcgen05.alloc writes"),
    ]
    return place_buffers(wanted, target.smem_bytes)


def _pipeline(problem: Problem, stages: int) -> Pipeline:
    loads = (
        Load(f"{problem.a.arg}_codes", "a_smem", 1, ROWS * STEP, ROWS * STEP, (1,)),
        Load(f"{problem.b.arg}_codes", "b_smem", 1, COLUMNS * STEP, COLUMNS * STEP, (1,)),
    )
    barriers = (
        Barrier("ab_full", stages, 1, (ROWS + COLUMNS) * STEP, "the load warp, with the bytes of the stage",
                "the MMA warp"),
        Barrier("ab_empty", stages, 1, 0, "tcgen05.commit of a step's MMAs", "the load warp"),
        Barrier("acc_full", ACC_STAGES, 1, 0, "tcgen05.commit of a step's MMAs", "the epilogue warps"),
        Barrier("acc_empty", ACC_STAGES, 4, 0, "a lane of each epilogue warp", "the MMA warp"),
    )  # fmt: skip
    return Pipeline(stages, loads, barriers, (), ())


def _decisions(lowered: LoweredPromoted) -> tuple[Decision, ...]:
    written = lowered.schedule is not None
    tile, smem = lowered.tile, lowered.smem
    return (
        Decision("schedule", "written" if written else "the compiler's own",
                 "its condition holds" if written else "this kernel has no schedule block"),
        Decision("instruction", "tcgen05.mma kind::f8f6f4", "f32 scales are not for block-scaled instructions",
                 ("kind::mxf8f6f4: its scales are e8m0 per 32",), "target"),
        Decision("promotion", f"every {STEP} along K",
                 "what one pair of scales covers: the epilogue warps scale the partial sum and add it in f32"),
        Decision("tile", f"{tile.m} x {tile.n} x {tile.k}", "a thread keeps its row's sums in registers",
                 ("128 x 256 x 128: 256 sums do not fit in a thread's registers",)),
        Decision("stages", str(lowered.pipeline.stages), f"{smem.total} of {smem.limit} bytes used"),
    )  # fmt: skip
