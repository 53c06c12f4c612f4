"""What the template of Hopper's GEMM with weights in registers substitutes."""

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
from fp4cc.codegen.fragments import Call, Fragment
from fp4cc.codegen.parts import bytes_name
from fp4cc.codegen.placing import PlacesText, of_group, place_text, rows_end, search_text, start_text, used_by_a
from fp4cc.codegen.splitting import SplitText, split_text
from fp4cc.codegen.walking import WalkText, walk_of_exchanged
from fp4cc.codegen.wgmma_rs.stores import StoreText, store_text
from fp4cc.codegen.wgmma_rs.weights import WeightsText, atom_rows, first_row, weights_text
from fp4cc.ir.lowered import Load, LoweredKernel, WgmmaRS
from fp4cc.ir.lowered_epilogue import CTA_ROWS

#: Barriers of the second warpgroup that the text finds by those of the first.
_UNNAMED = ("STORE_BARRIER_2", "SPAN_BARRIER_2")


@dataclass(frozen=True, slots=True)
class FastText:
    """What only products of FP8 substitute.

    `ordered`: warpgroups take turns. `absent`: rows of a tile that x does not have. `infinite`: weights of 2^128
    and more are.
    """

    ordered: bool
    absent: int
    infinite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WgmmaRSText:
    """`sums`: those of a thread. `runs`, `copies`, `parts`: runs of 64, 32 and 128 rows of a tile.

    `columns`: those of an instruction. `registers`: setmaxnreg of the roles. `mma_needs`: which coordinates of a tile
    the multiplying warps use. `fast`: where it multiplies FP8.
    """

    rows: int
    sums: int
    runs: int
    copies: int
    parts: int
    turns: bool
    fast: FastText | None
    numbered: bool
    stages: int
    wide: str
    weights: WeightsText
    store: StoreText | None
    atom_rows: Fragment
    loads: list[Call]
    exchange: str | None
    columns: int
    registers: dict[str, int]
    arrivals: dict[str, int]
    waits: dict[str, str]
    places: PlacesText
    m0: str
    end: str
    n0: str
    epilogue_n0: str
    mma_needs: frozenset[str]
    walk: WalkText
    split: SplitText | None
    crossing: str


