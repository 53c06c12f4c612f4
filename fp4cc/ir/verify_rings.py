"""Invariants of a lowered kernel's rings: who fills a stage, who counts it, who frees it; and of tensor memory.

Each is derived anew from the parts that it relates, not by the passes' own formulas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fp4cc.ir.lowered import Load, LoweredKernel, Pipeline, Tcgen05, Wgmma, WgmmaRS
from fp4rt.manifest import TensorMap

EPILOGUE_WARPS = 4
#: The pending count and the transaction count of an mbarrier are below this (PTX ISA, mbarrier, contents).
_COUNT_LIMIT = 1 << 20
#: Bits of an element of a tensor map in global memory, as a transaction barrier counts them.
_MAP_BITS = {
    "U8": 8, "U16": 16, "BF16": 16, "F16": 16, "F32": 32, "S32": 32, "U32": 32,
    "B4X16": 4, "B4X16_P64": 4, "B6X16_P32": 6,
}  # fmt: skip
_TMEM_COLUMNS = 512


def ring_problems(lowered: LoweredKernel) -> Iterator[str]:
    """What is wrong with a kernel's rings and its engine; nothing of a kernel without a product."""
    if lowered.pipeline is None:
        return
    yield from _rings(lowered, lowered.pipeline)
    yield from _stages(lowered, lowered.pipeline)
    match lowered.engine:
        case Tcgen05():
            yield from _tcgen05(lowered, lowered.engine, lowered.pipeline)
            yield from _tmem(lowered, lowered.engine)
        case Wgmma():
            yield from _counts(lowered.pipeline, ab_full=1, ab_empty=EPILOGUE_WARPS * lowered.cluster.size)
            yield from _wgmma(lowered, lowered.engine)
        case WgmmaRS():
            yield from _wgmma_rs(lowered, lowered.engine, lowered.pipeline)
        case _:
            return


def _stages(lowered: LoweredKernel, pipeline: Pipeline) -> Iterator[str]:
    """Each mainloop brings what its products multiply, each part once, and counts the bytes of it."""
    group = lowered.engine.mma.cta_group if isinstance(lowered.engine, Tcgen05) else 1
    for mainloop in lowered.mainloops:
        if mainloop.tx_bytes != _transferred(mainloop.loads, group):
            yield f"a stage counts {mainloop.tx_bytes} bytes, and {_transferred(mainloop.loads, group)} arrive"
        parts = [feed.part for feed in mainloop.feeds]
        if len(set(parts)) < len(parts):
            yield f"two parts of a stage are brought to one buffer: {sorted(part.buffer for part in parts)}"
        for part, operand in mainloop.operands:
            if part not in parts:
                yield f"a stage multiplies {operand.arg}, which nobody brings"
    if lowered.mainloops and pipeline.barrier("ab_full").tx_bytes != lowered.mainloops[0].tx_bytes:
        yield "ab_full counts other bytes than the first mainloop's"


def _wgmma(lowered: LoweredKernel, engine: Wgmma) -> Iterator[str]:
    if len(engine.loops) != len(lowered.mainloops):
        yield f"{len(engine.loops)} mainloops are converted, and {len(lowered.mainloops)} loaded"
    exchange = lowered.exchange.buffer if lowered.exchange is not None else ""
    room = next((buffer.total for buffer in lowered.smem.buffers if buffer.name == exchange), 0)
    if len(engine.converted_roles) * engine.slots * engine.slot_bytes > room:
        yield f"converted operands do not fit in {exchange}"
    for mainloop, loop in zip(lowered.mainloops, engine.loops, strict=False):
        for side in loop.sides:
            if side.loaded_scales is not None and mainloop.feed(side.part.of_scales) is None:
                yield f"scales of {side.operand.arg} are read in a stage, and nobody brings them"


