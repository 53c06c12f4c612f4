"""Who made an access, when, and with which instruction: numbers for the shadow, and the rule that compares them.

An event is one access of a warp's instruction or of an asynchronous operation. Its number in the shadow says the lane
too: `event * SPREAD + lane`; the lane `WHOLE` stands for all lanes of the event together. Number 0 is no access.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fp4emu.instruction import Instruction
from fp4emu.order.clocks import Domain

SPREAD = 33
WHOLE = 32
FEW = 32
Numbers = NDArray[np.int32]
Flags = NDArray[np.bool_]


@dataclass(slots=True)
class Event:
    """`place` and `time` of the access in its domain's clocks; `mask` its lanes; `asynchronous`, by the async proxy;
    `strong`, the scope of a strong access ("" if weak); `kind` of a tcgen05 operation, `accumulator` of an MMA."""

    domain: Domain
    place: int
    time: int
    mask: int
    asynchronous: bool
    strong: str
    kind: str
    ins: Instruction
    cta: tuple[int, int, int]
    warp: int
    rank: int
    accumulator: tuple[int, ...] = ()

    def who(self, lane: int) -> str:
        """The instruction and its thread, for a report."""
        lane = self.mask.bit_length() - 1 if self.mask & (self.mask - 1) == 0 else lane
        lanes = f" lane {lane}" if lane < WHOLE else ""
        launch = " of the launch before" if self.domain.index < 0 else ""
        return f"PTX line {self.ins.line}{launch}, CTA {self.cta} warp {self.warp}{lanes}: {self.ins.text.strip()}"


@dataclass(slots=True)
class Events:
    """All events of a launch, as objects and as arrays, and the sets of readers that the shadow names."""

    events: list[Event | None] = field(default_factory=lambda: [None])
    agents: list[tuple[int, int]] = field(default_factory=lambda: [(-1, -1)])
    """(domain, place) of each event."""
    domain: NDArray[np.int32] = field(default_factory=lambda: np.full(1024, -1, np.int32))
    place: NDArray[np.int32] = field(default_factory=lambda: np.zeros(1024, np.int32))
    time: NDArray[np.int32] = field(default_factory=lambda: np.zeros(1024, np.int32))
    asynchronous: Flags = field(default_factory=lambda: np.zeros(1024, np.bool_))
    sets: list[frozenset[int]] = field(default_factory=lambda: [frozenset()])
    numbers: dict[frozenset[int], int] = field(default_factory=dict[frozenset[int], int])

    def add(self, event: Event) -> int:
        """The number of a new event's lane 0."""
        index = len(self.events)
        self.events.append(event)
        self.agents.append((event.domain.index, event.place))
        if index >= len(self.time):
            for name in ("domain", "place", "time", "asynchronous"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
        self.domain[index], self.place[index] = event.domain.index, event.place
        self.time[index], self.asynchronous[index] = event.time, event.asynchronous
        return index * SPREAD

    def of(self, number: int) -> tuple[Event, int]:
        """The event and the lane of a number."""
        index, lane = divmod(number, SPREAD)
        event = self.events[index]
        assert event is not None
        return event, lane

    def set(self, members: frozenset[int]) -> int:
        """The (negative) number of a set of readers; that of the reader if it is alone."""
        if len(members) == 1:
            return next(iter(members))
        found = self.numbers.get(members)
        if found is None:
            found = self.numbers[members] = -len(self.sets)
            self.sets.append(members)
        return found

    def members(self, number: int) -> frozenset[int]:
        """The readers that a number of the shadow stands for."""
        if number >= 0:
            return frozenset((number,)) if number else frozenset()
        return self.sets[-number]


def distinct(numbers: Numbers) -> set[int]:
    """The different numbers of an array."""
    return set(heads(numbers))


def heads(numbers: Numbers) -> list[int]:
    """The numbers of an array in order, of equal neighbors only one if there are many."""
    if numbers.size > FEW:
        first = numbers.item(0)
        if not np.count_nonzero(numbers != first):
            return [first]
        flat = numbers.reshape(-1)
        steps = (flat[1:] != flat[:-1]).nonzero()[0]
        return [first, *flat[1:][steps].tolist()]
    return numbers.reshape(-1).tolist()
