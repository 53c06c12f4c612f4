"""What the template of tcgen05 GEMMs substitutes: the plan as names, numbers and short pieces of Python text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fp4cc.codegen.context import Constant, frame, mentions
from fp4cc.codegen.hooks import EpilogueText
from fp4cc.ir.lowered import Load, LoweredGemm, SmemBuffer
from fp4cc.passes.params import clips
from fp4cc.passes.params import sizes as kernel_sizes

#: Names of the kernel template that are in scope where the epilogue's text stands.
TAKEN = (
    "SMEM", "CTA_GROUP", "TILE_M", "TILE_N", "TILE_K", "CLUSTER_M", "CLUSTER_N", "CLUSTER_SIZE", "BAND", "STAGES",
    "ACC_STAGES", "ACC_STRIDE", "INSTRUCTION", "EPILOGUE_WARPS", "LOAD_WARP", "MMA_WARP", "Path", "wait", "place",
    "launch", "compile", "block", "blocks", "rank", "cta_m", "cta_n", "first_tile", "tile_step", "tile", "tile_m",
    "tile_n", "tmem", "stage", "parity", "acc_stage", "acc_parity", "buffer", "lanes", "step", "source",
    "make_ptr", "make_fake_stream", "k_tiles", "tiles_m", "tiles_n", "tiles", "i",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoadText:
    """One TMA load as text: the call, and the condition on the CTA where only one of a group issues it."""

    call: str
    arguments: tuple[str, ...]
    only_if: str | None


def template_context(lowered: LoweredGemm, epilogue: EpilogueText) -> dict[str, Any]:
    """The names a template of templates/sm100 may use."""
    text = epilogue.hooks
    overlapped = lowered.tmem.overlapped(lowered.tile.n)
    problem, tile, cluster = lowered.problem, lowered.tile, lowered.cluster
    sizes = kernel_sizes(problem, tile, lowered.raster, lowered.epilogue)
    batched = bool(problem.batch_axes)
    # Of an unzipped product a sub-tile takes as many columns from each half.
    step = lowered.epilogue.subtile * len(lowered.epilogue.accumulators)
    width = "TILE_N" if lowered.epilogue.group is None else "(TILE_N // 2)"
    return {
        **frame(lowered, epilogue, title(lowered), plan(lowered)),
        "constants": _constants(lowered, overlapped),
        "buffers": [_buffer(lowered, buffer) for buffer in lowered.smem.buffers],
        "sizes": [{"name": n, "value": int(v), "note": what} for n, v, what in sizes if isinstance(v, int)],
        "mma": lowered.mma,
        "tmem": lowered.tmem,
        "arrivals": {name: lowered.pipeline.barrier(name).arrivals for name in ("ab_empty", "acc_empty")},
        "sync": _sync(lowered),
        "batched": batched,
        "band": lowered.raster.band,
        "loads": [_load(lowered, load) for load in lowered.pipeline.loads],
        "load_place": _place(batched, problem.a.batched or problem.b.batched),
        "mma_place": _place(batched, batch_used=False),
        "epilogue_place": _place(batched, mentions(text, "batch")),
        "m0": f"(tile_m * CLUSTER_M + cta_m) * {tile.cta_m}" if cluster.m > 1 else f"tile_m * {tile.cta_m}",
        "n0": "(tile_n * CLUSTER_N + cta_n) * TILE_N" if cluster.n > 1 else "tile_n * TILE_N",
        "epilogue_columns": lowered.epilogue.tile_n,
        "epilogue_n0": f"(tile_n * CLUSTER_N + cta_n) * {width}" if cluster.n > 1 else f"tile_n * {width}",
        "group": lowered.epilogue.group,
        "overlapped": overlapped,
        "half_atoms": tile.n % 128 != 0,
        "atom": "atom" if lowered.mma.instructions_per_atom > 1 else "i",
        "commit_empty": _commit_empty(lowered),
        "commit_acc": ["multicast_mask=0b11 << rank"] if lowered.mma.cta_group == 2 else [],
        "sfb": "sfb_column" if tile.n % 128 else "SFB_COLUMN",
        "maybe_no_k": not isinstance(problem.k, int) or problem.k == 0,
        "zero_columns": lowered.tmem.acc_stride + tile.n,
        "subtile": lowered.epilogue.subtile,
        "clips": clips(lowered.epilogue),
        "steps": f"TILE_N // {step}",
        "release_step": lowered.tmem.release_after - 1 if overlapped and step == 32 else f"TILE_N // {step} - 1",
        "release_why": "what the next tile overwrites has been read" if overlapped else "all of it has been read",
        "release": _release(lowered, overlapped),
        "uses": {name: mentions(text, name) for name in ("lane", "row", "row_valid", "first_column")},
    }


def title(lowered: LoweredGemm) -> str:
    """One line: what the kernel computes, in kinds."""
    a, b = lowered.problem.a, lowered.problem.b
    return f"{lowered.name}: {a.arg} ({a.format.name}) times {b.arg} ({b.format.name}) for {lowered.target}."


def plan(lowered: LoweredGemm) -> str:
    """How it was lowered, in a few words."""
    tile, cluster, mma = lowered.tile, lowered.cluster, lowered.mma
    makers = "a pair of CTAs" if mma.cta_group == 2 else "each CTA"
    clusters = f", clusters of {cluster.m} x {cluster.n} CTAs that share loads by multicast" if cluster.size > 1 else ""
    overlapping = " overlapping" if lowered.tmem.overlapped(tile.n) else ""
    accumulators = f"two{overlapping} accumulators" if lowered.tmem.acc_buffers == 2 else "one accumulator"
    return (
        f"Tiles of {tile.m} x {tile.n}, {tile.k} deep, made by {makers} with kind::{mma.kind}{clusters}. "
        f"{lowered.pipeline.stages} stages of operands in shared memory, {accumulators} in tensor "
        "memory; persistent: a cluster takes every n-th tile, its epilogue under the next tile's mainloop."
    )


def _constants(lowered: LoweredGemm, overlapped: bool) -> list[list[Constant]]:
    """Groups of constants: the tile, the ring of stages, tensor memory, the warps."""
    tile, cluster, tmem, smem, mma = lowered.tile, lowered.cluster, lowered.tmem, lowered.smem, lowered.mma
    pair = " by a pair of CTAs, each with half of its rows" if mma.cta_group == 2 else ""
    shape = [Constant("TILE_N", tile.n), Constant("TILE_K", tile.k)]
    shape.insert(0, Constant("TILE_M", tile.m, f"rows of a tile: made{pair}") if pair else Constant("TILE_M", tile.m))
    if cluster.size > 1:
        shape.append(Constant("CLUSTER_M", cluster.m, "CTAs of a cluster, by tile"))
        shape.append(Constant("CLUSTER_N", cluster.n))
        shape.append(Constant("CLUSTER_SIZE", cluster.size))
    if lowered.raster.band > 1:
        shape.append(Constant("BAND", lowered.raster.band, "cluster tiles side by side before the next row of them"))
    barrier = lowered.pipeline.barrier("ab_full")
    ring = [
        Constant("STAGES", lowered.pipeline.stages),
        Constant("A_BYTES", smem.buffer("a_smem").bytes, "of one stage"),
        Constant("B_BYTES", smem.buffer("b_smem").bytes),
        Constant("SFA_BYTES", smem.buffer("sfa_smem").bytes),
        Constant("SFB_BYTES", smem.buffer("sfb_smem").bytes),
        Constant("STAGE_TX_BYTES", barrier.tx_bytes, _tx_note(lowered)),
    ]
    columns = [
        Constant("TMEM_COLUMNS", tmem.columns),
        Constant("ACC_STAGES", lowered.pipeline.barrier("acc_full").stages),
        Constant("SFA_COLUMN", tmem.sfa),
        Constant("SFB_COLUMN", tmem.sfb),
        Constant("INSTRUCTION", f"0x{mma.descriptor:08X}", _instruction_note(lowered)),
    ]
    if overlapped:
        columns.insert(2, Constant("ACC_STRIDE", tmem.acc_stride, "two accumulators that share columns"))
    warps = [
        Constant("EPILOGUE_WARPS", 4, "the first ones: each reads its quarter of the tensor memory lanes"),
        Constant("LOAD_WARP", 4),
        Constant("MMA_WARP", 5),
    ]
    return [shape, ring, columns, warps]


def _tx_note(lowered: LoweredGemm) -> str:
    mma, problem = lowered.mma, lowered.problem
    padded = [o.arg for o in (problem.a, problem.b) if mma.kind == "mxf8f6f4" and o.format.bits < 8]
    notes = ["of both CTAs"] if mma.cta_group == 2 else []
    if padded:
        notes.append(f"TMA counts the packed bytes of {' and '.join(padded)}")
    return "; ".join(notes)


def _instruction_note(lowered: LoweredGemm) -> str:
    mma, problem = lowered.mma, lowered.problem
    return (
        f"M = {mma.m}, N = {mma.n}, {problem.a.format.element} x {problem.b.format.element}, "
        f"{'UE8M0' if mma.scale == 'e8m0' else 'UE4M3'} scales"
    )


def _buffer(lowered: LoweredGemm, buffer: SmemBuffer) -> dict[str, Any]:
    """A buffer's allocation: element type and count, by name where there is one."""
    if buffer.name in ("a_smem", "b_smem", "sfa_smem", "sfb_smem"):
        count = f"STAGES * {buffer.name.removesuffix('_smem').upper()}_BYTES"
        return {"name": buffer.name, "dtype": "cutlass.Int8", "count": count, "align": buffer.align}
    if buffer.name in ("ab_full", "ab_empty"):
        return {"name": buffer.name, "dtype": "cutlass.Int64", "count": "STAGES", "align": 8}
    if buffer.name in ("acc_full", "acc_empty"):
        return {"name": buffer.name, "dtype": "cutlass.Int64", "count": "ACC_STAGES", "align": 8}
    if buffer.name == "tmem_address":
        return {"name": buffer.name, "dtype": "cutlass.Int32", "count": 1, "align": 4}
    return {"name": buffer.name, "dtype": "cutlass.Int8", "count": buffer.total, "align": buffer.align}


