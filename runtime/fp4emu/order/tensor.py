"""Tensor memory: what tcgen05.mma, cp, ld and st may rely on (PTX ISA 9.7.16.6, "Memory Consistency Model for 5th
generation of TensorCore operations").

A load or store of a warp is over for its own threads after `tcgen05.wait`, an MMA or a copy after a wait for the
`tcgen05.commit` of its own thread; others know of it by `fence::before_thread_sync`, a synchronisation and
`fence::after_thread_sync`. Of one thread's operations mma -> mma and cp -> mma run in order (9.7.16.6.2, "Pipelined
tcgen05 Instructions", which lists the pairs: mma -> mma of the same accumulator and shape, cp -> mma, shift -> mma,
shift -> cp.4x256b, mma -> shift). mma -> cp and cp -> cp are not in the list: a copy over
scale factors that an earlier MMA of the same thread may still read is not ordered by the ISA (`mma-cp`), nor is an MMA
that reads or writes what one with another accumulator or shape has written (`mma-mma`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fp4emu.order.agents import Agent, Lanes, Operation
from fp4emu.order.clocks import Times, at
from fp4emu.order.events import WHOLE, Event, Numbers, distinct
from fp4emu.order.lanes import bits
from fp4emu.order.log import Log
from fp4emu.order.report import access_text, missing
from fp4emu.order.shadow import Cells


def allocated(log: Log, cells: Cells, columns: slice) -> None:
    """Newly allocated columns: nothing was there before `tcgen05.alloc`, which is over where it stands."""
    agent = log.acting
    assert isinstance(agent, Lanes)
    cells.writes[:, columns] = _number(log, agent)
    cells.reads[:, columns] = 0
    agent.warp.stored = agent.warp.now
    agent.warp.now += 1


def touch(log: Log, cells: Cells, where: Any, write: bool) -> None:
    """Whoever acts reads or writes cells."""
    agent = log.acting
    if agent is None:
        return
    number = _number(log, agent)
    _check(log, cells, where, cells.writes[where], agent, write, "wrote")
    old = cells.reads[where]
    fresh = not np.count_nonzero(old != 0)
    if write:
        if not fresh:
            _check(log, cells, where, old, agent, True, "read")
            cells.reads[where] = 0
        cells.writes[where] = number
        return
    if fresh:
        cells.reads[where] = number
        return
    new = np.full(old.shape, number, np.int32)
    for other in distinct(old):
        members = [m for m in log.events.members(other) if not _supersedes(log, agent, m)]
        if members:
            new[old == other] = log.events.set(frozenset(members) | {number})
    cells.reads[where] = new


def kind_of(agent: Agent) -> str:
    """The kind of an operation: "ld", "st", "mma", "cp" or "dealloc"."""
    if isinstance(agent, Operation):
        return agent.kind
    return agent.ins.rule.opcode.removeprefix("tcgen05.")


def _number(log: Log, agent: Agent) -> int:
    if isinstance(agent, Operation):
        return log.number(agent, "tensor")
    warp, kind = agent.warp, kind_of(agent)
    place = warp.base + (2 * warp.domain.threads if kind in ("st", "alloc") else 0)
    event = Event(
        warp.domain, place, warp.now, agent.word, False, "", kind, agent.ins, warp.cta.id, warp.index, warp.cta.rank
    )
    return log.events.add(event) + WHOLE


def _supersedes(log: Log, agent: Agent, number: int) -> bool:
    """Whether a later reader's completion implies an earlier one's."""
    event, _ = log.events.of(number)
    return _pipeline(event) == (agent.place if isinstance(agent, Operation) else agent.warp.base) and (
        kind_of(agent) == event.kind
    )


def _pipeline(event: Event) -> int:
    return event.place


def _check(log: Log, cells: Cells, where: Any, numbers: Numbers, agent: Agent, write: bool, was: str) -> None:
    found = distinct(numbers)
    for number in found:
        for member in log.events.members(number):
            event, _ = log.events.of(member)
            check = _failed(event, agent)
            if check is None or log.levels[check] == "off":
                continue
            element, count = cells.first(where, numbers == number if len(found) > 1 else None, numbers.shape)
            key = (check, write, element, count, was, *_thread(event, agent))
            if key in log.warned:
                continue
            text = access_text(agent, write, cells.name(element), count, "cells", event, WHOLE, was)
            log.fail(check, text, missing(check, agent, event))
            log.warned.add(key)


def _thread(event: Event, agent: Agent) -> tuple[Any, ...]:
    """What names both threads and their instructions."""
    lanes = agent.word if isinstance(agent, Lanes) else agent.lane
    mine = id(agent.ins), agent.warp.cta.id, agent.warp.index, lanes
    return id(event.ins), event.cta, event.warp, event.mask, *mine


def _failed(event: Event, agent: Agent) -> str | None:
    """The check that fails, if an operation does not come before the agent's."""
    if isinstance(agent, Operation):
        return _failed_operation(event, agent)
    warp = agent.warp
    for clock, _ in warp.distinct(agent.word):
        if event.kind in ("ld", "st", "alloc"):
            if _own_index(event, warp.domain.threads) == warp.base:
                if event.time > (warp.loaded if event.kind == "ld" else warp.stored):
                    return "tcgen05"
            elif not _any_taken(event, clock.taken) if event.kind == "alloc" else not _all_taken(event, clock.taken):
                return "alloc" if event.kind == "alloc" else "tcgen05"
        elif event.kind != "dealloc" and at(clock.taken, event.place) < event.time:
            return "tcgen05"
    return None


def _failed_operation(event: Event, agent: Operation) -> str | None:
    threads = agent.warp.domain.threads
    if event.kind in ("mma", "cp"):
        if at(agent.taken, event.place) >= event.time or event.place != agent.place:
            return None if at(agent.taken, event.place) >= event.time else "tcgen05"
        if agent.kind == "mma":
            other = event.kind == "mma" and event.time != agent.time and event.accumulator != agent.accumulator
            return "mma-mma" if other else None
        return "mma-cp" if event.time != agent.time else None
    if event.kind == "dealloc":
        return None
    own = _own_index(event, threads) == agent.warp.base
    if event.kind == "alloc":
        return None if own or _any_taken(event, agent.taken) else "alloc"
    done = agent.loaded if event.kind == "ld" else agent.stored
    for lane in bits(event.mask):
        if own and lane == agent.lane and event.time <= done:
            continue
        if at(agent.taken, event.place + lane) < event.time:
            return "tcgen05"
    return None


def _own_index(event: Event, threads: int) -> int:
    return event.place % threads if event.place >= 2 * threads else event.place


def _any_taken(event: Event, taken: Times) -> bool:
    return any(at(taken, event.place + lane) >= event.time for lane in bits(event.mask))


def _all_taken(event: Event, taken: Times) -> bool:
    return all(at(taken, event.place + lane) >= event.time for lane in bits(event.mask))


__all__ = ["Lanes", "allocated", "kind_of", "touch"]
