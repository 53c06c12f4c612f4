"""Barriers of a CTA, a cluster and a warp (PTX ISA 9.7.13.1 to 9.7.13.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.lockstep import Lockstep
from fp4emu.machine import Cta, WarpContext
from fp4emu.order import rules
from fp4emu.order.barriers import Carried
from fp4emu.recording import note
from fp4emu.registry import Wait, instruction
from fp4emu.shapes import LANES, row_of

CTA_SECTION, CLUSTER_SECTION, WARP_SECTION = "9.7.13.1", "9.7.13.3", "9.7.13.2"
BARRIERS = 16


@dataclass(slots=True)
class NamedBarrier:
    """One of a CTA's sixteen. `expected` threads, None for all that have not exited. `results` of reductions, by
    generation."""

    cta: Cta
    number: int
    arrived: int = 0
    generation: int = 0
    expected: int | None = None
    counts: list[int] = field(default_factory=lambda: [0, 0])
    results: dict[int, tuple[int, int]] = field(default_factory=dict[int, "tuple[int, int]"])
    carried: Carried = field(default_factory=Carried)

    def needed(self) -> int:
        if self.expected is not None:
            return self.expected
        return 32 * len(self.cta.live_warps)

    def arrive(self, threads: int, expected: int | None, true: int = 0) -> int:
        """Counts threads in; returns the generation that they wait to end."""
        if self.arrived and expected != self.expected:
            raise Fault(
                f"barrier {self.number} is used with thread count {expected} while threads with count "
                f"{self.expected} wait at it",
                hint="all arrivals of one barrier phase must name the same count",
            )
        self.expected = expected
        generation = self.generation
        self.arrived += threads
        self.counts[0] += true
        self.counts[1] += threads
        self.check()
        return generation

    def check(self) -> None:
        """Ends the phase if all have arrived (called again when warps exit)."""
        needed = self.needed()
        if self.arrived > needed:
            raise Fault(f"{self.arrived} threads arrived at barrier {self.number}, which expects {needed}")
        if self.arrived and self.arrived == needed:
            self.results = {self.generation: (self.counts[0], self.counts[1])}
            self.carried.end(self.generation)
            self.generation += 1
            self.arrived, self.counts = 0, [0, 0]
            self.cta.cluster.machine.clock.ticks += 1


class _NamedBarriers(dict[int, NamedBarrier]):
    """Those of a CTA that have been used, by number."""


def named_barrier(cta: Cta, number: int) -> NamedBarrier:
    if not 0 <= number < BARRIERS:
        raise Fault(f"barrier {number} is outside of 0..{BARRIERS - 1}")
    table = cta.state.of(_NamedBarriers)
    if number not in table:
        table[number] = NamedBarrier(cta, number)
    return table[number]


def _row(value: Any, row: int, mask: Any) -> int:
    """A warp-uniform operand of one row; faults if the lanes differ."""
    if not isinstance(value, np.ndarray):
        return int(value)
    line = row_of(value, row)
    if mask is not None and len(line) == LANES:
        line = line[row_of(mask, row)]
    if (line != line[0]).any():
        raise Fault("this operand must be the same in all lanes of the warp")
    return int(line[0])


def _threads(g: Lockstep, row: int, word: int) -> int:
    """How many threads a warp brings to a barrier: 32 if all that live are here."""
    live = g.live_lanes(row)
    return 32 if word & live == live else word.bit_count()


def _count(value: Any, row: int, mask: Any) -> int | None:
    if value is None:
        return None
    count = _row(value, row, mask)
    if count % 32 or not count:
        raise Fault(f"barrier thread count {count} is not a positive multiple of the warp size")
    return count


@dataclass(slots=True)
class _Arrival:
    """Lanes of a warp that have arrived at a barrier and not yet left it; they counted as `threads`."""

    lanes: int
    barrier: NamedBarrier
    generation: int
    threads: int


def _synchronize(
    g: Lockstep, mask: Any, number: Any, count: Any, true: Any = None
) -> list[tuple[int, NamedBarrier, int]]:
    """Arrives, and makes the rows wait whose barrier has not opened. Returns (row, barrier, generation) of those that
    pass.

    Lanes of a warp may come one after the other, and lanes that wait may meet others here and try again with them.
    """
    rows = g.executing(mask)
    for row, warp, word in rows:
        g.row = row
        fresh = word & ~sum(arrival.lanes for arrival in _arrivals(warp))
        if fresh:
            barrier = named_barrier(warp.cta, _row(number, row, mask))
            hits = 0
            if true is not None:
                line = np.broadcast_to(true, (len(g.warps), 32))[row]
                hits = sum(bool(line[lane]) for lane in range(32) if fresh >> lane & 1)
            if g.order is not None:
                rules.arrived(g.order, barrier.carried, warp, fresh)
            _arrive(g, row, warp, fresh, barrier, _count(count, row, mask), hits)
    g.row = None
    passed: list[tuple[int, NamedBarrier, int]] = []
    for row, warp, word in rows:
        mine = [arrival for arrival in _arrivals(warp) if arrival.lanes & word]
        closed = next((arrival for arrival in mine if arrival.barrier.generation <= arrival.generation), None)
        if closed is not None:
            g.waits[row] = Wait(
                lambda b=closed.barrier, n=closed.generation: b.generation > n, lambda b=closed.barrier: _describe(b)
            )
            continue
        passed.append((row, mine[-1].barrier, mine[-1].generation))
        note(warp, "sync", mine[-1].barrier.number, _count(count, row, mask) or 0)
        if g.order is not None:
            for arrival in mine:
                rules.passed(g.order, arrival.barrier.carried, arrival.generation, warp, arrival.lanes & word)
        for arrival in mine:
            arrival.lanes &= ~word
    return passed


class _Arrivals(list[_Arrival]):
    """The arrivals of a warp whose lanes still wait."""


def _arrivals(warp: WarpContext) -> _Arrivals:
    found = warp.state.of(_Arrivals)
    found[:] = [arrival for arrival in found if arrival.lanes]
    return found


def _arrive(
    g: Lockstep, row: int, warp: WarpContext, lanes: int, barrier: NamedBarrier, expected: int | None, hits: int
) -> None:
    """Counts lanes in. With its last live lanes a warp has brought 32 threads, those that have exited included."""
    earlier = [a for a in _arrivals(warp) if a.barrier is barrier and a.generation == barrier.generation]
    all_live = not g.live_lanes(row) & ~(lanes | sum(a.lanes for a in earlier))
    threads = 32 - sum(a.threads for a in earlier) if all_live else lanes.bit_count()
    _arrivals(warp).append(_Arrival(lanes, barrier, barrier.arrive(threads, expected, hits), threads))


def _describe(barrier: NamedBarrier) -> str:
    return f"named barrier {barrier.number}: {barrier.arrived} of {barrier.needed()} threads have arrived"


@instruction("barrier", "[cta] sync [aligned]", style="group", section=CTA_SECTION, blocking=True)
@instruction("bar", "[cta] sync", style="group", section=CTA_SECTION, blocking=True)
def barrier_sync(g: Lockstep, ins: Instruction, mask: Any, number: Any, count: Any = None) -> None:
    _synchronize(g, mask, number, count)


@instruction("barrier", "[cta] arrive [aligned]", style="group", section=CTA_SECTION)
@instruction("bar", "[cta] arrive", style="group", section=CTA_SECTION)
def barrier_arrive(g: Lockstep, ins: Instruction, mask: Any, number: Any, count: Any) -> None:
    for row, warp, word in g.executing(mask):
        g.row = row
        barrier = named_barrier(warp.cta, _row(number, row, mask))
        if g.order is not None:
            rules.arrived(g.order, barrier.carried, warp, word)
        barrier.arrive(_threads(g, row, word), _count(count, row, mask))
        note(warp, "sync arrive", barrier.number, _count(count, row, mask) or 0)
    g.row = None


@instruction(
    "barrier",
    "[cta] red op=popc [aligned] u32",
    "[cta] red op=and|or [aligned] pred",
    style="group",
    operands="2-3",
    section=CTA_SECTION,
    outputs=1,
    per_warp=True,
    blocking=True,
)
@instruction(
    "bar",
    "[cta] red op=popc u32",
    "[cta] red op=and|or pred",
    style="group",
    operands="2-3",
    section=CTA_SECTION,
    outputs=1,
    per_warp=True,
    blocking=True,
)
def barrier_red(g: Lockstep, ins: Instruction, mask: Any, number: Any, *rest: Any) -> Any:
    count, predicate = (None, rest[0]) if len(rest) == 1 else rest
    op = ins.mod("op")
    result = np.zeros((len(g.warps), 1), np.uint32 if op == "popc" else np.bool_)
    for row, barrier, generation in _synchronize(g, mask, number, count, predicate):
        true, threads = barrier.results[generation]
        result[row] = {"popc": true, "and": true == threads, "or": true > 0}[op]
    return result


# --- cluster ---


@dataclass(slots=True)
class ClusterBarrier:
    """Arrivals of whole warps of the cluster; a warp that has exited counts as arrived."""

    arrived: set[tuple[int, int]] = field(default_factory=set["tuple[int, int]"])
    generation: int = 0
    carried: Carried = field(default_factory=Carried)

    def check(self, ctas: list[Cta]) -> None:
        live = {(cta.rank, index) for cta in ctas for index in cta.live_warps}
        if self.arrived and live <= self.arrived:
            self.arrived = set()
            self.carried.end(self.generation)
            self.generation += 1
            ctas[0].cluster.machine.clock.ticks += 1


def cluster_barrier(warp: WarpContext) -> ClusterBarrier:
    return warp.cluster.state.of(ClusterBarrier)


@instruction("barrier.cluster", "arrive [sem=release|relaxed] [aligned]", style="group", section=CLUSTER_SECTION)
def cluster_arrive(g: Lockstep, ins: Instruction, mask: Any) -> None:
    """Lanes of a warp may come one after the other: the warp has arrived when all its live lanes have."""
    rows = g.executing(mask)
    for row, warp, word in rows:
        g.row = row
        barrier = cluster_barrier(warp)
        lanes = _cluster_lanes(warp)
        if any(word & arrived for arrived in lanes.values()):
            raise Fault("barrier.cluster.arrive twice without barrier.cluster.wait")
        if g.order is not None:
            rules.arrived(g.order, barrier.carried, warp, word, relaxed=ins.mod("sem") == "relaxed")
        lanes[barrier.generation] = lanes.get(barrier.generation, 0) | word
        if not g.live_lanes(row) & ~lanes[barrier.generation]:
            barrier.arrived.add((warp.cta.rank, warp.index))
    for _, warp, _ in rows:
        cluster_barrier(warp).check(warp.cluster.ctas)
    g.row = None


@instruction("barrier.cluster", "wait [sem=acquire] [aligned]", style="group", section=CLUSTER_SECTION, blocking=True)
def cluster_wait(g: Lockstep, ins: Instruction, mask: Any) -> None:
    for row, warp, word in g.executing(mask):
        g.row = row
        barrier, lanes = cluster_barrier(warp), _cluster_lanes(warp)
        tokens = [generation for generation, arrived in lanes.items() if arrived & word]
        if word & ~sum(lanes.values()):
            raise Fault("barrier.cluster.wait without barrier.cluster.arrive")
        token = max(tokens)
        if barrier.generation > token:
            for generation in tokens:
                if g.order is not None:
                    rules.passed(g.order, barrier.carried, generation, warp, lanes[generation] & word)
                lanes[generation] &= ~word
        else:
            g.waits[row] = Wait(
                lambda b=barrier, n=token: b.generation > n, lambda b=barrier, w=warp: _describe_cluster(b, w)
            )
    g.row = None


class _ClusterLanes(dict[int, int]):
    """The lanes of a warp that have arrived and not yet waited, by the barrier's generation at their arrival."""


