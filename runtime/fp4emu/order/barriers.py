"""What barriers carry from those who arrive to those who wait."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fp4emu.machine import Cta
from fp4emu.order.agents import Agent, Lanes, named
from fp4emu.order.clocks import CLUSTER, CTA, NOTHING, Clock, Times, WarpClock, at, joined
from fp4emu.order.log import Log
from fp4emu.order.report import who


def both(a: Clock | None, b: Clock | None) -> Clock | None:
    """Two clocks joined."""
    return b if a is None else a if b is None else a.acquire(b)


@dataclass(slots=True, eq=False)
class Carried:
    """A `bar` or `barrier.cluster` (PTX ISA 9.7.13.1, 9.7.13.3): the clocks of each generation's arrivals."""

    arriving: Clock | None = None
    ended: dict[int, Clock] = field(default_factory=dict[int, Clock])

    def arrive(self, clock: Clock) -> None:
        self.arriving = both(self.arriving, clock)

    def end(self, generation: int) -> None:
        if self.arriving is not None:
            self.ended[generation] = self.arriving
        self.ended.pop(generation - 4, None)
        self.arriving = None


@dataclass(slots=True, eq=False)
class BarrierClock:
    """An mbarrier (PTX ISA 9.7.13.15). `own` and `remote` are what arrivals of its CTA and of others have published in
    the current phase, `last` the same of the phase before; `seen` is what those who waited for that have acquired.

    An arrival publishes with `.release` (its default) or after a release fence; a wait acquires with `.acquire` (its
    default) or before an acquire fence. A scope that does not hold both threads does not synchronise ("Memory
    Consistency Model": "Morally Strong Operations").
    """

    observer: Log
    cta: Cta
    owner: WarpClock
    lanes: int
    time: int
    line: str
    batch: int = 0
    own: Clock | None = None
    remote: Clock | None = None
    last: tuple[Clock | None, Clock | None] = (None, None)
    seen: Clock | None = None
    completions: int = 0
    waits: list[tuple[int, int]] = field(default_factory=list["tuple[int, int]"])
    met: Times = field(default_factory=lambda: NOTHING)
    far: list[tuple[Lanes, int, int, int]] = field(default_factory=list["tuple[Lanes, int, int, int]"])

    def used(self, agent: Agent) -> None:
        """Another thread, or the async proxy, needs to know that the barrier was initialised; the async proxy and other
        CTAs by way of `fence.mbarrier_init` (PTX ISA 9.7.13.4)."""
        warp = agent.warp
        mine = warp is self.owner
        fenced = bool(self.batch) and mine
        generic = isinstance(agent, Lanes) or agent.kind == "arrival"
        if generic and warp.cta is self.cta:
            word = agent.word if isinstance(agent, Lanes) else 1 << agent.lane
            place = self.owner.base + (self.lanes & -self.lanes).bit_length() - 1
            others = warp.distinct(word & ~self.lanes if mine else word)
            if any(at(known.known, place) < self.time and self.batch not in known.inits for known, _ in others):
                check = "lanes" if mine else "race"
                self.observer.fail(check, _text(self, agent, "nothing orders it after the mbarrier.init"))
            return
        clock = agent.clock if not isinstance(agent, Lanes) else warp.of((agent.word & -agent.word).bit_length() - 1)
        if not fenced and self.batch not in clock.inits:
            why = "fence.mbarrier_init.release.cluster and a barrier must stand between"
            self.observer.fail("init-fence", _text(self, agent, why))

    def arrive(self) -> None:
        """An arrival, or bytes that complete, by whoever acts."""
        agent = self.observer.acting
        assert agent is not None
        self.used(agent)
        here = agent.warp.cta is self.cta
        if isinstance(agent, Lanes):
            clock, order = self.observer.published(agent, CTA if here else CLUSTER)
        else:
            clock = order = agent.completed()
        self.met = joined(self.met, order.met)
        before = self.seen if self.waits else both(*self.last)
        if self._strict() and before is not None and not _after(order, before):
            why = "it is not ordered after the end of the phase before: an arrival too many, or a missing wait"
            self.observer.fail("phase", _text(self, agent, why))
        if here:
            self.own = both(self.own, clock)
            return
        self.remote = both(self.remote, clock)
        if not isinstance(agent, Lanes) and agent.kind == "copy":
            self.own = both(self.own, agent.effect())
        place = agent.warp.base + agent.word.bit_length() - 1 if isinstance(agent, Lanes) else agent.place
        time = agent.warp.now - 1 if isinstance(agent, Lanes) else agent.time
        self.far.append((named(agent), self.completions, place, time))

    def _strict(self) -> bool:
        """Whether it matters that phases are ordered by what synchronised, and not by this run's timing alone."""
        return self.observer.levels["phase"] == "fault"

    def complete(self) -> None:
        """The phase ends."""
        agent = self.observer.acting
        assert agent is not None
        if self.completions and not self.waits:
            self.observer.fail("phase", _text(self, agent, "nobody has waited for the phase before"))
        elif self.completions and self._strict() and not any(at(self.met, place) >= t for place, t in self.waits):
            why = "no wait for the phase before is ordered before the end of this one: it may come too late"
            self.observer.fail("phase", _text(self, agent, why))
        self.completions += 1
        self.last, self.own, self.remote = (self.own, self.remote), None, None
        self.seen, self.met = None, NOTHING
        self.waits.clear()

    def wait(self, scope: str, when: tuple[int, int]) -> tuple[Clock | None, Clock | None]:
        """What a wait may acquire: (of its CTA, of the cluster). `when` is its (place, time)."""
        self.waits.append(when)
        over = self.completions - 1
        self.far = [arrival for arrival in self.far if arrival[1] != over]
        own, remote = self.last
        got = both(own, remote) if scope == "cluster" else own
        self.seen = both(self.seen, got)
        return own, remote


def _text(barrier: BarrierClock, agent: Agent, why: str) -> str:
    """An mbarrier operation that comes too early."""
    return f"mbarrier of CTA {barrier.cta.id}, initialised by {barrier.line}: used by {who(agent)}: {why}"


def _after(clock: Clock, seen: Clock) -> bool:
    known, needed = clock.known, seen.known
    if np.count_nonzero(needed[len(known) :]):
        return False
    needed = needed[: len(known)]
    return not np.count_nonzero(known[: len(needed)] < needed)