def _wgmma_rs(lowered: LoweredKernel, engine: WgmmaRS, pipeline: Pipeline) -> Iterator[str]:
    """Weights fill the tile's rows, scales that are read in a stage are brought, and warps come by fours."""
    multiplying = lowered.role_of("mma").warps // (2 if engine.turns else 1)
    crossing = {} if engine.stores else {"acc_full": multiplying, "acc_empty": EPILOGUE_WARPS}
    yield from _counts(pipeline, ab_full=1, ab_empty=multiplying, **crossing)
    if engine.stores == any(output.store.via != "engine" for output in lowered.epilogue.outputs):
        yield "the engine stores results, and one is stored by the epilogue, or the other way round"
    if any(role.warps % EPILOGUE_WARPS for role in lowered.roles):
        yield "setmaxnreg is for whole warpgroups, and a role has a part of one"
    if engine.turns and pipeline.stages % 2:
        yield f"two warpgroups take {pipeline.stages} stages in turns"
    end = 0
    for each in engine.weights:
        if each.first != end or each.rows % 32:
            yield f"{each.operand.arg} has weight rows {each.first} and on, and those before it end at {end}"
        end = each.first + each.rows
        read = each.scales is not None and each.scales.reader is None
        if read and lowered.mainloops[0].feed(each.part.of_scales) is None:
            yield f"scales of {each.operand.arg} are read in a stage, and nobody brings them"
    pitch = 4 * end if lowered.exchange is None else lowered.exchange.pitch
    if end * 4 > pitch or 16 * multiplying < end:
        yield f"{end} weight rows, and rows of {pitch} bytes for {multiplying} warps' sums"


def tensor_maps(lowered: LoweredKernel) -> dict[str, TensorMap]:
    """The tensor maps by the names that the kernel uses: those of a second launch have its name before theirs."""
    return {each.name.removeprefix(f"{lowered.name}."): each for each in lowered.tensor_maps}


def _rings(lowered: LoweredKernel, pipeline: Pipeline) -> Iterator[str]:
    """Barriers and slots have memory, each byte of a stage arrives once in each CTA, in boxes of that size."""
    buffers = {buffer.name: buffer for buffer in lowered.smem.buffers}
    maps = tensor_maps(lowered)
    for ring in pipeline.barriers:
        buffer = buffers.get(ring.name)
        if buffer is None or (buffer.bytes, buffer.stages) != (8, ring.stages):
            yield f"the ring {ring.name} of {ring.stages} barriers has no such buffer"
        if not 0 < ring.arrivals < _COUNT_LIMIT or not 0 <= ring.tx_bytes < _COUNT_LIMIT:
            yield f"{ring.name} counts {ring.arrivals} arrivals and {ring.tx_bytes} bytes"
        if ring.scope == "cta" and ring.name.startswith("ab_") and any(load.multicast for load in lowered.loads):
            yield f"other CTAs signal {ring.name}, and it is waited for at CTA scope"
    for load in lowered.loads:
        buffer, each = buffers.get(load.buffer), maps.get(load.tensor_map)
        if buffer is None or each is None:
            yield f"a load of {load.tensor_map} into {load.buffer}: one of them does not exist"
            continue
        if buffer.stages != pipeline.stages or load.slices * load.slice_bytes > buffer.bytes:
            yield f"{load.slices} x {load.slice_bytes} bytes of {load.tensor_map} do not fit in a slot of {buffer.name}"
        elements = 1
        for side in each.box:
            elements *= side
        if elements * _MAP_BITS[each.dtype] // 8 != load.tx_bytes:
            yield f"a box of {each.name} brings other than the {load.tx_bytes} bytes that are counted for it"
        if each.swizzle == "128B" and (buffer.align % 1024 or buffer.bytes % 1024 or load.slice_bytes % 1024):
            yield f"{buffer.name} is not on the 1024 bytes that the swizzle of {each.name} repeats in"
        yield from _once(load, lowered.cluster.size)


def _once(load: Load, ctas: int) -> Iterator[str]:
    if len(load.masks) != ctas:
        yield f"{load.tensor_map} has {len(load.masks)} masks for {ctas} CTAs"
        return
    for rank in range(ctas):
        found = sum(mask >> rank & 1 for mask in load.masks)
        if found != load.slices:
            yield f"CTA {rank} gets {found} of {load.slices} slices of {load.tensor_map}"
    if any(mask >> ctas for mask in load.masks):
        yield f"{load.tensor_map} is sent to a CTA outside the cluster"


def _counts(pipeline: Pipeline, **arrivals: int) -> Iterator[str]:
    if {ring.name for ring in pipeline.barriers} != arrivals.keys():
        yield f"the rings are {[ring.name for ring in pipeline.barriers]}, not {list(arrivals)}"
        return
    for name, wanted in arrivals.items():
        found = pipeline.barrier(name).arrivals
        if found != wanted:
            yield f"{name} waits for {found} arrivals, and {wanted} arrive"


