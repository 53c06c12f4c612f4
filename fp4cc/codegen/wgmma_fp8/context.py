"""What the template of products of FP8 on Hopper substitutes."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.context import (
    SMEM,
    BufferText,
    Constant,
    Frame,
    arrivals,
    frame,
    named_barriers,
    waits,
)
from fp4cc.codegen.epilogue.exchanged import exchanged_reads
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Call, Fragment, Function
from fp4cc.codegen.gathered import RowLoad, gathered, numbers_text, row_load
from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.multicast import mask_text
from fp4cc.codegen.parts import bytes_name
from fp4cc.codegen.placing import PlacesText, first_used, of_group, place_text, places_text, rows_end
from fp4cc.codegen.promoted_scales import FactorsText, factor_functions, factors_by_batch, factors_text
from fp4cc.codegen.splitting import SplitText, split_text, steps_text
from fp4cc.codegen.walking import WalkText, walk_of_exchanged
from fp4cc.ir.lowered import FP8_TILE_K, Load, LoweredKernel, WgmmaFp8


@dataclass(frozen=True, slots=True, kw_only=True)
class WgmmaFp8Text:
    """What the templates of templates/sm90/wgmma_fp8 substitute.

    `columns`: of an instruction; `sums` those of a thread, in pairs, and as many of a step. `few`: both warpgroups have
    the same rows, and other columns; `rows` of A are loaded, and zeros follow them in a stage where they are `padded`.
    `registers`: setmaxnreg of the roles.
    """

    elements: str
    columns: int
    sums: int
    sum_pairs: int
    few: bool
    rows: int
    padded: bool
    ordered: bool
    steps: str
    some: str
    loads: list[Call]
    row_numbers: Fragment
    row_loads: list[RowLoad]
    promoted: FactorsText | None
    exchange: str
    registers: dict[str, int]
    arrivals: dict[str, int]
    waits: dict[str, str]
    sync: str
    places: PlacesText
    mma_place: Fragment
    m0: str
    n0: str
    walk: WalkText
    split: SplitText | None


def template_context(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Frame, WgmmaFp8Text]:
    """What the templates use."""
    problem, tile, engine, cluster = lowered.products, lowered.tile, lowered.engine_as(WgmmaFp8), lowered.cluster
    (product,) = problem.products
    around = frame(
        lowered,
        epilogue,
        title=f"{lowered.name}: {product.a.arg} ({product.a.name}) times {product.b.title} ({product.b.name}) for "
        f"{lowered.target}.",
        plan=plan(lowered),
        constants=_constants(lowered),
        spaces=[SMEM],
        buffers=[BufferText.of_ring(buffer) for buffer in lowered.smem.buffers],
        batched=bool(problem.batch_axes) and problem.groups is None,  # `place` finds a tile in its group
        band=lowered.walk.band,
    )
    columns = engine.columns(tile.n)
    others = first_used(lowered) if lowered.promotion is not None else ()
    return around, WgmmaFp8Text(
        elements=f"{product.a.element}.{product.b.element}",
        columns=columns,
        sums=columns // 2,
        sum_pairs=columns // 4,
        few=engine.few,
        rows=engine.rows,
        ordered=engine.ordered,
        padded=engine.rows < engine.stage_rows,
        steps=steps_text(lowered, "k_tiles"),
        some="k_tiles > 0" if lowered.split is None else "k_end > k_first",
        loads=[_load(lowered, load) for load in lowered.loads if not gathered(lowered.mainloops[0], load)],
        row_numbers=numbers_text(lowered),
        row_loads=[
            row_load(0, load, f"stage * {bytes_name(load.part)}", "k_tile * TILE_K")
            for load in lowered.loads
            if gathered(lowered.mainloops[0], load)
        ],
        promoted=factors_text(lowered),
        exchange=lowered.crossing.buffer,
        registers=dict(lowered.launch.registers),
        arrivals=arrivals(lowered.rings),
        waits=waits(lowered.rings),
        sync="prims.barrier_cluster_arrive()\n    prims.barrier_cluster_wait()"
        if cluster.size > 1
        else "prims.barrier_cta_sync()",
        places=places_text(lowered, epilogue.uses, by_batch=False),
        mma_place=place_text(lowered, batch=factors_by_batch(lowered), others=others),
        m0=of_group(lowered, "(tile_m * CLUSTER_M + cta_m) * TILE_M" if cluster.m > 1 else "tile_m * TILE_M"),
        n0="tile_n * TILE_N" if lowered.epilogue.group is None else "tile_n * (TILE_N // 2)",
        walk=walk_of_exchanged(
            lowered.epilogue, epilogue, around.uses, exchanged_reads(lowered.epilogue, 1, tile.n), rows_end(lowered)
        ),
        split=split_text(lowered, "(mma_warp * 32 + lane)", "mma_warp == 0"),
    )


def functions(lowered: LoweredKernel) -> list[Function]:
    """The functions that find factors of partial sums."""
    return factor_functions(lowered)


def plan(lowered: LoweredKernel) -> str:
    """How it was lowered, in a few words."""
    engine, tile = lowered.engine_as(WgmmaFp8), lowered.tile
    clusters = f", clusters of {lowered.cluster.m} CTAs that share loads of B" if lowered.cluster.size > 1 else ""
    scaled = "scaled and " if lowered.promotion is not None else ""
    have = f"{engine.rows} rows by half of the columns" if engine.few else "64 rows"
    return (
        f"Tiles of {tile.m} x {tile.n}{clusters}. A warp keeps {lowered.rings.stages} stages of operands in shared "
        f"memory by TMA; two warpgroups, with {have} each, multiply a stage with wgmma; its sums, of {FP8_TILE_K} "
        f"along K, are {scaled}added in f32 by one while the other multiplies. Four warps run the epilogue under the "
        f"next tile's mainloop. Persistent: a cluster takes every n-th tile."
    )


def _constants(lowered: LoweredKernel) -> list[list[Constant]]:
    tile = lowered.tile
    shape = [Constant("TILE_M", tile.m), Constant("TILE_N", tile.n), Constant("TILE_K", tile.k)]
    if lowered.cluster.m > 1:
        shape.append(Constant("CLUSTER_M", lowered.cluster.m, "CTAs of a cluster: neighbors along M"))
    if lowered.walk.band > 1:
        shape.append(Constant("BAND", lowered.walk.band, "cluster tiles side by side before the next row of them"))
    ring = [Constant("STAGES", lowered.rings.stages)]
    for buffer in lowered.smem.buffers:
        if buffer.part is not None:
            ring.append(Constant(bytes_name(buffer.part), buffer.bytes, "of one stage" if len(ring) == 1 else ""))
    ring.append(Constant("STAGE_TX_BYTES", lowered.mainloops[0].tx_bytes))
    warps = [
        Constant("EXCHANGE_PITCH", lowered.crossing.pitch, "bytes of a row of sums, padded against bank conflicts"),
        Constant("MMA_WARP", lowered.role_of("mma").first, "the first of those that multiply, after the epilogue's"),
        Constant(
            "LOAD_WARP",
            lowered.role_of("load").first,
            "after those that multiply; it has a warpgroup of its own",
        ),
        *named_barriers(lowered),
    ]
    return [shape, ring, warps]


def _load(lowered: LoweredKernel, load: Load) -> Call:
    """The call that issues a load for one stage."""
    operand, share = lowered.mainloops[0].operand(load.part), load.slices > 1
    offset = f"stage * {bytes_name(load.part)}" + (f" + cta_m * {load.slice_bytes}" if share else "")
    row = "m0" if load.part.role == "A" else whole_index(operand.half, "n0", "n_size", lowered.tile.n)
    if share:
        row = f"{row} + cta_m * {lowered.tile.n // load.slices}"
    batch = ", batch" if operand.batched else ""
    arguments = (
        f"{load.buffer}.subview({offset})",
        f"{load.tensor_map}.get_ptr()",
        f"(k_tile * TILE_K, {row}{batch})",
        "full",
    )
    if not share:
        return Call("prims.cp_async_bulk_tensor_shared_cta_global", arguments)
    mask = f"multicast_mask={mask_text(load.masks, lowered.cluster, '')}"
    return Call("prims.cp_async_bulk_tensor_shared_cluster_global", (*arguments, "[]", mask))