def _place(batched: bool, batch_used: bool) -> str:
    names = "tile_m, tile_n"
    if batched:
        names += ", batch" if batch_used else ", _"
    return f"{names} = place(tile, tiles_m, tiles_n)"


def _sync(lowered: LoweredGemm) -> str:
    if lowered.cluster.size == 1:
        return "prims.barrier_cta_sync()"
    return "prims.barrier_cluster_arrive()\n    prims.barrier_cluster_wait()"


def _load(lowered: LoweredGemm, load: Load) -> LoadText:
    """The call that issues a load for one stage."""
    group = lowered.mma.cta_group
    of_a = load.buffer in ("a_smem", "sfa_smem")
    index = _slice_index(lowered, load, of_a)
    offset = f"stage * {load.buffer.removesuffix('_smem').upper()}_BYTES"
    if index is not None:
        offset += f" + {index} * {load.slice_bytes}"
    coordinates = _coordinates(lowered, load, index, of_a)
    arguments = [f"{load.buffer}.subview({offset})", f"{load.tensor_map}.get_ptr()", f"({coordinates})", "full"]
    if not load.multicast and group == 1:
        return LoadText("prims.cp_async_bulk_tensor_shared_cta_global", tuple(arguments), None)
    arguments.append("[]")
    if load.multicast:
        arguments.append(f"multicast_mask={_mask(lowered, load, of_a)}")
    if group == 2:
        arguments.append("group=CTA_GROUP")
    only_if = None
    if load.slices == 1 and load.multicast:
        only_if = "cta_n == 0" if of_a else "cta_m == 0"
    return LoadText("prims.cp_async_bulk_tensor_shared_cluster_global", tuple(arguments), only_if)