def _transferred(loads: Sequence[Load], ctas: int) -> int:
    return sum(load.slices * load.tx_bytes for load in loads) * ctas


def _tcgen05(lowered: LoweredKernel, engine: Tcgen05, pipeline: Pipeline) -> Iterator[str]:
    """Arrivals and masks of products on tcgen05."""
    group, ctas = engine.mma.cta_group, lowered.cluster.size
    leaders = [rank for rank in range(ctas) if rank % lowered.cluster.m % group == 0]
    converters = lowered.converters
    brought = 0 if converters is None else converters.members * group
    if not len(pipeline.empty_masks) == len(pipeline.acc_full_masks) == ctas:
        yield f"the commits' masks are not of {ctas} CTAs"
        return
    freed = sum(mask & 1 for mask in pipeline.empty_masks)
    yield from _counts(pipeline, ab_full=1 + brought, ab_empty=freed, acc_full=1, acc_empty=EPILOGUE_WARPS * group)
    if converters is not None and converters.teams > pipeline.stages:
        yield f"{converters.teams} teams of converter warps have {pipeline.stages} stages"
    if [len(mmas) for mmas in engine.mmas] != [len(mainloop.products) for mainloop in lowered.mainloops]:
        yield "not every product has an instruction"
        return
    for mainloop, mmas in zip(lowered.mainloops, engine.mmas, strict=True):
        for part, operand in mainloop.operands if mmas[0].scale else ():
            if mainloop.feed(part.of_scales) is None:
                yield f"a stage multiplies by scales of {operand.arg}, which nobody brings"
    for rank in range(ctas):
        committing = [leader for leader in leaders if pipeline.empty_masks[leader] >> rank & 1]
        if len(committing) != pipeline.barrier("ab_empty").arrivals:
            yield f"{len(committing)} commits free a stage of CTA {rank}"
        masks = [load.masks[rank] for load in lowered.loads if len(load.masks) == ctas]
        received = [other for other in range(ctas) if any(mask >> other & 1 for mask in masks)]
        for reader in {other - other % lowered.cluster.m % group for other in received}:
            if reader not in committing:
                yield f"CTA {rank} fills a stage again that the MMA of CTA {reader} may still read"
        if sum(pipeline.acc_full_masks[leader] >> rank & 1 for leader in leaders) != 1:
            yield f"CTA {rank} is not told once that its accumulator is full"


def _tmem(lowered: LoweredKernel, engine: Tcgen05) -> Iterator[str]:
    """Columns: a power of two, all parts in them and apart, but for two accumulators that share columns on purpose."""
    tmem, tile = engine.tmem, lowered.tile
    yield from _allocated(tmem.columns, tmem.end)
    width = len(lowered.products.accumulators) * tile.n
    overlapped = tmem.overlapped(tile.n)
    if tmem.acc_buffers == 2 and tmem.acc_stride < width and not (overlapped and width == tile.n):
        yield "two sets of accumulators share columns"
    parts = [(0, (tmem.acc_buffers - 1) * tmem.acc_stride + width, "accumulators")]
    if engine.scaled:
        atoms = max(mmas[0].atoms for mmas in engine.mmas)
        bs = max(len(mmas) for mmas in engine.mmas if mmas[0].scale)
        parts.append((tmem.sfa, tmem.sfa + atoms * tmem.sfa_columns, "scales of A"))
        for i in range(bs):
            start = tmem.sfb + i * tmem.sfb_stride
            parts.append((start, start + atoms * tmem.sfb_columns, f"scales of B {i + 1}"))
    for (_, end, before), (start, _, after) in zip(sorted(parts), sorted(parts)[1:], strict=False):
        if start < end:
            yield f"{after} start at column {start}, and {before} end at {end}"
    if max(end for _, end, _ in parts) > tmem.end:
        yield f"column {max(end for _, end, _ in parts)} is used, and {tmem.end} are counted"


def _allocated(columns: int, used: int) -> Iterator[str]:
    if columns not in (32, 64, 128, 256, _TMEM_COLUMNS) or used > columns:
        yield f"{used} columns of tensor memory in an allocation of {columns}"
