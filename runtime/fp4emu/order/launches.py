"""The launch before, as one with a programmatic dependency on it sees it (PTX ISA 9.7.13.13, "griddepcontrol").

Such a launch may begin while the one before still runs. `griddepcontrol.wait` ends that: all accesses of the launch
before are over then, and visible to the whole grid. `griddepcontrol.launch_dependents` orders nothing. The accesses of
the launch before stand in the new shadow as those of a domain of their own, which threads know by the wait alone. With
them stand those of the launch before that one, where it may still run: a CTA of the launch before has let the next one
begin before it waited itself. No wait orders them where none of that launch's CTAs has waited.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fp4emu.dependency import Dependency
from fp4emu.order.clocks import Clock, Domain, Times, WarpClock, merged
from fp4emu.order.events import Events, Numbers
from fp4emu.order.observer import Observer
from fp4emu.order.shadow import Table
from fp4emu.ptx.tree import Function

BEFORE, UNKNOWN = -1, -2
"""The indices of the domains of the launch before, and of those for which nobody waits."""
_ALL: Times = np.ones(1, np.int32)


@dataclass(frozen=True, slots=True)
class Accesses:
    """What a launch has done to global memory. `older`: the domain of what it began with, as the next launch sees it,
    None where that is over."""

    table: Table
    events: Events
    older: int | None

    @staticmethod
    def of(observer: Observer, dependency: Dependency) -> Accesses:
        """Those of a launch that has ended."""
        shadow = observer.global_shadow
        assert shadow is not None
        older = (BEFORE if dependency.early else None) if dependency.waited else UNKNOWN
        return Accesses(shadow.table, observer.events, older)


def depends(function: Function) -> bool:
    """Whether an entry waits for the launch before, and so may begin while that runs."""
    return any(ins.rule.opcode == "griddepcontrol" and ins.mod("action") == "wait" for ins in function.body)


def follow(observer: Observer, before: Accesses, params: slice) -> None:
    """Has a launch begin while the one before may still run; `params` are the launch's own parameters."""

    def start() -> None:
        shadow, old = observer.global_shadow, before.table
        assert shadow is not None
        table = shadow.table
        if old.grain == 1:
            table.refine()
        for new, numbers in ((table.writes, old.writes), (table.reads, old.reads)):
            new[: len(numbers)] = _renamed(observer.events, before, numbers)
            new[params.start // table.grain : -(-params.stop // table.grain)] = 0

    observer.starting = start


def _renamed(events: Events, before: Accesses, numbers: Numbers) -> Numbers:
    """The numbers of accesses as accesses of the launch before."""
    unique, inverse = np.unique(numbers, return_inverse=True)
    found = np.zeros(len(unique), np.int32)
    for i, number in enumerate(unique.tolist()):
        if number:
            event, lane = before.events.of(min(before.events.members(number)))
            old = event.domain.index
            index = BEFORE if old >= 0 else None if before.older is None else min(before.older, old)
            if index is not None:
                domain = Domain(index, event.domain.cluster, 1)
                found[i] = events.add(replace(event, domain=domain, place=0, time=1, asynchronous=False)) + lane
    return found[inverse].reshape(numbers.shape)


def waited(warp: WarpClock, word: int) -> None:
    """griddepcontrol.wait: the launch before is over."""
    warp.update(word, _after)


def _after(clock: Clock) -> Clock:
    return replace(clock, far=merged(clock.far, ((BEFORE, _ALL, _ALL),)))
