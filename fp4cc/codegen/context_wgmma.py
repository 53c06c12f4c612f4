"""What the template of Hopper's GEMM substitutes: the plan as names, numbers and short pieces of Python text."""

from __future__ import annotations

from typing import Any

from fp4cc.codegen.context import Constant, Panels, frame, mentions, place_call
from fp4cc.codegen.hooks import EpilogueText
from fp4cc.ir.lowered import Load, SmemBuffer
from fp4cc.ir.lowered_wgmma import Dequantized, LoweredWgmma
from fp4cc.passes.params import sizes as kernel_sizes

#: Names of the kernel template that are in scope where the epilogue's text stands.
TAKEN = (
    "SMEM", "TILE_M", "TILE_N", "TILE_K", "CLUSTER_M", "BAND", "STAGES", "SLOTS", "OPERAND_BYTES", "B_OPERANDS",
    "OPERAND_BARRIER", "EXCHANGE_PITCH", "LOAD_WARP", "Path", "wait", "place", "launch", "compile", "block", "blocks",
    "cta_m", "first_tile", "tile_step", "tile", "tile_m", "tile_n", "stage", "parity", "slot", "exchange",
    "acc_registers", "a_desc", "b_desc", "a_part", "b_part", "sums", "sum_row", "sum_column", "half", "first",
    "address", "source", "words", "make_ptr", "make_fake_stream", "k_tiles", "tiles_m", "tiles_n", "tiles", "i",
    "dequantize_row", "dequantize_a", "dequantize_b", "panel", "panel0", "step",
)  # fmt: skip

_PITCH = 4 * (128 + 4)  # bytes: 4 floats of padding keep both sides of the exchange free of bank conflicts


def helpers(lowered: LoweredWgmma) -> set[str]:
    """The library functions that the template calls."""
    of_operands = {name for o in lowered.operands for name in (_pairs(o), _scales(o))}
    fixed = {
        "shared_address", "shared_load_word", "shared_load_4_words", "shared_store_4_words", "shared_store_2_floats",
        "scaled", "mma_64_rows", "clear", "operand_descriptor", "from_bits",
    }  # fmt: skip
    return fixed | of_operands


def template_context(lowered: LoweredWgmma, epilogue: EpilogueText) -> dict[str, Any]:
    """The names a template of templates/sm90 may use."""
    problem, tile, cluster = lowered.problem, lowered.tile, lowered.cluster
    batched = bool(problem.batch_axes)
    sizes = kernel_sizes(problem, tile, lowered.raster, lowered.epilogue)
    return {
        **frame(lowered, epilogue, title(lowered), plan(lowered)),
        "tile": tile,
        "constants": _constants(lowered),
        "buffers": [_buffer(buffer) for buffer in lowered.smem.buffers],
        "sizes": [{"name": n, "value": int(v), "note": what} for n, v, what in sizes if isinstance(v, int)],
        "operands": [_operand(o, lowered) for o in lowered.operands],
        "functions": _functions(lowered),
        "arrivals": lowered.pipeline.barrier("ab_empty").arrivals,
        "sync": "prims.barrier_cluster_arrive()\n    prims.barrier_cluster_wait()"
        if cluster.size > 1
        else "prims.barrier_cta_sync()",
        "batched": batched,
        "band": lowered.raster.band,
        "loads": [_load(lowered, load) for load in lowered.pipeline.loads],
        "load_place": place_call(batched, problem.a.batched or problem.b.batched),
        "epilogue_place": place_call(batched, mentions(epilogue.hooks, "batch")),
        "m0": "(tile_m * CLUSTER_M + cta_m) * TILE_M" if cluster.m > 1 else "tile_m * TILE_M",
        "subtile": lowered.epilogue.subtile,
        "panels": Panels.of(lowered.epilogue),
        "uses": {name: mentions(epilogue.hooks, name) for name in ("row", "row_valid", "first_column")},
    }


def title(lowered: LoweredWgmma) -> str:
    """One line: what the kernel computes, in kinds."""
    a, b = lowered.operands
    return f"{lowered.name}: {a.arg} ({a.format}) times {b.arg} ({b.format}) for {lowered.target}."


def plan(lowered: LoweredWgmma) -> str:
    """How it was lowered, in a few words."""
    clusters = f", clusters of {lowered.cluster.m} CTAs that share loads of B" if lowered.cluster.size > 1 else ""
    return (
        f"Tiles of {lowered.tile.m} x {lowered.tile.n}{clusters}. A warp keeps {lowered.pipeline.stages} stages of "
        "codes and scales in shared memory by TMA; four warps dequantize them to bf16, exactly, and multiply with "
        "wgmma while the next step is dequantized. Persistent: a cluster takes every n-th tile."
    )


