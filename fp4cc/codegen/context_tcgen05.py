"""What the template of tcgen05 GEMMs substitutes: the plan as names, numbers and short pieces of Python text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fp4cc.codegen.context import (
    SMEM,
    BufferText,
    Constant,
    Frame,
    Panels,
    Uses,
    arrivals,
    cta_group,
    frame,
    named_barriers,
    waits,
)
from fp4cc.codegen.converters import ConverterLoop, arrive, batched, conversions, converter_loops
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Fragment, fragment, uses
from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.mainloops import LoadLoop, MmaLoop, ScaleColumn, half_atom_columns, load_loops, mma_loops, numbered
from fp4cc.codegen.multicast import mask_text, union_text
from fp4cc.codegen.parts import bytes_name
from fp4cc.codegen.placing import first_row, first_used, place_text, rows_end, search_text, start_text
from fp4cc.codegen.walking import WalkText, start
from fp4cc.ir.lowered import Load, LoweredKernel, Mainloop, Mma, SmemBuffer, Tcgen05, Tmem
from fp4cc.ir.lowered_converters import Converters
from fp4cc.ir.lowered_epilogue import EpilogueProgram, Half
from fp4cc.ir.part import Part

_QUARTERS = "the first ones: each reads its quarter of the tensor memory lanes"


@dataclass(frozen=True, slots=True)
class ConvertersText:
    """What the template of converter warps substitutes."""

    converters: Converters
    teams: str
    converter_loops: list[ConverterLoop]
    converter_arrive: str
    converter_place: Fragment
    converter_rows: set[str]


@dataclass(frozen=True, slots=True)
class HalvesText:
    """Where unzipped accumulators have both halves of a sub-tile: the first column of one, and the distance."""

    first: str
    second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcgen05Text:
    """What the template of tcgen05 GEMMs substitutes: places and barriers as text, loops along K as data."""

    mma: Mma
    tmem: Tmem
    arrivals: dict[str, int]
    waits: dict[str, str]
    sync: str
    load_loops: list[LoadLoop]
    loads: tuple[Load, ...]
    mma_loops: list[MmaLoop]
    scaled: bool
    b_descriptors: list[str]
    sfb_descriptors: list[str]
    read_by: Callable[[Fragment], list[AccumulatorText]]
    accumulators: list[str]
    acc_width: str
    conversion: ConvertersText | None
    start: Fragment
    search: Fragment
    load_place: Fragment
    mma_place: Fragment
    epilogue_place: Fragment
    m0: str
    n0: str
    walk: WalkText
    epilogue_n0: str
    group: int | None
    half_places: HalvesText | None
    overlapped: bool
    half_atom_columns: list[ScaleColumn]
    mma_n0: str | None
    commit_empty: list[str]
    commit_acc: list[str]
    maybe_no_k: bool
    zero_columns: int
    turn: str
    release_step: int
    release_why: str
    release: str


def template_context(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Frame, Tcgen05Text]:
    """What the templates of templates/sm100 use."""
    engine = lowered.engine_as(Tcgen05)
    overlapped = engine.tmem.overlapped(lowered.tile.n)
    problem, tile, cluster = lowered.products, lowered.tile, lowered.cluster
    batched = bool(problem.batch_axes) and problem.groups is None  # `place` finds a tile in its group
    # Of an unzipped product a sub-tile takes as many columns from each half.
    step = lowered.epilogue.subtile * (1 if lowered.epilogue.group is None else 2)
    several = len(problem.products) > 1
    slots = len(problem.accumulators)
    width = "TILE_N" if lowered.epilogue.group is None else "(TILE_N // 2)"
    halves = any(product.b.half is not None for product in problem.products)
    n0 = "(tile_n * CLUSTER_N + cta_n) * TILE_N" if cluster.n > 1 else "tile_n * TILE_N"
    around = frame(
        lowered,
        epilogue,
        title=title(lowered),
        plan=plan(lowered),
        constants=_constants(lowered, overlapped),
        spaces=[SMEM, cta_group(engine.mma.cta_group)],
        buffers=[_buffer(buffer) for buffer in lowered.smem.buffers],
        batched=batched,
        band=lowered.walk.band,
    )
    return around, Tcgen05Text(
        walk=_walk(lowered, epilogue, around.uses),
        mma=engine.mma,
        tmem=engine.tmem,
        arrivals=arrivals(lowered.rings),
        waits=waits(lowered.rings),
        sync=_sync(lowered),
        load_loops=load_loops(lowered),
        loads=lowered.loads,
        mma_loops=mma_loops(lowered),
        scaled=engine.scaled,
        b_descriptors=[f"b{numbered(i)}" for i in range(_bs(lowered))],
        sfb_descriptors=[f"sfb{numbered(i)}" for i in range(_bs(lowered, scaled=True))],
        read_by=lambda walk: [acc for acc in AccumulatorText.all(lowered) if acc.used(walk)],
        accumulators=[f"acc{numbered(slot)}" for slot in range(slots)],
        acc_width="ACC_COLUMNS" if slots > 1 else "TILE_N",
        conversion=_converter_context(lowered),
        start=start_text(lowered),
        search=search_text(lowered),
        load_place=place_text(
            lowered, batch=any(p.a.batched or p.b.batched for p in problem.products), others=_of_a(lowered)
        ),
        mma_place=place_text(lowered, batch=False),
        epilogue_place=place_text(
            lowered, batch="batch" in epilogue.uses, others={*epilogue.uses, "group_end", *first_used(lowered)}
        ),
        m0=first_row(
            lowered, f"(tile_m * CLUSTER_M + cta_m) * {tile.cta_m}" if cluster.m > 1 else f"tile_m * {tile.cta_m}"
        ),
        n0=n0,
        epilogue_n0=f"(tile_n * CLUSTER_N + cta_n) * {width}" if cluster.n > 1 else f"tile_n * {width}",
        group=lowered.epilogue.group,
        half_places=_halves(lowered),
        overlapped=overlapped,
        half_atom_columns=list(dict.fromkeys(half_atom_columns(lowered, "n0" if halves else n0).values())),
        mma_n0=n0 if halves else None,
        commit_empty=_commit_empty(lowered),
        commit_acc=_commit_acc(lowered),
        maybe_no_k=not several and (not isinstance(problem.k, int) or problem.k == 0),
        zero_columns=engine.tmem.acc_stride + tile.n,
        turn=_turn(lowered.epilogue, overlapped),
        release_step=engine.tmem.release_after - 1 if overlapped else lowered.tile.n // step - 1,
        release_why="what the next tile overwrites has been read" if overlapped else "all of it has been read",
        release=_release(lowered, overlapped),
    )


def _walk(lowered: LoweredKernel, epilogue: EpilogueText, uses: Uses) -> WalkText:
    """Where two accumulators share columns, every second tile is walked from its end, so that these are free first."""
    program, wide = lowered.epilogue, lowered.epilogue.subtile
    overlapped = lowered.engine_as(Tcgen05).tmem.overlapped(lowered.tile.n)
    panels = Panels.of(program)
    first = f"{panels.subtiles} * panel"
    if overlapped:
        first += f" if buffer == 1 else {panels.subtiles} * ({panels.count - 1} - panel)"
    panel = fragment(f"first_subtile = {first}", f"panel0 = n0 + {wide} * first_subtile")
    counter = "step" if epilogue.walks or overlapped else "subtile"
    last = program.tile_n - wide if overlapped else None
    return WalkText(
        counter, start(uses, wide, last, rows_end(lowered)), panel, fragment(f"column = n0 + {wide} * subtile")
    )


def _of_a(lowered: LoweredKernel) -> set[str]:
    """What the loads of A use of a tile's group."""
    if not lowered.products.ragged:
        return set()
    scales = any(load.part.role == "A" and load.part.scales for load in lowered.loads)
    return {"group_first", *(["atoms_before"] if scales else [])}


