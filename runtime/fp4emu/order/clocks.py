"""Vector clocks of the threads of a cluster, and of what they set going.

A clock is an array over the agents of one cluster (`Domain`): the time up to which the accesses of each are known to
have happened. Places of the array: a thread; then the tcgen05 or wgmma pipeline of a thread; then pools of
asynchronous operations, where a place is used again only by who knows its last operation, so that knowing a later one
means knowing the earlier ones. The lanes of a warp share one `Clock` as long as they know the same; each knows its own
accesses besides, which no array says (`WarpClock`).

PTX ISA, "Memory Consistency Model": "Causality order". Clocks of other clusters are in `far`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fp4emu.machine import Cluster, Cta

Times = NDArray[np.int32]
NOTHING: Times = np.zeros(0, np.int32)
LANES, FULL = 32, 0xFFFF_FFFF
SCOPES = ("", "cta", "cluster", "gpu", "sys")
"""Scopes of the memory consistency model, the narrow ones first; a number is an index of this."""
CTA, CLUSTER, GPU = 1, 2, 3


def _nothing() -> Times:
    return NOTHING


def joined(a: Times, b: Times) -> Times:
    """The later of two clocks, place by place; neither is changed."""
    if a is b or not len(b):
        return a
    if not len(a):
        return b
    if len(a) < len(b):
        a, b = b, a
    result = a.copy()
    np.maximum(result[: len(b)], b, out=result[: len(b)])
    return result


def at(times: Times, place: int) -> int:
    """The time at one place."""
    return int(times[place]) if place < len(times) else 0


Far = tuple[tuple[int, Times, Times], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """The tensor-map proxy (PTX ISA 9.7.13.4, fence.proxy.tensormap): accesses that a release fence covers, and those
    that an acquire fence has made visible at the address of a tensor map."""

    released: Times = field(default_factory=_nothing)
    acquired: tuple[tuple[int, Times], ...] = ()

    def acquire(self, other: Maps | None) -> Maps:
        """Both, joined."""
        if other is None or self is other:
            return self
        maps = self
        for address, times in other.acquired:
            maps = maps.seen(address, times)
        return replace(maps, released=joined(self.released, other.released))

    def seen(self, address: int, times: Times) -> Maps:
        """With what an acquire fence makes visible at an address."""
        found = dict(self.acquired)
        found[address] = joined(found.get(address, NOTHING), times)
        return replace(self, acquired=tuple(found.items()))


@dataclass(frozen=True, slots=True, eq=False)
class Clock:
    """What a thread knows to have happened. Arrays are never changed.

    `known`: all accesses. `shared`, `other`: those of shared and of global memory that a `fence.proxy.async` has made
    visible to the async proxy. `carried`, `taken`: tcgen05 operations that a `fence::before_thread_sync` published and
    that a `fence::after_thread_sync` took up. `inits`: batches of fenced `mbarrier.init`. `met`: by thread, the last
    wait for an mbarrier that came before, by whatever synchronisation. `far`: (domain, accesses, those that the async
    proxy sees) of other clusters. `released`: what release fences let relaxed operations publish, each with the scope
    of its fence; `waiting`: what relaxed operations leave to an acquire fence, each with the scope it needs. `maps`:
    what the tensor-map proxy sees, if anything was written for it.
    """

    known: Times = field(default_factory=_nothing)
    shared: Times = field(default_factory=_nothing)
    other: Times = field(default_factory=_nothing)
    carried: Times = field(default_factory=_nothing)
    taken: Times = field(default_factory=_nothing)
    inits: frozenset[int] = frozenset()
    met: Times = field(default_factory=_nothing)
    far: Far = ()
    released: tuple[tuple[int, Clock], ...] = ()
    waiting: tuple[tuple[int, Clock], ...] = ()
    maps: Maps | None = None

    def acquire(self, other: Clock) -> Clock:
        """This clock after an acquire of what another published; `taken` stays a thread's own."""
        return replace(
            self,
            known=joined(self.known, other.known),
            shared=joined(self.shared, other.shared),
            other=joined(self.other, other.other),
            carried=joined(self.carried, other.carried),
            inits=self.inits if other.inits <= self.inits else self.inits | other.inits,
            met=joined(self.met, other.met),
            far=merged(self.far, other.far),
            maps=self.maps if other.maps is None else other.maps.acquire(self.maps),
        )

    def unordered_part(self) -> Clock:
        """What even a relaxed arrival carries: tcgen05's own order, fenced inits, and the waits before it."""
        return Clock(carried=self.carried, inits=self.inits, met=self.met)

    def fenced(self, scope: int, published: Clock) -> Clock:
        """This clock after a release fence: it covers what fences of narrower scope did."""
        wider = tuple(entry for entry in self.released if entry[0] > scope)
        return replace(self, released=(*wider, (scope, published)))


