"""What the template of FP8 GEMMs with f32 scales substitutes: names, numbers and short pieces of Python text."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp4cc.codegen.context import (
    SMEM,
    BufferText,
    Constant,
    Frame,
    arrivals,
    cta_group,
    frame,
    named_barriers,
    place_call,
)
from fp4cc.codegen.epilogue.exchanged import exchanged_reads
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Function
from fp4cc.codegen.parts import bytes_name
from fp4cc.codegen.promoted_scales import factor_address, factor_functions
from fp4cc.codegen.walking import WalkText, walk_of_exchanged
from fp4cc.ir.lowered import LoweredKernel, Promotion, SmemBuffer, Tcgen05, Tile
from fp4cc.ir.part import Part

_QUARTERS = "the first ones: each reads its quarter of the tensor memory lanes"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotedText:
    """What the template of promoted FP8 GEMMs substitutes; `loads` are the arguments of the loads of a stage."""

    tile: Tile
    arrivals: dict[str, int]
    loads: list[list[str]]
    load_place: str
    epilogue_place: str
    columns_of_b: bool
    factor_bytes: int
    a_address: list[str]
    a_valid: str
    n0: str
    b_address: list[str]
    b_valid: str
    walk: WalkText


def template_context(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Frame, PromotedText]:
    """What templates/sm100/promoted.py.j2 uses."""
    problem, tile, promotion = lowered.products, lowered.tile, _promotion(lowered)
    batched = bool(problem.batch_axes)
    a, b = promotion.a, promotion.b
    batch_in_scales = a.reader.batched or b.reader.batched
    # Of an unzipped product the epilogue counts the columns of one half.
    unzipped = lowered.epilogue.group is not None
    first_of_b = "tile_n * TILE_N" if unzipped else "n0"
    row_of_b = f"{first_of_b} + thread" if b.each_row else first_of_b
    around = frame(
        lowered,
        epilogue,
        title=title(lowered),
        plan=plan(lowered),
        constants=_constants(lowered),
        spaces=[SMEM, cta_group(1)],
        buffers=[_buffer(buffer) for buffer in lowered.smem.buffers],
        batched=batched,
        band=lowered.walk.band,
    )
    # Every thread has found its row already, for its scale.
    uses = replace(around.uses, row=False)
    return around, PromotedText(
        tile=tile,
        arrivals=arrivals(lowered.rings),
        loads=_loads(lowered),
        load_place=place_call(batched, problem.a.batched or problem.b.batched),
        epilogue_place=place_call(batched, batch_in_scales or "batch" in epilogue.uses),
        columns_of_b=b.each_row,
        factor_bytes=4 * tile.n,
        a_address=factor_address(a, "row"),
        a_valid=f"row < {a.rows}",
        n0="tile_n * (TILE_N // 2)" if unzipped else "tile_n * TILE_N",
        b_address=factor_address(b, row_of_b),
        b_valid=f"{row_of_b} < {b.rows}",
        walk=walk_of_exchanged(lowered.epilogue, epilogue, uses, exchanged_reads(lowered.epilogue, 1, tile.n)),
    )


def _promotion(lowered: LoweredKernel) -> Promotion:
    """Where scales meet sums. TypeError where they do not."""
    if lowered.promotion is None:
        raise TypeError(f"{lowered.name} promotes nothing")
    return lowered.promotion


def title(lowered: LoweredKernel) -> str:
    """One line: what the kernel computes, in kinds."""
    a, b = lowered.products.a, lowered.products.b
    return f"{lowered.name}: {a.arg} ({a.format.name}) times {b.arg} ({b.format.name}) for {lowered.target}."


def plan(lowered: LoweredKernel) -> str:
    """How it was lowered, in a few words."""
    tile = lowered.tile
    return (
        f"Tiles of {tile.m} x {tile.n}. Each step of {tile.k} along K makes a partial sum in tensor memory "
        "(kind::f8f6f4), which four warps scale and add to sums in their registers under the next step's MMAs. "
        f"{lowered.rings.stages} stages of operands in shared memory; persistent: a CTA takes every n-th tile."
    )


def _constants(lowered: LoweredKernel) -> list[list[Constant]]:
    tile, smem, engine = lowered.tile, lowered.smem, lowered.engine_as(Tcgen05)
    shape = [Constant("TILE_M", tile.m), Constant("TILE_N", tile.n), Constant("TILE_K", tile.k, "what a scale covers")]
    if lowered.walk.band > 1:
        shape.append(Constant("BAND", lowered.walk.band, "tiles side by side before the next row of them"))
    ring = [
        Constant("STAGES", lowered.rings.stages),
        Constant("A_BYTES", smem.buffer(Part("A").buffer).bytes, "of one stage"),
        Constant("B_BYTES", smem.buffer(Part("B").buffer).bytes),
    ]
    columns = [
        Constant("TMEM_COLUMNS", engine.tmem.columns),
        Constant("ACC_STAGES", lowered.rings.barrier("acc_full").stages, "partial sums"),
        Constant("INSTRUCTION", f"{engine.mma.descriptor:#010x}", f"M = {tile.m}, N = {tile.n}, f32 sums"),
        Constant("EXCHANGE_PITCH", lowered.crossing.pitch, "bytes of a row of sums, padded against bank conflicts"),
    ]
    warps = [
        Constant("EPILOGUE_WARPS", lowered.role_of("epilogue").warps, _QUARTERS),
        Constant("LOAD_WARP", lowered.role_of("load").first),
        Constant("MMA_WARP", lowered.role_of("mma").first),
        *named_barriers(lowered),
    ]
    return [shape, ring, columns, warps]


def _buffer(buffer: SmemBuffer) -> BufferText:
    counts = {
        "ab_full": ("cutlass.Int64", "STAGES"),
        "ab_empty": ("cutlass.Int64", "STAGES"),
        "acc_full": ("cutlass.Int64", "ACC_STAGES"),
        "acc_empty": ("cutlass.Int64", "ACC_STAGES"),
        "exchange_smem": ("cutlass.Int8", "TILE_M * EXCHANGE_PITCH"),
        "tmem_address": ("cutlass.Int32", "1"),
    }
    if buffer.part is not None:
        counts[buffer.name] = ("cutlass.Int8", f"STAGES * {bytes_name(buffer.part)}")
    dtype, count = counts.get(buffer.name, ("cutlass.Int8", str(buffer.total)))
    return BufferText(buffer.name, dtype, count, buffer.align)


def _loads(lowered: LoweredKernel) -> list[list[str]]:
    """The arguments of the loads of a stage."""
    found: list[list[str]] = []
    for load, operand, row in zip(lowered.loads, (lowered.products.a, lowered.products.b), ("m0", "n0"), strict=True):
        offset = f"stage * {bytes_name(load.part)}"
        batch = ", batch" if operand.batched else ""
        place = f"(k_tile * TILE_K, {row}{batch})"
        found.append([f"{load.buffer}.subview({offset})", f"{load.tensor_map}.get_ptr()", place, "full"])
    return found


def scale_functions(lowered: LoweredKernel) -> list[Function]:
    """The functions that find scales."""
    return factor_functions(_promotion(lowered))