def _constants(lowered: LoweredWgmma) -> list[list[Constant]]:
    tile, smem = lowered.tile, lowered.smem
    shape = [Constant("TILE_M", tile.m), Constant("TILE_N", tile.n), Constant("TILE_K", tile.k)]
    if lowered.cluster.m > 1:
        shape.append(Constant("CLUSTER_M", lowered.cluster.m, "CTAs of a cluster: neighbors along M"))
    if lowered.raster.band > 1:
        shape.append(Constant("BAND", lowered.raster.band, "cluster tiles side by side before the next row of them"))
    ring = [
        Constant("STAGES", lowered.pipeline.stages),
        Constant("A_BYTES", smem.buffer("a_smem").bytes, "of one stage"),
        Constant("B_BYTES", smem.buffer("b_smem").bytes),
        Constant("SFA_BYTES", smem.buffer("sfa_smem").bytes),
        Constant("SFB_BYTES", smem.buffer("sfb_smem").bytes),
        Constant("STAGE_TX_BYTES", lowered.pipeline.barrier("ab_full").tx_bytes),
    ]
    operands = [
        Constant("SLOTS", lowered.slots, "dequantized operands: multiplied, about to be, being written"),
        Constant("OPERAND_BYTES", lowered.operand_bytes, "of a slot: 128 rows of 64 bf16"),
        Constant("B_OPERANDS", "SLOTS * OPERAND_BYTES", "where B's slots start"),
        Constant("EXCHANGE_PITCH", _PITCH, "bytes of a row of sums, padded against bank conflicts"),
    ]
    warps = [
        Constant("LOAD_WARP", 4, "after the four that dequantize, multiply and run the epilogue"),
        Constant("OPERAND_BARRIER", 2, "the named barrier of those four"),
    ]
    return [shape, ring, operands, warps]


def _buffer(buffer: SmemBuffer) -> dict[str, Any]:
    base = buffer.name.removesuffix("_smem").upper()
    if buffer.name == "operands":
        return {"name": buffer.name, "dtype": "cutlass.Int8", "count": "2 * B_OPERANDS", "align": buffer.align}
    if buffer.name in ("a_smem", "b_smem", "sfa_smem", "sfb_smem"):
        return {"name": buffer.name, "dtype": "cutlass.Int8", "count": f"STAGES * {base}_BYTES", "align": buffer.align}
    if buffer.name in ("ab_full", "ab_empty"):
        return {"name": buffer.name, "dtype": "cutlass.Int64", "count": "STAGES", "align": 8}
    return {"name": buffer.name, "dtype": "cutlass.Int8", "count": buffer.total, "align": buffer.align}


def _pairs(operand: Dequantized) -> str:
    return f"bf16_pairs_of_{operand.element}"


def _scales(operand: Dequantized) -> str:
    return f"bf16_scales_of_{operand.scale}"


def _function(operand: Dequantized, lowered: LoweredWgmma) -> str:
    """One function serves both operands where their formats are stored alike."""
    a, b = lowered.operands
    alike = (a.element, a.scale, a.block) == (b.element, b.scale, b.block)
    return "dequantize_row" if alike else f"dequantize_{operand.role}"


def _operand(operand: Dequantized, lowered: LoweredWgmma) -> dict[str, Any]:
    chunks = 16 // operand.bits  # of 8 elements, in 16 bytes of codes
    return {
        "role": operand.role,
        "function": _function(operand, lowered),
        "what": f"{operand.element} with {operand.scale} scales per {operand.block}",
        "row_bytes": operand.row_bytes,
        "loads": operand.row_bytes // 16,
        "chunks": chunks,
        "block": operand.block,
        "scales": _scales(operand),
        "pairs": _pairs(operand),
        "scales_per_step": operand.scales_per_step,
        "steps_per_atom": operand.steps_per_atom,
    }


def _functions(lowered: LoweredWgmma) -> list[dict[str, Any]]:
    return list({entry["function"]: entry for entry in (_operand(o, lowered) for o in lowered.operands)}.values())


def _load(lowered: LoweredWgmma, load: Load) -> dict[str, Any]:
    """The call that issues a load for one stage."""
    operand = lowered.operands[0] if load.buffer in ("a_smem", "sfa_smem") else lowered.operands[1]
    place = lowered.problem.a if operand.role == "a" else lowered.problem.b
    row = "m0" if operand.role == "a" else "n0"
    batch = ", batch" if place.batched else ""
    offset = f"stage * {load.buffer.removesuffix('_smem').upper()}_BYTES"
    share = load.slices > 1
    if share:
        offset += f" + cta_m * {load.slice_bytes}"
    if load.buffer in ("a_smem", "b_smem"):
        first = f"k_tile * {operand.row_bytes}"
        coordinates = f"{first}, {row}{f' + cta_m * {128 // load.slices}' if share else ''}{batch}"
    else:
        depth = "k_tile" if operand.steps_per_atom == 1 else f"k_tile // {operand.steps_per_atom}"
        first = f"cta_m * {256 // load.slices}" if share else "0"
        coordinates = f"{first}, {row} // 128, {depth}{batch}"
    arguments = [f"{load.buffer}.subview({offset})", f"{load.tensor_map}.get_ptr()", f"({coordinates})", "full"]
    if not share:
        return {"call": "prims.cp_async_bulk_tensor_shared_cta_global", "arguments": arguments}
    arguments += ["[]", f"multicast_mask={load.masks[0]:#b}"]
    return {"call": "prims.cp_async_bulk_tensor_shared_cluster_global", "arguments": arguments}
