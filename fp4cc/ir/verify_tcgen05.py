"""Invariants of products on tcgen05: arrivals, masks, tensor memory."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import LoweredKernel, Pipeline, Tcgen05
from fp4cc.ir.verify_arrivals import EPILOGUE_WARPS, counted

_TMEM_COLUMNS = 512


def tcgen05_problems(lowered: LoweredKernel) -> Iterator[str]:
    """What is wrong with a kernel of this engine."""
    engine = lowered.engine_as(Tcgen05)
    if lowered.pipeline is None:
        yield "a stage is multiplied, and there are no rings"
        return
    yield from _tcgen05(lowered, engine, lowered.rings)
    yield from _tmem(lowered, engine)


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
    yield from counted(pipeline, ab_full=1 + brought, ab_empty=freed, acc_full=1, acc_empty=EPILOGUE_WARPS * group)
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
