"""What the template of Hopper's GEMM substitutes: the plan as names, numbers and short pieces of Python text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fp4cc.codegen.clearing import leading_bytes
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
from fp4cc.codegen.feeds.registry import FEED_TEXTS
from fp4cc.codegen.fragments import Function
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.placing import PlacesText, of_group, part_text, places_text, rows_end
from fp4cc.codegen.promoted_scales import FactorsText, factor_functions, factors_by_batch, factors_text
from fp4cc.codegen.splitting import SplitText, split_text
from fp4cc.codegen.walking import WalkText, walk_of_exchanged
from fp4cc.codegen.wgmma.loops import LoopText, descriptor, loops
from fp4cc.codegen.wgmma.places import both_slotted, bytes_name
from fp4cc.ir.lowered import LoweredKernel, SmemBuffer, Wgmma
from fp4cc.ir.lowered.wgmma import slot_of, slotted


@dataclass(frozen=True, slots=True)
class DescriptorText:
    """The name of a wgmma descriptor and the buffer that it describes."""

    name: str
    buffer: str
    leading: int | None  # of an operand that lies across: bytes to its next 64 rows


@dataclass(frozen=True, slots=True, kw_only=True)
class WgmmaText:
    """What the templates of Hopper's GEMM substitute.

    `ahead`: registers for the next step's scales, by name. `registers`: a thread's sums, with those of 64 of the tile's
    128 rows (`pairs` of neighbors), and of a quarter of the tile.
    """

    loops: list[LoopText]
    converts: bool
    direct: bool
    descriptors: list[DescriptorText]
    ahead: dict[str, int]
    exchange: str
    registers: int
    registers_of_half: int
    registers_of_quarter: int
    pairs: int
    promoted: FactorsText | None
    arrivals: dict[str, int]
    sync: str
    waits: dict[str, str]
    places: PlacesText
    m0: str
    n0: str
    walk: WalkText
    split: SplitText | None


def template_context(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Frame, WgmmaText]:
    """What the templates of templates/sm90 use."""
    problem, tile, cluster = lowered.products, lowered.tile, lowered.cluster
    batched = bool(problem.batch_axes) and problem.groups is None  # `place` finds a tile in its group
    feeds = slotted(lowered.mainloops)
    scales_by_batch = any(feed.batched for feed in feeds) or factors_by_batch(lowered)
    found = loops(lowered)
    registers = len(problem.accumulators) * tile.n
    around = frame(
        lowered,
        epilogue,
        title=title(lowered),
        plan=plan(lowered),
        constants=_constants(lowered),
        spaces=[SMEM],
        buffers=[_buffer(buffer) for buffer in lowered.smem.buffers],
        batched=batched,
        band=lowered.walk.band,
    )
    reads = exchanged_reads(lowered.epilogue, len(problem.accumulators), tile.n)
    return around, WgmmaText(
        loops=found,
        converts=bool(feeds),
        direct=any(mainloop.direct for mainloop in lowered.mainloops),
        descriptors=list(_descriptors(lowered)),
        ahead=_ahead(found),
        exchange=lowered.crossing.buffer,
        registers=registers,
        registers_of_half=registers // 2,
        registers_of_quarter=registers // 4,
        pairs=registers // 2 // 2,
        promoted=factors_text(lowered),
        arrivals=arrivals(lowered.rings),
        sync="prims.barrier_cluster_arrive()\n    prims.barrier_cluster_wait()"
        if cluster.size > 1
        else "prims.barrier_cta_sync()",
        waits=waits(lowered.rings),
        places=_places(lowered, places_text(lowered, epilogue.uses, scales_by_batch or bool(part_text(lowered)))),
        m0=of_group(lowered, "(tile_m * CLUSTER_M + cta_m) * TILE_M" if cluster.m > 1 else "tile_m * TILE_M"),
        n0=_n0(lowered),
        split=split_text(lowered, "thread", "warp == 0"),
        walk=walk_of_exchanged(lowered.epilogue, epilogue, around.uses, reads, rows_end(lowered)),
    )


def _places(lowered: LoweredKernel, found: PlacesText) -> PlacesText:
    """The warps of the epilogue multiply, too."""
    return replace(found, epilogue=(*found.epilogue, *part_text(lowered)))


def functions(lowered: LoweredKernel) -> list[Function]:
    """The functions of what threads convert, and those that find factors of partial sums."""
    return [*factor_functions(lowered), *FEED_TEXTS.functions(slotted(lowered.mainloops), lowered)]


def title(lowered: LoweredKernel) -> str:
    """One line: what the kernel computes, in kinds."""
    names = [f"{p.a.arg} ({p.a.name}) times {p.b.title} ({p.b.name})" for p in lowered.products.products]
    return f"{lowered.name}: {', '.join(names)} for {lowered.target}."


def plan(lowered: LoweredKernel) -> str:
    """How it was lowered, in a few words."""
    clusters = f", clusters of {lowered.cluster.m} CTAs that share loads of B" if lowered.cluster.size > 1 else ""
    pairs = zip(lowered.mainloops, lowered.engine_as(Wgmma).wides, strict=True)
    converted = dict.fromkeys(f"{feed.operand.arg} to {wide}" for loop, wide in pairs for feed in slotted([loop]))
    convert = f"convert {' and '.join(converted)}, exactly, and multiply with wgmma"
    if lowered.promotion is not None:
        depth = lowered.promotion.step
        work = f"{convert}; they scale each partial sum of {depth} along K and add it to sums in registers"
    elif converted:
        work = f"{convert} while the next step is converted"
    else:
        work = "multiply them with wgmma where they are"
    return (
        f"Tiles of {lowered.tile.m} x {lowered.tile.n}{clusters}. A warp keeps {lowered.rings.stages} stages of "
        f"operands in shared memory by TMA; four warps {work}. Persistent: a cluster takes every n-th tile."
    )


def _n0(lowered: LoweredKernel) -> str:
    """The epilogue's first column of a tile: of one half of it, where the halves are interleaved columns."""
    return "tile_n * TILE_N" if lowered.epilogue.group is None else "tile_n * (TILE_N // 2)"


