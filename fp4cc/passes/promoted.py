"""Lowering FP8 products with f32 scales to tcgen05: every 128 along K the partial sum is scaled and added in f32.

The tensor core's kind::f8f6f4 has no scales, so each partial product of 128 stays in tensor memory only until the
epilogue warps have read it, multiplied it by the product of its two scales and added it to their registers: what
DeepSeek-V3 does (DeepSeek-AI 2024, section 3.3.2), and exactly the meaning of the formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Constraint, Expr, Kernel, Schedule
from fp4cc.ir.lowered import (
    Barrier,
    Cluster,
    Decision,
    KernelParam,
    Launch,
    Load,
    Operand,
    Pipeline,
    Problem,
    Smem,
    SmemBuffer,
    Tile,
)
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.ir.lowered_promoted import LoweredPromoted, PromotedScales
from fp4cc.passes.emptiness import not_empty
from fp4cc.passes.epilogue import plan_epilogue
from fp4cc.passes.memory import place_buffers
from fp4cc.passes.params import clips, plan_params
from fp4cc.passes.raster import plan_raster
from fp4cc.passes.roles import find_roles
from fp4cc.passes.schedule import applicable
from fp4cc.passes.sizes import Sizes, ceildiv, mul
from fp4cc.passes.tensor_maps import codes_map
from fp4cc.passes.unzip import epilogue_frame, tile_widths
from fp4cc.targets import Target
from fp4num import LAYOUTS, BlockFormat
from fp4rt.manifest import Param

STEP = 128  # along K: what one pair of scales covers
ROWS = 128
COLUMNS = 128
THREADS = 192
EXCHANGE_BYTES = ROWS * 4 * (COLUMNS + 4)
ACC_STAGES = 2
#: Numbers of the element types in the instruction descriptor (PTX ISA, tcgen05 instruction descriptor, kind::f8f6f4).
FORMATS = {"e4m3": 0, "e5m2": 1}


def is_promoted(kernel: Kernel) -> bool:
    """Whether a kernel multiplies FP8 operands with f32 scales: what this family is for."""
    products = [value for value in kernel.values if value.op == "matmul"]
    formats = [arg.format for arg in kernel.args if arg.direction == "in" and arg.format is not None]
    return len(products) == 1 and bool(formats) and all(fmt.scale == "f32" for fmt in formats)


def lower_promoted(kernel: Kernel, target: Target) -> LoweredPromoted:
    """Lower a kernel with one FP8 product. Raises DiagnosticError for what cannot be built."""
    sizes = Sizes.of(kernel.dims)
    problem = find_roles(kernel, sizes)
    errors = [e for o in (problem.a, problem.b) for e in _operand_errors(kernel.arg(o.arg), o)]
    if errors:
        raise DiagnosticError(errors)
    plans = [
        _lower_with(kernel, problem, sizes, target, when, schedule)
        for when, schedule in applicable(kernel, sizes, target.name)
    ]
    return replace(plans[-1], variants=tuple(plans[:-1]))


def _lower_with(
    kernel: Kernel, problem: Problem, sizes: Sizes, target: Target, when: Expr | None, schedule: Schedule | None
) -> LoweredPromoted:
    _check_schedule(schedule)
    frame = epilogue_frame(kernel, problem, sizes)
    if frame.group is None:
        frame = replace(frame, walks="tile")
    elif not tile_widths(frame, (COLUMNS,)):
        unzipped = next(value for value in kernel.values if value.op == "unzip")
        raise DiagnosticError([
            error("FP4020", f"this `unzip` cannot be compiled yet: groups of {frame.group} with f32 scales",
                  unzipped.span, "unzipped here", notes=[f"a tile has {COLUMNS} columns: whole groups of both halves"],
                  help=f"interleave the weights in groups of at most {COLUMNS // 2}"),
        ])  # fmt: skip
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
    scales = (_scales("a", problem.a), _scales("b", problem.b))
    scale_sizes = _sizes(problem, epilogue.program)
    own = [KernelParam(name, Param("i32", expr), what) for name, expr, what in scale_sizes if not isinstance(expr, int)]
    own += [KernelParam(f"{o.arg}_scales_ptr", Param("pointer", f"{o.arg}.scales"), f"f32 scales of {o.arg}")
            for o in (problem.a, problem.b)]  # fmt: skip
    params = plan_params(problem, tile, raster, maps, epilogue.program, (*epilogue.params, *own))
    formats = FORMATS[problem.a.format.element] << 7 | FORMATS[problem.b.format.element] << 10
    lowered = LoweredPromoted(
        name=kernel.name,
        target=target.name,
        kernel=kernel,
        schedule=schedule,
        cluster=cluster,
        raster=raster,
        smem=_smem(problem, stages, epilogue.staging, target),
        tensor_maps=maps,
        epilogue=epilogue.program,
        launch=Launch(f"{kernel.name}_0", THREADS, params),
        constraints=(*_constraints(kernel, problem), *not_empty(kernel, epilogue.program, sizes)),
        decisions=(),
        when=when,
        problem=problem,
        tile=tile,
        pipeline=pipeline,
        scales=scales,
        sizes=scale_sizes,
        descriptor=1 << 4 | formats | COLUMNS // 8 << 17 | ROWS // 16 << 24,
        tmem_columns=ACC_STAGES * COLUMNS,
    )
    return replace(lowered, decisions=_decisions(lowered))


# What can be built.


def _operand_errors(arg: Arg, operand: Operand) -> list[Diagnostic]:
    fmt = operand.format
    rows, columns = fmt.stored
    if fmt.element not in FORMATS or rows not in (1, 128) or columns not in (STEP, "all"):
        return [
            error("FP4202", f"`{fmt.name}` is {fmt.element} with f32 scales per {rows} x {columns}: not multiplied yet",
                  arg.span, f"`{fmt.name}`",
                  notes=["FP8 products take e4m3 or e5m2 with an f32 scale per 1 x 128, 128 x 128 or 1 x all"],
                  help="use ds_act, ds_weight or fp8_token, or a format like them"),
        ]  # fmt: skip
    if not _is_linear(fmt):
        return [
            error("FP4206", f"scales in layout {fmt.layout.name} cannot be multiplied yet", arg.span,
                  f"`{fmt.name}` stores its scales in {fmt.layout.name}",
                  notes=["f32 scales are read row by row"], help="use a format with `layout linear`"),
        ]  # fmt: skip
    return []


def _is_linear(fmt: BlockFormat) -> bool:
    linear = LAYOUTS["linear"]
    return (fmt.layout.coords, fmt.layout.atom_shape, fmt.layout.order) == (
        linear.coords, linear.atom_shape, linear.order
    )  # fmt: skip


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


def _constraints(kernel: Kernel, problem: Problem) -> tuple[Constraint, ...]:
    """A row must start on 16 bytes; blocks of 128 along K see to that, one block a row does not."""
    if "all" not in (problem.a.format.stored[1], problem.b.format.stored[1]) or isinstance(problem.k, int):
        return ()
    span = kernel.arg(problem.a.arg).span
    text = f"{problem.k_axis} % 16 == 0"
    return (Constraint(("eq", ("mod", problem.k, 16), 0), text, span, "a row of codes must start on 16 bytes for TMA"),)


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
        SmemBuffer("exchange_smem", 0, EXCHANGE_BYTES, 1, 16, "a tile's sums on their way to the epilogue"),
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


def _scales(role: str, operand: Operand) -> PromotedScales:
    rows, columns = operand.format.stored
    return PromotedScales(
        role="a" if role == "a" else "b",
        arg=operand.arg,
        rows=1 if rows == 1 else 128,
        row_stride=f"{operand.arg}_scales_pitch",
        step_stride=0 if columns == "all" else 1,
        batch_stride=f"{operand.arg}_scales_batch" if operand.batched else None,
    )


def _sizes(problem: Problem, epilogue: EpilogueProgram) -> tuple[tuple[str, Expr, str], ...]:
    """Sizes that the scales and the tile's edges need: name, value, meaning."""
    found: list[tuple[str, Expr, str]] = []
    if not clips(epilogue):
        found += [("m_size", problem.m, problem.m_axis), ("n_size", epilogue.problem.n, epilogue.problem.n_axis)]
    for operand in (problem.a, problem.b):
        rows, columns = operand.format.stored
        steps: Expr = 1 if columns == "all" else ceildiv(problem.k, STEP)
        blocks = operand.rows if rows == 1 else ceildiv(operand.rows, ROWS)
        found.append((f"{operand.arg}_scales_pitch", steps, f"scales of a row of {operand.arg}"))
        if operand.batched:
            found.append((f"{operand.arg}_scales_batch", mul(blocks, steps), f"scales of a batch of {operand.arg}"))
    return tuple(found)


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