def _turn(program: EpilogueProgram, overlapped: bool) -> str:
    """The number of a sub-tile in the order in which they are stored."""
    if not program.panel:
        return "step" if overlapped else "subtile"
    return f"{program.panel // program.subtile} * panel + step" if overlapped else "subtile"


def _converter_context(lowered: LoweredKernel) -> ConvertersText | None:
    """What the template of converter warps substitutes, where there are any."""
    converters = lowered.converters
    if converters is None:
        return None
    found = conversions(lowered)
    return ConvertersText(
        converters=converters,
        teams="CONVERTERS" if converters.members == 1 else "TEAMS",
        converter_loops=converter_loops(lowered),
        converter_arrive=arrive(lowered),
        converter_place=place_text(lowered, batch=any(map(batched, found)), others=first_used(lowered)),
        converter_rows={conversion.role for conversion in found},
    )


def title(lowered: LoweredKernel) -> str:
    """One line: what the kernel computes, in kinds."""
    bs = {p: p.b.arg if p.b.half is None else f"halves of {p.b.arg}" for p in lowered.products.products}
    names = dict.fromkeys(f"{p.a.arg} ({p.a.name}) times {b} ({p.b.name})" for p, b in bs.items())
    return f"{lowered.name}: {', '.join(names)} for {lowered.target}."