def _ahead(found: list[LoopText]) -> dict[str, int]:
    """How many registers for what is on its way for the next step, by their name."""
    registers: dict[str, int] = {}
    for name, count in (each for loop in found for feed in loop.conversions for each in feed.registers):
        registers[name] = max(registers.get(name, 0), count)
    return registers


def _constants(lowered: LoweredKernel) -> list[list[Constant]]:
    tile, smem, engine = lowered.tile, lowered.smem, lowered.engine_as(Wgmma)
    accumulators = len(lowered.products.accumulators)
    of_each = f"of each of {accumulators} accumulators" if accumulators > 1 else ""
    shape = [Constant("TILE_M", tile.m), Constant("TILE_N", tile.n, of_each), Constant("TILE_K", tile.k)]
    if lowered.cluster.m > 1:
        shape.append(Constant("CLUSTER_M", lowered.cluster.m, "CTAs of a cluster: neighbors along M"))
    if lowered.walk.band > 1:
        shape.append(Constant("BAND", lowered.walk.band, "cluster tiles side by side before the next row of them"))
    ring = [Constant("STAGES", lowered.rings.stages)]
    for buffer in smem.buffers:
        name = bytes_name(buffer.part) if buffer.part is not None else None
        if name is not None and all(constant.name != name for constant in ring):
            ring.append(Constant(name, buffer.bytes, "of one stage" if len(ring) == 1 else ""))
    for number, loop in enumerate(lowered.mainloops):
        ring.append(Constant(f"STAGE_TX_BYTES{numbered(number)}", loop.tx_bytes))
    operands: list[Constant] = []
    if slotted(lowered.mainloops):
        pairs = zip(lowered.mainloops, engine.wides, strict=True)
        wides = " or ".join(dict.fromkeys(wide for loop, wide in pairs if loop.slotted))
        operands += [
            Constant("SLOTS", engine.slots, _slots_note(lowered)),
            Constant("SLOT_BYTES", engine.slot_bytes, f"128 rows of 64 {wides}"),
        ]
    if both_slotted(lowered):
        operands.append(Constant("B_SLOTS", "SLOTS * SLOT_BYTES", "where B's slots start"))
    note = "bytes of a row of sums, padded against bank conflicts"
    operands.append(Constant("EXCHANGE_PITCH", lowered.crossing.pitch, note))
    warps = [
        Constant("LOAD_WARP", lowered.role_of("load").first, "after the four that multiply and run the epilogue"),
        *named_barriers(lowered),
    ]
    return [shape, ring, operands, warps]


def _slots_note(lowered: LoweredKernel) -> str:
    if lowered.promotion is not None:
        return "converted operands: those of a step"
    return "converted operands: multiplied, about to be, being written"


def _buffer(buffer: SmemBuffer) -> BufferText:
    if buffer.part is not None:
        return BufferText(buffer.name, "cutlass.Int8", f"STAGES * {bytes_name(buffer.part)}", buffer.align)
    if buffer.name in ("ab_full", "ab_empty"):
        return BufferText(buffer.name, "cutlass.Int64", "STAGES", 8)
    return BufferText.of_bytes(buffer)


def _descriptors(lowered: LoweredKernel) -> Iterator[DescriptorText]:
    """The descriptors of what wgmma reads."""
    if slotted(lowered.mainloops):
        yield DescriptorText("slots_desc", "operands", None)
    parts = {part: operand for loop in lowered.mainloops for part, operand in loop.operands if not slot_of(loop, part)}
    for part, operand in parts.items():
        leading = leading_bytes(operand, lowered.tile.k) if operand.across else None
        yield DescriptorText(descriptor(part), part.buffer, leading)
