"""Whether an access happens before another: what its agent knows, by the clocks or because the warp did both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.order.agents import CP_ASYNC, Agent, Lanes, Operation
from fp4emu.order.clocks import CLUSTER, CTA, GPU, NOTHING, SCOPES, Clock, Times, at
from fp4emu.order.events import SPREAD, WHOLE, Event, Events, Numbers, heads
from fp4emu.order.lanes import FULL, LANES, bits, positions
from fp4emu.order.log import strong_scope

SOME, MANY = 12, 48
"""Accesses that are compared one by one; more than `SOME` of them by event, more than `MANY` as arrays."""


@dataclass(slots=True)
class Sight:
    """What an agent can rely on: `known`, all accesses; `visible`, those of the generic proxy that its own proxy
    sees."""

    agent: Agent
    clock: Clock
    known: Times
    visible: Times

    @staticmethod
    def of(agent: Agent, space: str, knows: Clock | None = None) -> Sight:
        """What an agent sees of a memory; `knows`, the clock of those of its lanes that are looked at."""
        if isinstance(agent, Operation):
            clock = agent.clock
            visible = clock.known if agent.generic else clock.shared if space == "shared" else clock.other
            return Sight(agent, clock, clock.known, visible)
        clock = knows or agent.warp.of((agent.word & -agent.word).bit_length() - 1)
        return Sight(agent, clock, clock.known, clock.known)

    def knows_far(self, event: Event) -> bool:
        """Whether an access of another cluster happened before."""
        if event.domain is self.agent.warp.domain:
            return False
        return at(self._far(event, seen=self._fenced(event)), event.place) >= event.time

    def _fenced(self, event: Event) -> bool:
        """Whether the access must be visible to the async proxy."""
        return isinstance(self.agent, Operation) and not self.agent.generic and not event.asynchronous

    def _far(self, event: Event, *, seen: bool) -> Times:
        for domain, known, visible in self.clock.far:
            if domain == event.domain.index:
                return visible if seen else known
        return NOTHING

    def unfenced_far(self, event: Event) -> bool:
        """Whether an access of another cluster happened before, but nothing made it visible to the async proxy."""
        return self._fenced(event) and at(self._far(event, seen=False), event.place) >= event.time


def _known(events: Events, numbers: Numbers, sight: Sight) -> NDArray[np.bool_]:
    """Which accesses an agent sees to have happened before."""
    known, visible, agent = sight.known, sight.visible, sight.agent
    index = np.maximum(numbers, 0) // SPREAD
    lane = numbers - index * SPREAD
    place, time = events.place[index] + lane, events.time[index]
    seen = times_at(known, place) >= time
    if visible is not known:
        seen = np.where(events.asynchronous[index], seen, times_at(visible, place) >= time)
    seen &= (lane < WHOLE) & (events.domain[index] == agent.warp.domain.index) & (numbers > 0)
    return seen | (numbers == 0)


def _all_known(events: Events, numbers: Numbers, sight: Sight) -> bool:
    """Whether an agent sees all lanes of a few events with these numbers to have happened before: found by event
    alone, and False for more."""
    index = numbers // SPREAD
    if int((numbers - index * SPREAD).max()) >= WHOLE:
        return False
    found = set(index.tolist())
    if len(found) * 4 > len(numbers):
        return False
    found.discard(0)
    return all(one > 0 and whole_known(events.of(one * SPREAD)[0], sight) for one in found)


def whole_known(event: Event, sight: Sight) -> bool:
    """Whether an agent sees an access, of all its lanes, to have happened before."""
    agent = sight.agent
    if event.domain is not agent.warp.domain:
        return False
    times = sight.visible if isinstance(agent, Operation) and not event.asynchronous else sight.known
    if event.kind:
        return at(times, event.place) >= event.time
    part = times[event.place : event.place + LANES]
    if len(part) < LANES:
        return False
    return not np.count_nonzero((part if event.mask == FULL else part[positions(event.mask)]) < event.time)


def unseen(events: Events, numbers: Numbers, sight: Sight) -> list[int]:
    """The different accesses that an agent does not see to have happened before."""
    different = heads(numbers)
    if len(different) == 1 and not different[0]:
        return []
    if len(different) > SOME:
        array = np.array(different, np.int32)
        if _all_known(events, array, sight):
            return []
        if len(different) > MANY:
            left = array[~_known(events, array, sight)]
            if not len(left):
                return []
            unknown = set(left.tolist())
            return [number for number in set(different) if number in unknown]
    known, visible, agent = sight.known, sight.visible, sight.agent
    operation, domain, rest = isinstance(agent, Operation), agent.warp.domain, list[int]()
    for number in set(different):
        if number > 0:
            event, lane = events.of(number)
            if lane < WHOLE and event.domain is domain:
                times = visible if operation and not event.asynchronous else known
                place = event.place + lane
                if place < len(times) and times[place] >= event.time:
                    continue
            rest.append(number)
        elif number:
            rest.append(number)
    return rest


def unordered(event: Event, lane: int, sight: Sight, lanes: Any, here: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The elements of `here` that an access does not happen before; None if there is none."""
    known, visible, agent = sight.known, sight.visible, sight.agent
    if lane == WHOLE and not event.kind and whole_known(event, sight):
        return None
    if (event.strong and _morally_strong(event, agent)) or sight.knows_far(event):
        return None
    times = visible if isinstance(agent, Operation) and not event.asynchronous else known
    if event.domain is not agent.warp.domain:
        return here
    if isinstance(agent, Operation):
        if (event.place, event.time) == (agent.place, agent.time):
            return None
        members = bits(event.mask) if lane == WHOLE else [lane]
        return None if all(at(times, event.place + m) >= event.time for m in members) else here
    if event.asynchronous:
        return None if at(times, event.place) >= event.time else here
    if event.kind == CP_ASYNC:
        return _copied(event, agent, known, lanes, here)
    members = bits(event.mask) if lane == WHOLE else [lane]
    unknown = [m for m in members if at(times, event.place + m) < event.time]
    if not unknown:
        return None
    if event.place != agent.warp.base:
        return here
    if lanes is None:
        if lane == WHOLE and event.mask == agent.word:
            return None  # the warp did both together
        return None if agent.word == sum(1 << m for m in unknown) else here
    own = np.broadcast_to(lanes[:, None], here.shape)
    bad = here & ~((own == unknown[0]) if len(unknown) == 1 else np.zeros_like(here))
    return bad if bad.any() else None


