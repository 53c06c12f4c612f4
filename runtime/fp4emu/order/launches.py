"""The launch before, as one with a programmatic dependency on it sees it (PTX ISA 9.7.13.13, "griddepcontrol").

Such a launch may begin while the one before still runs. `griddepcontrol.wait` ends that: all accesses of the launch
before are over then, and visible to the whole grid. `griddepcontrol.launch_dependents` orders nothing. The accesses of
the launch before stand in the new shadow as those of a domain of their own, which threads know by the wait alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fp4emu.order.clocks import Clock, Domain, Times, WarpClock, merged
from fp4emu.order.events import Events, Numbers
from fp4emu.order.observer import Observer
from fp4emu.ptx.tree import Function

BEFORE = -1
"""The index of the domain of the launch before."""
_ALL: Times = np.ones(1, np.int32)


@dataclass(frozen=True, slots=True)
class Accesses:
    """What a launch has done to global memory."""

    writes: Numbers
    reads: Numbers
    events: Events

    @staticmethod
    def of(observer: Observer) -> Accesses:
        shadow = observer.global_shadow
        assert shadow is not None
        return Accesses(shadow.writes, shadow.reads, observer.events)


def depends(function: Function) -> bool:
    """Whether an entry waits for the launch before, and so may begin while that runs."""
    return any(ins.rule.opcode == "griddepcontrol" and ins.mod("action") == "wait" for ins in function.body)


def follow(observer: Observer, before: Accesses, params: slice) -> None:
    """Has a launch begin while the one before may still run; `params` are the launch's own parameters."""

    def start() -> None:
        shadow = observer.global_shadow
        assert shadow is not None
        for new, old in ((shadow.writes, before.writes), (shadow.reads, before.reads)):
            new[: len(old)] = _renamed(observer.events, before.events, old)
            new[params] = 0

    observer.starting = start


def _renamed(events: Events, before: Events, numbers: Numbers) -> Numbers:
    """The numbers of accesses as accesses of the launch before."""
    unique, inverse = np.unique(numbers, return_inverse=True)
    found = np.zeros(len(unique), np.int32)
    for i, number in enumerate(unique.tolist()):
        if number:
            event, lane = before.of(min(before.members(number)))
            domain = Domain(BEFORE, event.domain.cluster, 1)
            found[i] = events.add(replace(event, domain=domain, place=0, time=1, asynchronous=False)) + lane
    return found[inverse].reshape(numbers.shape)


def waited(warp: WarpClock, word: int) -> None:
    """griddepcontrol.wait: the launch before is over."""
    warp.update(word, _after)


def _after(clock: Clock) -> Clock:
    return replace(clock, far=merged(clock.far, ((BEFORE, _ALL, _ALL),)))
