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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.machine import Cluster, Cta
from fp4emu.order.lanes import FULL, LANES, span

Times = NDArray[np.int32]
NOTHING: Times = np.zeros(0, np.int32)
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
    if len(a) == len(b):
        return np.maximum(a, b)
    result = a.copy()
    np.maximum(a[: len(b)], b, out=result[: len(b)])
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


@dataclass(slots=True, eq=False)
class Clock:
    """What a thread knows to have happened. It is never changed, nor are its arrays (but not frozen: there are so many
    that the time to make one counts, and a frozen one takes three times as long; `Event`, `Lanes` and `Sight` too).

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
        return Clock(
            joined(self.known, other.known),
            joined(self.shared, other.shared),
            joined(self.other, other.other),
            joined(self.carried, other.carried),
            self.taken,
            self.inits if other.inits <= self.inits else self.inits | other.inits,
            joined(self.met, other.met),
            merged(self.far, other.far),
            self.released,
            self.waiting,
            self.maps if other.maps is None else other.maps.acquire(self.maps),
        )

    def overtaken(self, whole: Clock) -> Clock:
        """The same where the other knows all that this one does."""
        return Clock(
            whole.known, whole.shared, whole.other, whole.carried, self.taken, whole.inits, whole.met, whole.far,
            self.released, self.waiting, whole.maps,
        )  # fmt: skip

    def knowing(self, known: Times) -> Clock:
        """The same with other accesses that are known."""
        return Clock(
            known, self.shared, self.other, self.carried, self.taken, self.inits, self.met, self.far,
            self.released, self.waiting, self.maps,
        )  # fmt: skip

    def tcgen(self, carried: Times, taken: Times) -> Clock:
        """The same with other tcgen05 operations that are published and taken up."""
        return Clock(
            self.known, self.shared, self.other, carried, taken, self.inits, self.met, self.far,
            self.released, self.waiting, self.maps,
        )  # fmt: skip

    def proxied(self, *, here: bool, there: bool) -> Clock:
        """This clock after a proxy fence: all that is known of shared memory (`here`) and global memory (`there`)."""
        far = tuple((domain, known, known) for domain, known, _ in self.far) if there and self.far else self.far
        return Clock(
            self.known, self.known if here else self.shared, self.known if there else self.other, self.carried,
            self.taken, self.inits, self.met, far, self.released, self.waiting, self.maps,
        )  # fmt: skip

    def met_at(self, met: Times) -> Clock:
        """The same with other waits that came before."""
        return Clock(
            self.known, self.shared, self.other, self.carried, self.taken, self.inits, met, self.far,
            self.released, self.waiting, self.maps,
        )  # fmt: skip

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
    """The clocks of a warp's lanes. `now` is the time of its next access, `base` the place of its lane 0. `groups` are
    (lanes, the clock that they share), those with the lowest lane first.

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
    groups: list[tuple[int, Clock]] = field(default_factory=lambda: [(FULL, Clock())])
    shared: Times = field(default_factory=lambda: np.zeros(LANES, np.int32))
    other: Times = field(default_factory=lambda: np.zeros(LANES, np.int32))
    loaded: int = 0
    stored: int = 0
    before: NDArray[np.int32] = field(default_factory=lambda: np.zeros((2, LANES), np.int32))
    issued: NDArray[np.int32] = field(default_factory=lambda: np.zeros(LANES, np.int32))
    copied: NDArray[np.int32] = field(default_factory=lambda: np.zeros((3, LANES), np.int32))
    fenced: list[int] = field(default_factory=lambda: [0, 0])
    befores: int = 0
    copies: int = 0
    """The lanes that have something in `shared` and `other`, in `before`, and in `copied`."""

    def of(self, lane: int) -> Clock:
        """The clock of a lane."""
        return next(clock for mask, clock in self.groups if mask >> lane & 1)

    def update(self, word: int, change: Callable[[Clock], Clock]) -> None:
        """Changes the clocks of some lanes; what lanes share, they go on sharing."""
        if len(self.groups) == 1 and word == FULL:
            self.groups = [(FULL, change(self.groups[0][1]))]
            return
        found: dict[int, tuple[int, Clock]] = {}
        for mask, clock in self.groups:
            if rest := mask & ~word:
                _add(found, rest, clock)
            if inside := mask & word:
                _add(found, inside, change(clock))
        self.groups = sorted(found.values(), key=_lowest)

    def acquire(self, word: int, other: Clock) -> None:
        self.update(word, lambda clock: clock.acquire(other))

    def meet(self, word: int) -> None:
        """Lanes wait for each other: each knows then what any of them knew."""
        whole, kept = self.publish(word), list[Clock]()

        def change(clock: Clock) -> Clock:
            new = clock.overtaken(whole)
            same = next((other for other in kept if _alike(other, new)), None)
            if same is None:
                kept.append(new)
            return same or new

        self.update(word, change)

    def distinct(self, word: int) -> list[tuple[Clock, int]]:
        """(clock, its lanes) of some lanes."""
        if len(self.groups) == 1:
            return [(self.groups[0][1], word)] if word else []
        parts = [(mask & word, clock) for mask, clock in self.groups if mask & word]
        if len(parts) > 1:
            parts.sort(key=_lowest)
        return [(clock, mask) for mask, clock in parts]

    def publish(self, word: int, *, pipeline: bool = False) -> Clock:
        """What lanes know now, their own accesses included; with `pipeline`, the tcgen05 operations that they issued
        too (only their completion publishes those)."""
        domain, lanes, places = self.domain, span(word, 0), span(word, self.base)
        whole: Clock | None = None
        for clock, _ in self.distinct(word):
            whole = clock if whole is None else whole.acquire(clock)
        assert whole is not None
        known = domain.writable(whole.known)
        known[places] = self.now
        shared, other, carried = whole.shared, whole.other, whole.carried
        if self.fenced[0] & word:
            shared = domain.raised(shared, places, self.shared[lanes])
        if self.fenced[1] & word:
            other = domain.raised(other, places, self.other[lanes])
        if self.copies & word:
            shared, other = domain.writable(shared), domain.writable(other)
            copies = span(word, self.base + domain.copies)
            for times, over in zip((known, shared, other), self.copied, strict=True):
                times[copies] = np.maximum(times[copies], over[lanes])
        if pipeline:
            pipelines = span(word, self.base + domain.threads)
            known[pipelines] = self.now
            carried = domain.writable(joined(carried, whole.taken))
            carried[pipelines] = self.now
            self.thread_sync(word)
        if self.befores & word:
            loaded, stored = self.before
            carried = domain.raised(carried, places, loaded[lanes])
            carried = domain.raised(carried, span(word, self.base + 2 * domain.threads), stored[lanes])
        self.now += 1
        return Clock(known, shared, other, carried, inits=whole.inits, met=whole.met, far=whole.far, maps=whole.maps)

    def thread_sync(self, word: int) -> None:
        """Who synchronizes with these lanes may rely on the tcgen05 loads and stores that are over."""
        self.before[0, span(word, 0)] = self.loaded
        self.before[1, span(word, 0)] = self.stored
        self.befores |= word

    def proxied(self, word: int, *, here: bool, there: bool) -> None:
        """The async proxy may see what these lanes did in shared memory (`here`) and in global memory (`there`)."""
        lanes = span(word, 0)
        for row, (covered, times) in enumerate(((here, self.shared), (there, self.other))):
            if covered:
                times[lanes] = self.now
                self.copied[row + 1, lanes] = self.copied[0, lanes]
                self.fenced[row] |= word
        self.now += 1

    def copies_over(self, lane: int, count: int) -> None:
        """The first `count` cp.async of a lane are over."""
        self.copied[0, lane] = max(int(self.copied[0, lane]), count)
        self.copies |= 1 << lane

    def waited(self, word: int) -> tuple[int, int]:
        """Notes that lanes have waited for an mbarrier: (place, time) of the wait in `met`."""
        place = self.base + (word & -word).bit_length() - 1

        def change(clock: Clock) -> Clock:
            met = np.zeros(self.domain.threads, np.int32)
            met[: len(clock.met)] = clock.met
            met[place] = self.now
            return clock.met_at(met)

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
        if len(times) >= self.size:
            return times.copy()
        result = np.zeros(self.size, np.int32)
        result[: len(times)] = times
        return result

    def raised(self, times: Times, places: Any, least: Any) -> Times:
        """The times, at some places at least so late; a copy only where they are not."""
        if len(times) >= self.size:
            early = times[places] < least
            if not (early if isinstance(places, int) else np.count_nonzero(early)):
                return times
        times = self.writable(times)
        times[places] = np.maximum(times[places], least)
        return times

    def operation(self, owner: int, clock: Clock) -> tuple[int, int]:
        """(place, time) for an operation that a thread issues: a place whose last operation it knows, or a new one."""
        pool, known, last = self.pools.setdefault(owner, []), clock.known, self.last
        size = len(known)
        for place in pool:
            if place < size and known[place] >= last[place]:
                break
        else:
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
        return clock.knowing(known)


def _add(found: dict[int, tuple[int, Clock]], lanes: int, clock: Clock) -> None:
    others, _ = found.get(id(clock), (0, clock))
    found[id(clock)] = others | lanes, clock


def _lowest(group: tuple[int, Clock]) -> int:
    return group[0] & -group[0]


def _alike(a: Clock, b: Clock) -> bool:
    """Whether two clocks are the same, of which all is the same but what `Clock.overtaken` keeps."""
    if len(a.released) + len(b.released) + len(a.waiting) + len(b.waiting):
        return False
    return a.taken is b.taken or np.array_equal(a.taken, b.taken)
