"""Why the lowered kernel is as it is: one `Decision` for each choice, for `explain`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from fp4cc.ir.lowered import Decision, LoweredKernel, Tcgen05
from fp4cc.passes.choice.decisions import (
    explain_groups,
    explain_order,
    explain_products,
    explain_schedule,
    explain_stores,
)
from fp4cc.passes.choice.estimate import Option
from fp4cc.passes.choice.schedule import Ranked, Request
from fp4cc.passes.engines.tcgen05.arrivals import explain_arrivals
from fp4cc.passes.resources.residency import explain_residency
from fp4cc.passes.resources.split import explain_split
from fp4cc.targets import Target

_LISTED = 3


def explain_choices(
    lowered: LoweredKernel, request: Request, ranked: list[Ranked], assumed: Mapping[str, int], target: Target
) -> tuple[Decision, ...]:
    """The decisions in the order in which they were made."""
    return (
        explain_schedule(lowered),
        *explain_products(lowered.products, lowered.mainloops),
        *_halves(lowered),
        *_kinds(lowered, target),
        *explain_arrivals(lowered, target),
        *_tile_and_cluster(lowered, request, ranked, assumed),
        _stages(lowered, request),
        _accumulators(lowered, request),
        *explain_residency(lowered.smem, lowered.engine_as(Tcgen05).tmem.columns, target),
        *explain_split(lowered, _parts(ranked)),
        explain_order(lowered, request.band),
        *explain_groups(lowered),
        *explain_stores(lowered),
    )


def _kinds(lowered: LoweredKernel, target: Target) -> Iterator[Decision]:
    """The instruction of each mainloop."""
    for number, mmas in enumerate(lowered.engine_as(Tcgen05).mmas):
        mma = mmas[0]
        kinds = target.kinds if mma.scale else target.plain_kinds
        others = tuple(f"kind::{kind.name}" for kind in kinds if kind.name != mma.kind)
        scales = f" with {mma.scale} scales per {mma.block}" if mma.scale else " without block scales"
        bs = " and ".join(dict.fromkeys(each.b for each in mmas))
        what = f"instruction {number + 1}" if number else "instruction"
        why = f"the one that multiplies {mma.a} x {bs}{scales}"
        yield Decision(what, f"tcgen05.mma kind::{mma.kind}", why, others, "target")


def _halves(lowered: LoweredKernel) -> Iterator[Decision]:
    """How unzipped products are made."""
    group, halves = lowered.epilogue.group, [p.b.half for p in lowered.products.products if p.b.half is not None]
    if group is not None:
        chosen = f"one product, in which they take turns in {group} column{'s' * (group > 1)}"
        yield Decision("halves", chosen, "a tile holds whole groups of both")
    elif halves:
        rows = f"one after the other, the second from row {lowered.products.n_axis} on"
        if halves[0].group is not None:
            rows = f"in turns of {halves[0].group}"
        yield Decision("halves", "a product each", f"their rows lie {rows}: no tile holds both")


def _tile_and_cluster(
    lowered: LoweredKernel, request: Request, ranked: list[Ranked], assumed: Mapping[str, int]
) -> tuple[Decision, Decision]:
    tile, cluster, best = lowered.tile, lowered.cluster, ranked[0]
    note = f" (with {_assumptions(assumed)})" if assumed else ""
    e = best.estimate
    why = f"about {e.clocks:.0f} clocks in {e.waves} wave{'s' * (e.waves != 1)}, bound by {e.bound}{note}"
    tiles = _alternatives(ranked, lambda o: f"{128 * o.cta_group} x {o.tile_n} x {tile.k}")
    clusters = _alternatives(ranked, lambda o: f"{o.cluster_m} x {o.cluster_n}")
    return (
        Decision("tile", f"{tile.m} x {tile.n} x {tile.k}", "asked for" if request.tile else why, tiles,
                 "schedule" if request.tile else "compiler"),
        Decision("cluster", f"{cluster.m} x {cluster.n}", "asked for" if request.cluster else _why_cluster(lowered),
                 clusters, "schedule" if request.cluster else "compiler"),
    )  # fmt: skip


def _assumptions(assumed: Mapping[str, int]) -> str:
    """`M, N unknown and taken as 4096, L as 1`."""
    by_size: dict[int, list[str]] = {}
    for name, size in assumed.items():
        by_size.setdefault(size, []).append(name)
    (size, names), *others = by_size.items()
    first = f"{', '.join(names)} unknown and taken as {size}"
    return ", ".join([first, *(f"{', '.join(names)} as {size}" for size, names in others)])


def _alternatives(ranked: list[Ranked], label: Callable[[Option], str]) -> tuple[str, ...]:
    """The best estimate of each other choice, as "256 x 128 x 256: 1.2x the clocks"."""
    chosen = label(ranked[0].option)
    found: dict[str, float] = {}
    for r in ranked[1:]:
        found[label(r.option)] = min(found.get(label(r.option), float("inf")), r.estimate.clocks)
    found.pop(chosen, None)
    listed = sorted(found.items(), key=lambda item: item[1])[:_LISTED]
    return tuple(f"{what}: {clocks / ranked[0].estimate.clocks:.2f}x the clocks" for what, clocks in listed)


def _parts(ranked: list[Ranked]) -> tuple[str, ...]:
    """What other numbers of parts would cost with the same tile and cluster."""
    best = ranked[0].option
    same = [r for r in ranked if replace(r.option, parts=1) == replace(best, parts=1)]
    return _alternatives(same, lambda option: f"{option.parts} part{'s' * (option.parts > 1)}")


def _why_cluster(lowered: LoweredKernel) -> str:
    cluster, group = lowered.cluster, lowered.engine_as(Tcgen05).mma.cta_group
    parts = ["a pair of CTAs shares one MMA, each holding half of B"] if group == 2 else []
    if cluster.n > 1:
        parts.append(f"each row of A is read from L2 once for {cluster.n} CTAs")
    if cluster.m > group:
        parts.append(f"each column of B once for {cluster.m // group}")
    return "; ".join(parts) or "sharing loads between CTAs would not be faster here"


def _stages(lowered: LoweredKernel, request: Request) -> Decision:
    stages, smem = lowered.rings.stages, lowered.smem
    stage = sum(buffer.bytes for buffer in smem.buffers if buffer.part is not None)
    if request.stages:
        return Decision("stages", str(stages), "asked for", chosen_by="schedule")
    return Decision("stages", str(stages), f"as many of {stage} bytes as fit: {smem.total} of {smem.limit} bytes used",
                    (f"{stages - 1}: less latency hidden",) if stages > 1 else ())  # fmt: skip


def _accumulators(lowered: LoweredKernel, request: Request) -> Decision:
    tmem, tile = lowered.engine_as(Tcgen05).tmem, lowered.tile
    if tmem.acc_buffers == 1 and request.accumulators is None:
        width = len(lowered.products.accumulators) * tile.n
        why = f"the {width} columns of a tile's accumulators and the scales fit once in 512"
        return Decision("accumulators", "1 set", why, ("2 sets: with narrower tiles",))
    if tmem.acc_buffers == 1:
        return Decision("accumulators", "1", "asked for", ("2: the epilogue runs under the next mainloop",), "schedule")
    if tmem.overlapped(tile.n):
        shared, steps = tile.n - tmem.acc_stride, lowered.epilogue.tile_n // 32
        why = (
            f"two of {tile.n} columns and the scales exceed 512, so they share {shared} columns, which the epilogue "
            f"reads first ({tmem.release_after} of {steps} sub-tiles) before the next tile starts"
        )
        return Decision("accumulators", "2, overlapping", why, ("1: the MMA waits for the whole epilogue",))
    return Decision("accumulators", "2", "the epilogue of one tile runs under the mainloop of the next",
                    ("1: the MMA waits for the whole epilogue",))  # fmt: skip
