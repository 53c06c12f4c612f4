"""Invariants of products on wgmma: arrivals, and what threads make of a stage."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import LoweredKernel, Wgmma
from fp4cc.ir.lowered.wgmma import slot_of, slotted_roles
from fp4cc.ir.verify_arrivals import EPILOGUE_WARPS, counted


def wgmma_problems(lowered: LoweredKernel) -> Iterator[str]:
    """What is wrong with a kernel of this engine."""
    engine = lowered.engine_as(Wgmma)
    if lowered.pipeline is None:
        yield "a stage is multiplied, and there are no rings"
        return
    yield from counted(lowered.rings, ab_full=1, ab_empty=EPILOGUE_WARPS * lowered.cluster.size)
    if len(engine.wides) != len(lowered.mainloops):
        yield f"{len(engine.wides)} mainloops have a type, and {len(lowered.mainloops)} are loaded"
    exchange = lowered.exchange.buffer if lowered.exchange is not None else ""
    room = next((buffer.total for buffer in lowered.smem.buffers if buffer.name == exchange), 0)
    if len(slotted_roles(lowered.mainloops)) * engine.slots * engine.slot_bytes > room:
        yield f"converted operands do not fit in {exchange}"
    for mainloop, wide in zip(lowered.mainloops, engine.wides, strict=False):
        for part, operand in mainloop.operands:
            feed = slot_of(mainloop, part)
            if feed is None and operand.element != wide:
                yield f"{operand.arg} is multiplied as {wide}, and nobody makes {operand.element} that"
            if feed is not None and feed.loaded_scales is not None and mainloop.feed(part.of_scales) is None:
                yield f"scales of {operand.arg} are read in a stage, and nobody brings them"