def _slice_index(lowered: LoweredGemm, load: Load, of_a: bool) -> str | None:
    """Which slice this CTA issues, or None where it issues the whole."""
    if load.slices == 1:
        return None
    if of_a:
        return "cta_n"
    if load.buffer == "b_smem" and lowered.mma.cta_group == 2:
        return "(cta_m // 2)"
    return "cta_m"


def _coordinates(lowered: LoweredGemm, load: Load, index: str | None, of_a: bool) -> str:
    """Coordinates of the box in the tensor map, innermost first."""
    operand = lowered.problem.a if of_a else lowered.problem.b
    tensor_map = next(m for m in lowered.tensor_maps if m.name == load.tensor_map)
    batch = ", batch" if operand.batched else ""
    if load.buffer in ("a_smem", "b_smem"):
        rows = tensor_map.box[1]
        row = "m0" if of_a else "n0"
        if not of_a and lowered.mma.cta_group == 2:
            row += f" + cta_m % 2 * {lowered.tile.n // 2}"
        if index is not None:
            row += f" + {index} * {rows}"
        return f"k_tile * TILE_K, {row}{batch}"
    row = "m0 // 128" if of_a else "n0 // 128"
    atoms = tensor_map.box[2] * load.slices
    depth = "k_tile" if atoms == 1 else f"k_tile * {atoms}"
    if index is not None:
        depth += f" + {index}" + (f" * {tensor_map.box[2]}" if tensor_map.box[2] > 1 else "")
    return f"0, {row}, {depth}{batch}"


def _mask(lowered: LoweredGemm, load: Load, of_a: bool) -> str:
    """The multicast mask as a function of this CTA's place in the cluster."""
    cluster, group = lowered.cluster, lowered.mma.cta_group
    if of_a:
        base = sum(1 << (cluster.m * n) for n in range(cluster.n))
        return f"{base:#b} << cta_m"
    if load.buffer == "b_smem" and group == 2:
        base = sum(1 << m for m in range(0, cluster.m, 2))
        shift = "cta_m % 2" if cluster.n == 1 else "(cta_n * CLUSTER_M + cta_m % 2)"
        return f"{base:#b} << {shift}"
    base = (1 << cluster.m) - 1
    return f"{base:#b}" if cluster.n == 1 else f"{base:#b} << (cta_n * CLUSTER_M)"


def _commit_empty(lowered: LoweredGemm) -> list[str]:
    """The mask of the CTAs whose loads a stage held: all that share rows or columns with this one (or this pair)."""
    cluster, group = lowered.cluster, lowered.mma.cta_group
    if cluster.size == 1:
        return []
    row = sum(1 << (cluster.m * n) for n in range(cluster.n)) * ((1 << group) - 1)
    column = (1 << cluster.m) - 1
    if cluster.n == 1:
        mask = f"{column:#b}"
    elif cluster.m == group:
        mask = f"{row:#b}"
    else:
        mask = f"{row:#b} << cta_m | {column:#b} << (cta_n * CLUSTER_M)"
    return [f"multicast_mask={mask}"]


def _release(lowered: LoweredGemm, overlapped: bool) -> str:
    barrier = "acc_empty" if overlapped else "acc_empty.subview(acc_stage)"
    if lowered.mma.cta_group == 1:
        return f"prims.mbarrier_arrive({barrier})"
    return f"prims.mbarrier_arrive(prims.mapa({barrier}, rank - rank % 2))"