def merged(a: Far, b: Far) -> Far:
    """What is known of other clusters, joined."""
    if a is b or not b:
        return a
    both = {domain: (known, seen) for domain, known, seen in a}
    for domain, known, seen in b:
        old = both.get(domain, (NOTHING, NOTHING))
        both[domain] = (joined(old[0], known), joined(old[1], seen))
    return tuple((domain, known, seen) for domain, (known, seen) in both.items())


@dataclass(slots=True, eq=False)
class WarpClock:
    """The clocks of a warp's lanes. `now` is the time of its next access, `base` the place of its lane 0.

    What a lane knows of itself: its accesses before `now`; those that its proxy fences cover, by lane; the tcgen05
    loads and stores that have completed, and those of them that a `before_thread_sync` of the lane covers; how many
    cp.async it has `issued`, and how many of these are over, in rows: known, and covered by its proxy fences for
    shared and for global memory (`copied`).
    """

    domain: Domain
    cta: Cta
    index: int
    base: int
    now: int = 1
    lanes: list[Clock] = field(default_factory=lambda: [Clock()] * LANES)
    shared: Times = field(default_factory=lambda: np.zeros(LANES, np.int32))
    other: Times = field(default_factory=lambda: np.zeros(LANES, np.int32))
    loaded: int = 0
    stored: int = 0
    before: NDArray[np.int32] = field(default_factory=lambda: np.zeros((2, LANES), np.int32))
    issued: NDArray[np.int32] = field(default_factory=lambda: np.zeros(LANES, np.int32))
    copied: NDArray[np.int32] = field(default_factory=lambda: np.zeros((3, LANES), np.int32))

    def update(self, word: int, change: Callable[[Clock], Clock]) -> None:
        """Changes the clocks of some lanes; what lanes share, they go on sharing."""
        lanes = self.lanes
        first = lanes[(word & -word).bit_length() - 1] if word else None
        if word == FULL and lanes.count(first) == LANES:  # type: ignore[arg-type]
            assert first is not None
            lanes[:] = [change(first)] * LANES
            return
        found: dict[int, Clock] = {}
        old = list(lanes)
        for lane in bits(word):
            clock = old[lane]
            new = found.get(id(clock))
            if new is None:
                new = found[id(clock)] = change(clock)
            lanes[lane] = new

    def acquire(self, word: int, other: Clock) -> None:
        self.update(word, lambda clock: clock.acquire(other))

    def distinct(self, word: int) -> list[tuple[Clock, int]]:
        """(clock, its lanes) of some lanes."""
        if not word & (word - 1):
            return [(self.lanes[word.bit_length() - 1], word)] if word else []
        first = self.lanes[(word & -word).bit_length() - 1]
        if self.lanes.count(first) == LANES:
            return [(first, word)]
        found: dict[int, list[object]] = {}
        for lane in bits(word):
            clock = self.lanes[lane]
            entry = found.setdefault(id(clock), [clock, 0])
            entry[1] = entry[1] | 1 << lane  # type: ignore[operator]
        return [(clock, mask) for clock, mask in found.values()]  # type: ignore[misc]

    def publish(self, word: int, *, pipeline: bool = False) -> Clock:
        """What lanes know now, their own accesses included; with `pipeline`, the tcgen05 operations that they issued
        too (only their completion publishes those)."""
        domain, lanes = self.domain, positions(word)
        places = lanes + self.base
        whole: Clock | None = None
        for clock, _ in self.distinct(word):
            whole = clock if whole is None else whole.acquire(clock)
        assert whole is not None
        known = domain.writable(whole.known)
        known[places] = self.now
        shared, other, carried = whole.shared, whole.other, whole.carried
        if self.shared[lanes].any():
            shared = domain.writable(shared)
            shared[places] = np.maximum(shared[places], self.shared[lanes])
        if self.other[lanes].any():
            other = domain.writable(other)
            other[places] = np.maximum(other[places], self.other[lanes])
        if self.copied[0, lanes].any():
            shared, other = domain.writable(shared), domain.writable(other)
            for times, over in zip((known, shared, other), self.copied[:, lanes], strict=True):
                times[domain.copies + places] = np.maximum(times[domain.copies + places], over)
        if pipeline:
            known[domain.threads + places] = self.now
            carried = domain.writable(joined(carried, whole.taken))
            carried[domain.threads + places] = self.now
            self.before[:, lanes] = [[self.loaded], [self.stored]]
        if self.before[:, lanes].any():
            carried = carried if pipeline else domain.writable(carried)
            carried[places] = np.maximum(carried[places], self.before[0, lanes])
            carried[2 * domain.threads + places] = np.maximum(
                carried[2 * domain.threads + places], self.before[1, lanes]
            )
        self.now += 1
        return Clock(known, shared, other, carried, inits=whole.inits, met=whole.met, far=whole.far, maps=whole.maps)

    def waited(self, word: int) -> tuple[int, int]:
        """Notes that lanes have waited for an mbarrier: (place, time) of the wait in `met`."""
        place = self.base + (word & -word).bit_length() - 1

        def change(clock: Clock) -> Clock:
            met = np.zeros(self.domain.threads, np.int32)
            met[: len(clock.met)] = clock.met
            met[place] = self.now
            return replace(clock, met=met)

        self.update(word, change)
        return place, self.now