def plan(lowered: LoweredKernel) -> str:
    """How it was lowered, in a few words."""
    tile, cluster, engine = lowered.tile, lowered.cluster, lowered.engine_as(Tcgen05)
    mma, tmem = engine.mma, engine.tmem
    makers = "a pair of CTAs" if mma.cta_group == 2 else "each CTA"
    clusters = f", clusters of {cluster.m} x {cluster.n} CTAs that share loads by multicast" if cluster.size > 1 else ""
    overlapping = " overlapping" if tmem.overlapped(tile.n) else ""
    accumulators = f"two{overlapping} accumulators" if tmem.acc_buffers == 2 else "one accumulator"
    if len(lowered.products.accumulators) > 1:
        sets = "two sets" if tmem.acc_buffers == 2 else "one set"
        accumulators = f"{sets} of {len(lowered.products.accumulators)} accumulators"
    then = zip(lowered.mainloops[1:], engine.mmas[1:], strict=True)
    others = [f", then {mainloop.tile_k} deep with kind::{mmas[0].kind}" for mainloop, mmas in then]
    return (
        f"Tiles of {tile.m} x {tile.n}, {tile.k} deep, made by {makers} with kind::{mma.kind}{''.join(others)}"
        f"{clusters}. {lowered.rings.stages} stages of operands in shared memory, {accumulators} in tensor "
        "memory; persistent: a cluster takes every n-th tile, its epilogue under the next tile's mainloop."
    )


