"""Lowering a block-scaled product to Hopper: TMA brings codes and scales, warps dequantize to bf16, wgmma multiplies.

bf16 holds every e2m1, e4m3 and e5m2, and their products by e4m3 or e8m0 scales as long as these stay in bf16's normal
range: then the sums are those of the block-scaled tensor core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Constraint, Expr, Kernel, Schedule
from fp4cc.ir.lowered import (
    Barrier,
    Cluster,
    Decision,
    Launch,
    Load,
    Operand,
    Pipeline,
    Problem,
    Smem,
    SmemBuffer,
    Tile,
)
from fp4cc.ir.lowered_wgmma import Dequantized, LoweredWgmma
from fp4cc.passes.emptiness import not_empty
from fp4cc.passes.epilogue import plan_epilogue
from fp4cc.passes.memory import ATOM_BYTES, place_buffers
from fp4cc.passes.params import plan_params
from fp4cc.passes.raster import plan_raster
from fp4cc.passes.roles import find_roles
from fp4cc.passes.schedule import applicable
from fp4cc.passes.sizes import Sizes, fold, scaled
from fp4cc.passes.tensor_maps import codes_map, scale_atoms_map
from fp4cc.passes.unzip import epilogue_frame
from fp4cc.targets.sm90 import SM90A
from fp4num import LAYOUTS
from fp4rt.manifest import TensorMap

CONSUMERS = 4  # warps
THREADS = (CONSUMERS + 1) * 32
#: Dequantized operands: one being multiplied, one being waited for, one being written.
SLOTS = 3
ROWS = 128
K_MULTIPLE = 32


def lower_wgmma(kernel: Kernel) -> LoweredWgmma:
    """Lower a kernel with one product for sm_90a. Raises DiagnosticError for what cannot be built there."""
    sizes = Sizes.of(kernel.dims)
    problem = find_roles(kernel, sizes)
    errors = [e for o in (problem.a, problem.b) for e in _operand_errors(kernel.arg(o.arg), o)]
    if errors:
        raise DiagnosticError(errors)
    constraints = _constraints(kernel, problem)
    plans = [
        _lower_with(kernel, problem, sizes, when, schedule, constraints)
        for when, schedule in applicable(kernel, sizes, SM90A.name)
    ]
    return replace(plans[-1], variants=tuple(plans[:-1]))


def _lower_with(
    kernel: Kernel,
    problem: Problem,
    sizes: Sizes,
    when: Expr | None,
    schedule: Schedule | None,
    constraints: tuple[Constraint, ...],
) -> LoweredWgmma:
    wanted = _cluster_m(schedule, problem)
    frame = epilogue_frame(kernel, problem, sizes, "a product for sm_90a", "compile it for sm_100a")
    tile = Tile(SM90A.tile_m, SM90A.tile_n, SM90A.tile_k, SM90A.tile_m)
    cluster = Cluster(wanted, 1)
    operands = (_dequantized("a", problem.a, tile), _dequantized("b", problem.b, tile))
    epilogue = plan_epilogue(frame, sizes, tile.n)
    stages = _stages(kernel, schedule, operands, epilogue.staging)
    pipeline = _pipeline(operands, cluster, stages)
    raster = plan_raster(problem, tile, cluster, None)
    maps = (*_maps(problem, operands, cluster), *epilogue.tensor_maps)
    params = plan_params(problem, tile, raster, maps, epilogue.program, epilogue.params)
    lowered = LoweredWgmma(
        name=kernel.name,
        target=SM90A.name,
        kernel=kernel,
        schedule=schedule,
        cluster=cluster,
        raster=raster,
        smem=_smem(operands, stages, epilogue.staging),
        tensor_maps=maps,
        epilogue=epilogue.program,
        launch=Launch(f"{kernel.name}_0", THREADS, params),
        constraints=(*constraints, *not_empty(kernel, epilogue.program, sizes)),
        decisions=(),
        when=when,
        problem=problem,
        tile=tile,
        pipeline=pipeline,
        operands=operands,
        slots=SLOTS,
        operand_bytes=ROWS * tile.k * 2,
    )
    return replace(lowered, decisions=_decisions(lowered))


# What can be built.


def _operand_errors(arg: Arg, operand: Operand) -> list[Diagnostic]:
    fmt = operand.format
    if fmt.element not in SM90A.elements:
        return [
            error("FP4205", f"sm_90a multiplies no {fmt.element}", arg.span,
                  f"`{fmt.name}` has {fmt.element} elements",
                  notes=["Hopper dequantizes operands to bf16 in shared memory; TMA there unpacks no 6-bit elements"],
                  help="use a 4- or 8-bit format, or compile for sm_100a"),
        ]  # fmt: skip
    rows, columns = fmt.stored
    scales = SM90A.blocks.get(columns, ()) if isinstance(columns, int) and rows == 1 else ()
    if fmt.scale not in scales:
        return [
            error("FP4202", f"`{fmt.name}` has {fmt.scale} scales per {rows} x {columns}: sm_90a takes others",
                  arg.span, f"`{fmt.name}`",
                  notes=["it takes e4m3 or e8m0 scales per 1 x 16, and e8m0 scales per 1 x 32"],
                  help="use nvfp4, mxfp4 or mxfp8, or a format with their scales"),
        ]  # fmt: skip
    layout, wanted = fmt.layout, LAYOUTS["blocked_128x4"]
    if (layout.coords, layout.atom_shape, layout.atom_stride, layout.order) != (
        wanted.coords, wanted.atom_shape, wanted.atom_stride, wanted.order
    ):  # fmt: skip
        return [
            error("FP4206", f"scales in layout {layout.name} cannot be multiplied yet", arg.span,
                  f"`{fmt.name}` stores its scales in {layout.name}", help="use a format with `layout blocked_128x4`"),
        ]  # fmt: skip
    return []


def _constraints(kernel: Kernel, problem: Problem) -> tuple[Constraint, ...]:
    condition = fold("eq", fold("mod", problem.k, K_MULTIPLE), 0)
    reason = "a row of codes must start on 16 bytes for TMA, and hold whole scale blocks"
    span = kernel.arg(problem.a.arg).span
    if condition is True:
        return ()
    if condition is False:
        raise DiagnosticError([
            error("FP4011", f"{problem.k_axis} = {problem.k} is not a multiple of {K_MULTIPLE}", span, notes=[reason],
                  help=f"pad {problem.k_axis} with zeros"),
        ])  # fmt: skip
    return (Constraint(condition, f"{problem.k_axis} % {K_MULTIPLE} == 0", span, reason),)


def _cluster_m(schedule: Schedule | None, problem: Problem) -> int:
    """CTAs along M that share B: what the block asks for, else two where M has two tiles."""
    if schedule is None:
        return 1 if isinstance(problem.m, int) and problem.m <= ROWS else 2
    errors: list[Diagnostic] = []
    cluster = (2, 1)
    for field, values in schedule.fields.items():
        span = schedule.field_spans[field]
        if field == "tile" and values != (SM90A.tile_m, SM90A.tile_n, SM90A.tile_k):
            errors.append(
                error("FP5010", "sm_90a makes tiles of 128 x 128 x 64", span, "another tile",
                      help="write `tile 128 x 128 x 64`"),
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


def _dequantized(role: str, operand: Operand, tile: Tile) -> Dequantized:
    fmt = operand.format
    block = int(fmt.stored[1])
    return Dequantized(
        role="a" if role == "a" else "b",
        arg=operand.arg,
        format=fmt.name,
        element=fmt.element,  # type: ignore[arg-type]  # checked above
        scale=fmt.scale,  # type: ignore[arg-type]
        bits=fmt.bits,
        block=block,
        row_bytes=tile.k * fmt.bits // 8,
        scales_per_step=tile.k // block,
        steps_per_atom=4 * block // tile.k,
    )


# Memory and rings.


def _stages(
    kernel: Kernel, schedule: Schedule | None, operands: tuple[Dequantized, ...], staging: Sequence[SmemBuffer]
) -> int:
    asked = schedule.fields.get("stages", ("auto",))[0] if schedule else "auto"
    fits = SM90A.stages_max
    while fits and _smem(operands, fits, staging).total > SM90A.smem_bytes:
        fits -= 1
    if isinstance(asked, int) and asked <= fits:
        return asked
    if fits and not isinstance(asked, int):
        return fits
    span = schedule.field_spans.get("stages", kernel.span) if schedule else kernel.span
    raise DiagnosticError([
        error("FP5012", f"{asked} stages do not fit in shared memory", span, f"at most {fits} fit",
              help=f"write `stages {fits}`" if fits else "store fewer outputs"),
    ])  # fmt: skip


def _smem(operands: tuple[Dequantized, ...], stages: int, staging: Sequence[SmemBuffer]) -> Smem:
    slot = ROWS * SM90A.tile_k * 2
    a, b = operands
    wanted = [
        SmemBuffer("operands", 0, slot, 2 * SLOTS, 1024, "A, then B as bf16; then sums on their way to the epilogue"),
        SmemBuffer("a_smem", 0, ROWS * a.row_bytes, stages, 128, "codes of A"),
        SmemBuffer("b_smem", 0, ROWS * b.row_bytes, stages, 128, "codes of B"),
        SmemBuffer("sfa_smem", 0, ATOM_BYTES, stages, 128, "a scale atom of A"),
        SmemBuffer("sfb_smem", 0, ATOM_BYTES, stages, 128, "a scale atom of B"),
        *staging,
        SmemBuffer("ab_full", 0, 8, stages, 8, "barriers: the stage holds data"),
        SmemBuffer("ab_empty", 0, 8, stages, 8, "barriers: the stage may be filled"),
    ]
    return place_buffers(wanted, SM90A.smem_bytes)


def _pipeline(operands: tuple[Dequantized, Dequantized], cluster: Cluster, stages: int) -> Pipeline:
    """A CTA loads its rows of A for itself, and its share of B's rows and scales for the cluster."""
    a, b = operands
    alone, everyone = (0b01, 0b10)[: cluster.m], (1 << cluster.m) - 1
    shared = (everyone,) * cluster.m

    def load(operand: Dequantized, buffer: str, what: str, size: int, masks: tuple[int, ...]) -> Load:
        slices = cluster.m if operand.role == "b" else 1
        return Load(f"{operand.arg}_{what}", buffer, slices, size // slices, size // slices, masks)

    loads = (
        load(a, "a_smem", "codes", ROWS * a.row_bytes, alone),
        load(b, "b_smem", "codes", ROWS * b.row_bytes, shared),
        load(a, "sfa_smem", "scales", ATOM_BYTES, alone),
        load(b, "sfb_smem", "scales", ATOM_BYTES, shared),
    )
    total = sum(load.slice_bytes * load.slices for load in loads)
    barriers = (
        Barrier("ab_full", stages, 1, total, "the load warp, with the bytes of the stage", "the four other warps"),
        Barrier("ab_empty", stages, CONSUMERS * cluster.m, 0,
                "a lane of each warp that has dequantized it, of every CTA of the cluster", "the load warp"),
    )  # fmt: skip
    return Pipeline(stages, loads, barriers, (), ())


def _maps(
    problem: Problem, operands: tuple[Dequantized, Dequantized], cluster: Cluster
) -> tuple[TensorMap, TensorMap, TensorMap, TensorMap]:
    """Codes as bytes, without a swizzle: they are read by rows, not by the tensor core."""
    a, b = operands
    share = cluster.m

    def codes(operand: Operand, plan: Dequantized, rows: int) -> TensorMap:
        width = scaled(problem.k, plan.bits, 8)
        return codes_map(f"{plan.arg}_codes", problem, operand, "U8", width, (plan.row_bytes, rows), "none")

    return (
        codes(problem.a, a, ROWS),
        codes(problem.b, b, ROWS // share),
        scale_atoms_map(f"{a.arg}_scales", problem, problem.a, a.block, (256, 1, 1)),
        scale_atoms_map(f"{b.arg}_scales", problem, problem.b, b.block, (256 // share, 1, 1)),
    )


def _decisions(lowered: LoweredWgmma) -> tuple[Decision, ...]:
    cluster, tile, smem = lowered.cluster, lowered.tile, lowered.smem
    written = lowered.schedule is not None
    return (
        Decision("schedule", "written" if written else "the compiler's own",
                 "its condition holds" if written else "this kernel has no schedule block for sm_90a"),
        Decision("instruction", "wgmma.mma_async m64n128k16, bf16",
                 "Hopper has no block-scaled tensor core: operands are dequantized to bf16, exactly",
                 ("fp8 wgmma: e4m3 cannot hold an element times its scale",), "target"),
        Decision("tile", f"{tile.m} x {tile.n} x {tile.k}",
                 "a thread dequantizes one row of each operand: one scale word, one swizzle row of bf16", (), "target"),
        Decision("cluster", f"{cluster.m} x {cluster.n}",
                 "two CTAs along M share each load of B" if cluster.m == 2 else "nothing is shared", (),
                 "schedule" if written else "compiler"),
        Decision("stages", str(lowered.pipeline.stages), f"{smem.total} of {smem.limit} bytes used"),
    )  # fmt: skip