@dataclass(slots=True, eq=False)
class Domain:
    """The agents of one cluster: `threads` places of threads, as many of their pipelines, then pools of
    asynchronous operations. From `copies` on, once there is one, are as many places of the threads' cp.async, which
    complete in order for who waits."""

    index: int
    cluster: Cluster
    threads: int
    warps: dict[tuple[int, int], WarpClock] = field(default_factory=dict["tuple[int, int]", WarpClock])
    size: int = 0
    copies: int = 0
    last: dict[int, int] = field(default_factory=dict[int, int])
    pools: dict[int, list[int]] = field(default_factory=dict[int, "list[int]"])

    def writable(self, times: Times) -> Times:
        """A copy with all places."""
        result = np.zeros(max(self.size, len(times)), np.int32)
        result[: len(times)] = times
        return result

    def operation(self, owner: int, clock: Clock) -> tuple[int, int]:
        """(place, time) for an operation that a thread issues: a place whose last operation it knows, or a new one."""
        pool = self.pools.setdefault(owner, [])
        place = next((p for p in pool if at(clock.known, p) >= self.last[p]), None)
        if place is None:
            place = self.size
            self.size += 1
            self.last[place] = 0
            pool.append(place)
        self.last[place] += 1
        return place, self.last[place]

    def copy(self, warp: WarpClock, lane: int) -> tuple[int, int]:
        """(place, time) for a thread's next cp.async."""
        if not self.copies:
            self.copies = self.size
            self.size += self.threads
        warp.issued[lane] += 1
        return self.copies + warp.base + lane, int(warp.issued[lane])

    def done(self, clock: Clock, operations: Iterable[tuple[int, int]]) -> Clock:
        """A clock that knows operations besides."""
        known = self.writable(clock.known)
        for place, time in operations:
            known[place] = max(int(known[place]), time)
        return replace(clock, known=known)


@lru_cache(maxsize=4096)
def bits(word: int) -> tuple[int, ...]:
    """Positions of the set bits."""
    return tuple(i for i in range(LANES) if word >> i & 1)


@lru_cache(maxsize=4096)
def positions(word: int) -> NDArray[np.int64]:
    """The same as an array, which nobody changes."""
    found = np.array(bits(word), np.int64)
    found.setflags(write=False)
    return found