def _constants(lowered: LoweredKernel, overlapped: bool) -> list[list[Constant]]:
    """Groups of constants: the tile, the ring of stages, tensor memory, the warps."""
    tile, cluster, smem, engine = lowered.tile, lowered.cluster, lowered.smem, lowered.engine_as(Tcgen05)
    tmem, mma = engine.tmem, engine.mma
    pair = " by a pair of CTAs, each with half of its rows" if mma.cta_group == 2 else ""
    shape = [Constant("TILE_N", tile.n), Constant("TILE_K", tile.k)]
    shape.insert(0, Constant("TILE_M", tile.m, f"rows of a tile: made{pair}") if pair else Constant("TILE_M", tile.m))
    if cluster.size > 1:
        shape.append(Constant("CLUSTER_M", cluster.m, "CTAs of a cluster, by tile"))
        shape.append(Constant("CLUSTER_N", cluster.n))
        shape.append(Constant("CLUSTER_SIZE", cluster.size))
    if lowered.walk.band > 1:
        shape.append(Constant("BAND", lowered.walk.band, "cluster tiles side by side before the next row of them"))
    ring = [
        Constant("STAGES", lowered.rings.stages),
        Constant("A_BYTES", smem.buffer(Part("A").buffer).bytes, "of one stage"),
        Constant("B_BYTES", smem.buffer(Part("B").buffer).bytes),
    ]
    columns = [
        Constant("TMEM_COLUMNS", tmem.columns),
        Constant("ACC_STAGES", lowered.rings.barrier("acc_full").stages),
    ]
    if _bs(lowered, scaled=True):
        ring.append(Constant("SFA_BYTES", smem.buffer(Part("A", scales=True).buffer).bytes))
        ring.append(Constant("SFB_BYTES", smem.buffer(Part("B", scales=True).buffer).bytes))
        columns.append(Constant("SFA_COLUMN", tmem.sfa))
        for i in range(_bs(lowered, scaled=True)):
            columns.append(Constant(f"SFB{numbered(i)}_COLUMN", tmem.sfb + i * tmem.sfb_stride))
    number = 0
    for i, mainloop in enumerate(lowered.mainloops):
        if i:
            shape.append(Constant(f"TILE_K{numbered(i)}", mainloop.tile_k, "of the next mainloop"))
        if mainloop.loads:
            note = _tx_note(mainloop, engine.mmas[i][0])
            ring.append(Constant(f"STAGE_TX_BYTES{numbered(i)}", mainloop.tx_bytes, note))
        for each in engine.mmas[i]:
            note = _instruction_note(each)
            columns.append(Constant(f"INSTRUCTION{numbered(number)}", f"0x{each.descriptor:08X}", note))
            number += 1
    if len(lowered.products.accumulators) > 1:
        width = len(lowered.products.accumulators) * tile.n
        columns.insert(2, Constant("ACC_COLUMNS", width, "of a tile's accumulators, side by side"))
    if overlapped:
        columns.insert(2, Constant("ACC_STRIDE", tmem.acc_stride, "two accumulators that share columns"))
    warps = [
        Constant("EPILOGUE_WARPS", lowered.role_of("epilogue").warps, _QUARTERS),
        Constant("LOAD_WARP", lowered.role_of("load").first),
        Constant("MMA_WARP", lowered.role_of("mma").first),
        *named_barriers(lowered),
    ]
    converters = lowered.converters
    if converters is not None:
        warps.append(Constant("FIRST_CONVERTER", lowered.role_of("convert").first))
        if converters.members == 1:
            warps.append(Constant("CONVERTERS", converters.warps, "warps: steps along K are theirs in turn"))
        else:
            warps.append(Constant("TEAMS", converters.teams, "of converter warps: steps along K are theirs in turn"))
            warps.append(Constant("TEAM_WARPS", converters.members, "that share the rows of a step"))
    return [shape, ring, columns, warps]


def _bs(lowered: LoweredKernel, scaled: bool = False) -> int:
    """The Bs of a stage, of any mainloop or of those with block scales."""
    engine = lowered.engine_as(Tcgen05)
    return max((len(mmas) for mmas in engine.mmas if mmas[0].scale or not scaled), default=0)


def _tx_note(mainloop: Mainloop, mma: Mma) -> str:
    padded = [o.arg for _, o in mainloop.operands if mma.kind == "mxf8f6f4" and o.bits < 8]
    notes = ["of both CTAs"] if mma.cta_group == 2 else []
    if padded:
        notes.append(f"TMA counts the packed bytes of {' and '.join(padded)}")
    return "; ".join(notes)


def _instruction_note(mma: Mma) -> str:
    note = f"M = {mma.m}, N = {mma.n}, {mma.a} x {mma.b}"
    return f"{note}, {'UE8M0' if mma.scale == 'e8m0' else 'UE4M3'} scales" if mma.scale else note


