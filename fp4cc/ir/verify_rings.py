"""Invariants of a lowered kernel's rings: who fills a stage, who counts it, who frees it.

Each is derived anew from the parts that it relates, not by the passes' own formulas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fp4cc.ir.lowered import Load, LoweredKernel, Pipeline
from fp4cc.ir.part import Part
from fp4rt.manifest import TensorMap

#: The pending count and the transaction count of an mbarrier are below this (PTX ISA, mbarrier, contents).
_COUNT_LIMIT = 1 << 20
#: Bits of an element of a tensor map in global memory, as a transaction barrier counts them.
_MAP_BITS = {
    "U8": 8, "U16": 16, "BF16": 16, "F16": 16, "F32": 32, "S32": 32, "U32": 32,
    "B4X16": 4, "B4X16_P64": 4, "B6X16_P32": 6,
}  # fmt: skip


def ring_problems(lowered: LoweredKernel) -> Iterator[str]:
    """What is wrong with a kernel's rings; nothing of a kernel without any."""
    if lowered.pipeline is None:
        return
    yield from _rings(lowered, lowered.pipeline)
    yield from _stages(lowered, lowered.pipeline)


def _stages(lowered: LoweredKernel, pipeline: Pipeline) -> Iterator[str]:
    """Each mainloop brings what its products multiply, each part once, and counts the bytes of it."""
    for mainloop in lowered.mainloops:
        arriving = _transferred(mainloop.loads, lowered.tile.ctas)
        if mainloop.tx_bytes != arriving:
            yield f"a stage counts {mainloop.tx_bytes} bytes, and {arriving} arrive"
        parts = [feed.part for feed in mainloop.feeds if feed.into == "stage"]
        if len(set(parts)) < len(parts):
            yield f"two parts of a stage are brought to one buffer: {sorted(part.buffer for part in parts)}"
        for part, operand in mainloop.operands:
            if part not in parts:
                yield f"a stage multiplies {operand.arg}, which nobody brings"
        slots = [feed.part for feed in mainloop.slotted]
        if len(set(slots)) < len(slots) or not set(slots) <= set(parts):
            yield f"slots take {_names(slots)} of a stage of {_names(parts)}"
    if lowered.mainloops and pipeline.barrier("ab_full").tx_bytes != lowered.mainloops[0].tx_bytes:
        yield "ab_full counts other bytes than the first mainloop's"


def _names(parts: Sequence[Part]) -> list[str]:
    return sorted(part.name for part in parts)


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
        if (
            ring.scope == "cta"
            and "load" in (*ring.by, *ring.awaited_by)
            and any(each.multicast for each in lowered.loads)
        ):
            yield f"other CTAs signal {ring.name}, and it is waited for at CTA scope"
    for load in lowered.loads:
        buffer, each = buffers.get(load.buffer), maps.get(load.tensor_map)
        if buffer is None or each is None:
            yield f"a load of {load.tensor_map} into {load.buffer}: one of them does not exist"
            continue
        if buffer.stages != pipeline.stages or load.slices * load.slice_bytes > buffer.bytes:
            yield f"{load.slices} x {load.slice_bytes} bytes of {load.tensor_map} do not fit in a slot of {buffer.name}"
        elements = load.boxes
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


def _transferred(loads: Sequence[Load], ctas: int) -> int:
    return sum(load.slices * load.tx_bytes for load in loads) * ctas
