"""What is said of a GEMM on tcgen05 at the head of its file."""

from __future__ import annotations

from fp4cc.ir.lowered import LoweredKernel, Tcgen05


def title(lowered: LoweredKernel) -> str:
    """One line: what the kernel computes, in kinds."""
    bs = {p: p.b.arg if p.b.half is None else f"halves of {p.b.arg}" for p in lowered.products.products}
    names = dict.fromkeys(f"{p.a.arg} ({p.a.name}) times {b} ({p.b.name})" for p, b in bs.items())
    return f"{lowered.name}: {', '.join(names)} for {lowered.target}."


def plan(lowered: LoweredKernel) -> str:
    """How it was lowered, in a few words."""
    tile, cluster, engine = lowered.tile, lowered.cluster, lowered.engine_as(Tcgen05)
    if lowered.promotion is not None:
        return _promoted(lowered)
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


def mma_work(lowered: LoweredKernel) -> str:
    """What the MMA warp of a CTA does."""
    if lowered.promotion is not None:
        return "makes one partial sum a step, in turn in each of the accumulators"
    into = "one accumulator" if len(lowered.products.accumulators) == 1 else "the accumulators of"
    return f"multiplies stage after stage into {into} a tile"


def _promoted(lowered: LoweredKernel) -> str:
    """The same where partial sums are scaled."""
    tile, mma = lowered.tile, lowered.engine_as(Tcgen05).mma
    return (
        f"Tiles of {tile.m} x {tile.n}. Each step of {tile.k} along K makes a partial sum in tensor memory "
        f"(kind::{mma.kind}), which four warps scale and add to sums in their registers under the next step's MMAs. "
        f"{lowered.rings.stages} stages of operands in shared memory; persistent: a CTA takes every n-th tile."
    )