def _cluster_lanes(warp: WarpContext) -> _ClusterLanes:
    found = warp.state.of(_ClusterLanes)
    for generation in [n for n, lanes in found.items() if not lanes]:
        del found[generation]
    return found


def _describe_cluster(barrier: ClusterBarrier, warp: WarpContext) -> str:
    live = sum(len(cta.live_warps) for cta in warp.cluster.ctas)
    return f"cluster barrier: {len(barrier.arrived)} of {live} warps have arrived"


def warps_exited(cta: Cta) -> None:
    """Barriers count a warp that has exited as arrived: look again whether they open."""
    for barrier in cta.state.of(_NamedBarriers).values():
        if barrier.expected is None:
            barrier.check()
    found = cta.cluster.state.find(ClusterBarrier)
    if found is not None:
        found.check(cta.cluster.ctas)


# --- warp ---


def _named(members: Any, row: int, mask: Any) -> int:
    """The lanes that the membermasks of one row name; those of tiles of a warp differ."""
    if not isinstance(members, np.ndarray):
        return int(members)
    line = row_of(members, row)
    return int(np.bitwise_or.reduce(line[row_of(mask, row)] if mask is not None and len(line) == LANES else line))


@instruction("bar.warp.sync", "", style="group", section=WARP_SECTION, blocking=True, quiet=True)
def warp_sync(g: Lockstep, ins: Instruction, mask: Any, members: Any) -> None:
    """Waits until the lanes of the mask have met here: they come along other paths of the group."""
    for row, warp, word in g.executing(mask):
        named = _named(members, row, mask)
        if named & g.live_lanes(row) & ~word:
            g.waits[row] = Wait(lambda: False, lambda: "bar.warp.sync: lanes of its mask have not come", meets=True)
        elif g.order is not None:
            rules.warp_synced(g.order, warp, named & word)