def _copied(event: Event, agent: Lanes, known: Times, lanes: Any, here: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The elements that a cp.async does not happen before: its own thread knows what it has waited for."""
    warp, mine = agent.warp, event.mask.bit_length() - 1
    if at(known, event.place) >= event.time:
        return None
    if event.place != warp.domain.copies + warp.base + mine or event.time > warp.copied[0, mine]:
        return here
    if lanes is None:
        return None if agent.word == event.mask else here
    bad = here & (np.broadcast_to(lanes[:, None], here.shape) != mine)
    return bad if bad.any() else None


def _morally_strong(event: Event, agent: Agent) -> bool:
    """Both strong, each in the scope of the other (PTX ISA, "Morally Strong Operations")."""
    mine = agent.strong if isinstance(agent, Operation) else strong_scope(agent.ins)
    if not mine:
        return False
    warp = agent.warp
    needed = GPU if event.domain is not warp.domain else CTA if event.cta == warp.cta.id else CLUSTER
    return min(SCOPES.index(mine), SCOPES.index(event.strong)) >= needed


def failed_check(event: Event, lane: int, sight: Sight, was: str) -> str:
    """The name of the check that two unordered accesses fail."""
    agent = sight.agent
    if event.domain is not agent.warp.domain and sight.unfenced_far(event):
        return "proxy" if was == "wrote" else "refill"
    if isinstance(agent, Operation) and not event.asynchronous and event.domain is agent.warp.domain:
        members = bits(event.mask) if lane == WHOLE else [lane]
        if all(at(agent.clock.known, event.place + m) >= event.time for m in members):
            return "proxy" if was == "wrote" else "refill"
    same = event.domain is agent.warp.domain and event.place == agent.warp.base and not event.asynchronous
    return "lanes" if same and isinstance(agent, Lanes) else "race"


def other_readers(events: Events, members: frozenset[int], new: int) -> frozenset[int]:
    """The readers that stay beside a new one: not those of its own lanes of its own warp."""
    mine = events.agents[new // SPREAD]
    same = [m for m in members if events.agents[m // SPREAD] == mine and _covered(events, m, new)]
    return members.difference(same) if same else members


def _covered(events: Events, old: int, new: int) -> bool:
    """Whether the lanes of an older access are among those of a newer one of the same warp."""
    (a, lane_a), (b, lane_b) = events.of(old), events.of(new)
    if a.domain is not b.domain or a.asynchronous or b.asynchronous:
        return False
    mask_a = a.mask if lane_a == WHOLE else 1 << lane_a
    mask_b = b.mask if lane_b == WHOLE else 1 << lane_b
    return not mask_a & ~mask_b


def times_at(times: Times, place: NDArray[Any]) -> NDArray[Any]:
    """The times at some places."""
    if not len(times):
        return np.zeros(place.shape, np.int32)
    found = times.take(place, mode="clip")
    return found if int(place.max()) < len(times) else np.where(place < len(times), found, 0)