def _buffer(buffer: SmemBuffer) -> BufferText:
    """A buffer's allocation: element type and count, by name where there is one."""
    if buffer.part is not None:
        return BufferText(buffer.name, "cutlass.Int8", f"STAGES * {bytes_name(buffer.part)}", buffer.align)
    if buffer.name in ("ab_full", "ab_empty"):
        return BufferText(buffer.name, "cutlass.Int64", "STAGES", 8)
    if buffer.name in ("acc_full", "acc_empty"):
        return BufferText(buffer.name, "cutlass.Int64", "ACC_STAGES", 8)
    if buffer.name == "tmem_address":
        return BufferText(buffer.name, "cutlass.Int32", 1, 4)
    return BufferText.of_bytes(buffer)


@dataclass(frozen=True, slots=True)
class AccumulatorText:
    """What a walk reads of an accumulator: a list of 32 columns, and a second one where it holds both halves."""

    first: str
    second: str | None
    at: str  # what is added to the column of a tile's first accumulator

    @classmethod
    def all(cls, lowered: LoweredKernel) -> list[AccumulatorText]:
        """Those of a tile."""
        halves = lowered.epilogue.group is not None
        return [
            cls(
                first=f"acc{numbered(2 * slot if halves else slot)}",
                second=f"acc{numbered(2 * slot + 1)}" if halves else None,
                at=_slot_offset(slot),
            )
            for slot in range(len(lowered.products.accumulators))
        ]

    def used(self, walk: Fragment) -> bool:
        """Whether a walk reads it."""
        return bool({self.first, self.second} & uses(walk))


def _halves(lowered: LoweredKernel) -> HalvesText | None:
    group, width = lowered.epilogue.group, lowered.epilogue.subtile
    if group is None:
        return None
    # Columns that take turns in less than a sub-tile are read as they lie, and then sorted out.
    run = max(group, width)
    first = f"{2 * width} * subtile"
    if run > width:
        first = whole_index(Half(0, run), f"{width} * subtile", "", step=width)
    return HalvesText(first, run)


def _slot_offset(slot: int) -> str:
    """What is added to the column of a tile's first accumulator to get another's."""
    return "" if slot == 0 else " + TILE_N" if slot == 1 else f" + {slot} * TILE_N"


def _sync(lowered: LoweredKernel) -> str:
    if lowered.cluster.size == 1:
        return "prims.barrier_cta_sync()"
    return "prims.barrier_cluster_arrive()\n    prims.barrier_cluster_wait()"


def _commit_empty(lowered: LoweredKernel) -> list[str]:
    """The mask of the CTAs whose loads a stage held: all that share rows or columns with this one (or this pair)."""
    if lowered.cluster.size == 1:
        return []
    mask = union_text(lowered.rings.empty_masks, lowered.cluster, lowered.engine_as(Tcgen05).mma.cta_group)
    return [f"multicast_mask={mask}"]


def _commit_acc(lowered: LoweredKernel) -> list[str]:
    """The mask of the CTAs that have rows of a tile: where a pair makes it, both."""
    if lowered.engine_as(Tcgen05).mma.cta_group == 1:
        return []
    return [f"multicast_mask={mask_text(lowered.rings.acc_full_masks, lowered.cluster, 'rank')}"]


def _release(lowered: LoweredKernel, overlapped: bool) -> str:
    """The arrival that frees an accumulator: relaxed, for it hands over tensor memory only (docs/decisions/0004)."""
    barrier = "acc_empty" if overlapped else "acc_empty.subview(acc_stage)"
    if lowered.engine_as(Tcgen05).mma.cta_group == 1:
        return f"prims.mbarrier_arrive({barrier}, relaxed=True)"
    return f"prims.mbarrier_arrive(prims.mapa({barrier}, rank - rank % 2), relaxed=True)"