def template_context(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Frame, WgmmaRSText]:
    """What the templates of templates/sm90/wgmma_rs use."""
    problem, tile, engine = lowered.products, lowered.tile, lowered.engine_as(WgmmaRS)
    batched = bool(problem.batch_axes) and problem.groups is None  # `place` finds a tile in its group
    readers = [each for each in engine.weights if each.scales is not None and each.scales.reader is not None]
    rows_of_atoms = atom_rows(lowered)
    around = frame(
        lowered,
        epilogue,
        title=title(lowered),
        plan=plan(lowered),
        constants=_constants(lowered),
        spaces=[SMEM],
        buffers=[BufferText.of_ring(buffer) for buffer in lowered.smem.buffers],
        batched=batched,
        band=lowered.walk.band,
    )
    reads = exchanged_reads(lowered.epilogue, len(problem.accumulators), tile.n)
    parts = max(1, tile.m // CTA_ROWS)
    return around, WgmmaRSText(
        rows=engine.rows,
        sums=engine.rows // 2,
        runs=engine.rows // 64,
        copies=engine.rows // 32,
        parts=parts,
        turns=engine.turns,
        fast=_fast(lowered),
        numbered=bool(readers) or any(w.scales is not None and w.scales.stages_per_atom > 1 for w in engine.weights),
        stages=engine.step_stages,
        wide=engine.wide,
        weights=weights_text(lowered),
        atom_rows=rows_of_atoms,
        loads=[_load(lowered, load) for load in lowered.loads],
        exchange=None if lowered.exchange is None else lowered.exchange.buffer,
        columns=min(engine.rows, CTA_ROWS) if lowered.exchange is not None else engine.rows,
        store=store_text(lowered, epilogue) if engine.stores else None,
        registers=dict(lowered.launch.registers),
        arrivals=arrivals(lowered.rings),
        waits=waits(lowered.rings),
        places=_places(lowered, epilogue, parts),
        m0=of_group(lowered, "tile_m * TILE_M"),
        end="rows_of_x" if problem.groups is None else "group_end",
        n0="tile_n * TILE_N",
        epilogue_n0="tile_n * TILE_N" if lowered.epilogue.group is None else "tile_n * (TILE_N // 2)",
        mma_needs=_mma_needs(engine, bool(readers or rows_of_atoms), parts),
        split=split_text(lowered, "(mma_warp * 32 + lane)", "mma_warp == 0"),
        walk=walk_of_exchanged(lowered.epilogue, epilogue, around.uses, reads, rows_end(lowered)),
        crossing=_crossing(engine),
    )


def _places(lowered: LoweredKernel, epilogue: EpilogueText, parts: int) -> PlacesText:
    """How each role's warps find their tiles."""
    problem, engine = lowered.products, lowered.engine_as(WgmmaRS)
    loaded = any(operand.batched for product in problem.products for operand in (product.a, product.b))
    read = any(w.operand.batched for w in engine.weights if w.scales is not None and w.scales.reader is not None)
    stored = engine.stores and _batched_epilogue(lowered, epilogue)
    ends = {"group_end", *(["group_first"] if lowered.epilogue.problem.ragged else [])}
    return PlacesText(
        start=start_text(lowered),
        search=search_text(lowered),
        load=place_text(lowered, batch=loaded, others=used_by_a(lowered)),
        mma=place_text(lowered, batch=read or stored, others=ends if parts > 1 else ()),
        epilogue=place_text(lowered, batch="batch" in epilogue.uses, others={*epilogue.uses, *ends}),
    )


def _crossing(engine: WgmmaRS) -> str:
    """What writes a thread's sums where they cross to the epilogue."""
    first, count = ("0", engine.rows // 2) if engine.fast else ("64 * part", CTA_ROWS // 2)
    return f"store_transposed(acc_registers, {first}, {count}, exchange, EXCHANGE_PITCH)"


def _fast(lowered: LoweredKernel) -> FastText | None:
    engine = lowered.engine_as(WgmmaRS)
    plain = lowered.kernel.arg(lowered.products.a.arg).format is None
    return FastText(engine.ordered, max(0, lowered.tile.m - engine.rows), plain) if engine.fast else None


def _mma_needs(engine: WgmmaRS, reads_by_row: bool, parts: int) -> frozenset[str]:
    """Which coordinates of a tile the multiplying warps use."""
    rows = ["m0"] if parts > 1 or engine.stores else []
    return frozenset([*rows, *(["n0"] if reads_by_row or engine.stores else [])])


def title(lowered: LoweredKernel) -> str:
    """One line: what the kernel computes, in kinds."""
    names = [f"{p.a.arg} ({p.a.name}) times {p.b.title} ({p.b.name})" for p in lowered.products.products]
    return f"{lowered.name}: {', '.join(names)} for {lowered.target}."


def plan(lowered: LoweredKernel) -> str:
    """How it was lowered, in a few words."""
    engine, tile = lowered.engine_as(WgmmaRS), lowered.tile
    names = " and ".join(dict.fromkeys(each.operand.arg for each in engine.weights))
    made = f"{engine.wide} in registers, exactly, and multiply that by {lowered.products.a.arg} with wgmma, transposed"
    meanwhile = "while they make the next stage's"
    if engine.fast:
        made = f"e5m2 in registers, exactly, and multiply that by {lowered.products.a.arg} with wgmma, transposed"
        meanwhile = "and add its sums in f32 while others multiply"
    then = "four warps run the epilogue under the next tile's mainloop"
    if engine.stores:
        then = "they turn the result around and have TMA store it"
    return (
        f"Tiles of {tile.m} x {tile.n}. A warp keeps {lowered.rings.stages} stages of operands in shared memory by "
        f"TMA; eight warps make {names} {made}, {meanwhile}; {then}. Persistent: a CTA takes every n-th tile."
    )


def _batched_epilogue(lowered: LoweredKernel, epilogue: EpilogueText) -> bool:
    """Whether storing a tile takes its batch."""
    return "batch" in epilogue.uses or bool(lowered.epilogue.problem.batch_axes)


def _constants(lowered: LoweredKernel) -> list[list[Constant]]:
    tile, smem, engine = lowered.tile, lowered.smem, lowered.engine_as(WgmmaRS)
    accumulators = len(lowered.products.accumulators)
    shape = [
        Constant("TILE_M", tile.m),
        Constant("TILE_N", tile.n, f"of each of {accumulators} accumulators" if accumulators > 1 else ""),
        Constant("STAGE_K", engine.stage_k),
    ]
    if lowered.walk.band > 1:
        shape.append(Constant("BAND", lowered.walk.band, "tiles side by side before the next row of them"))
    ring = [Constant("STAGES", lowered.rings.stages)]
    for buffer in smem.buffers:
        name = bytes_name(buffer.part) if buffer.part is not None else None
        if name is not None and all(constant.name != name for constant in ring):
            ring.append(Constant(name, buffer.bytes, "of one stage" if len(ring) == 1 else ""))
    ring.append(Constant("STAGE_TX_BYTES", lowered.mainloops[0].tx_bytes))
    warps: list[Constant] = []
    if lowered.exchange is not None:
        note = "bytes of a row of sums, padded against bank conflicts"
        warps.append(Constant("EXCHANGE_PITCH", lowered.exchange.pitch, note))
        note = "the first of those that multiply, after the epilogue's"
        warps.append(Constant("MMA_WARP", lowered.role_of("mma").first, note))
    note = "after those that multiply; it has a warpgroup of its own"
    warps += [
        Constant("LOAD_WARP", lowered.role_of("load").first, note),
        *(b for b in named_barriers(lowered) if b.name not in _UNNAMED),
    ]
    return [shape, ring, warps]


def _load(lowered: LoweredKernel, load: Load) -> Call:
    """The call that issues a load for one stage."""
    engine, problem = lowered.engine_as(WgmmaRS), lowered.products
    if load.part.role == "A":
        operand, coordinates = problem.a, "k * STAGE_K, m0"
    else:
        weights = engine.weights[load.part.place]
        operand, row = weights.operand, first_row(lowered, weights)
        coordinates = f"k * {weights.row_bytes}, {row}"
        if load.part.scales and weights.scales is not None:
            steps = weights.scales.stages_per_atom
            row = row if row.isidentifier() else f"({row})"
            coordinates = f"0, {row} // 128, {'k' if steps == 1 else f'k // {steps}'}"
    batch = ", batch" if operand.batched else ""
    buffer = f"{load.buffer}.subview(stage * {bytes_name(load.part)})"
    arguments = (buffer, f"{load.tensor_map}.get_ptr()", f"({coordinates}{batch})", "full")
    return Call("prims.cp_async_bulk_tensor_shared_cta_global", arguments)
