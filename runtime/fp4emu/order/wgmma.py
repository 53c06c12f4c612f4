"""wgmma (PTX ISA 9.7.15.7): operations of a warpgroup that read shared memory through the async proxy, and registers
that belong to them until `wgmma.wait_group`.

A wgmma is one operation of its four warps: its place in the clocks is that of the first one's pipeline, its time the
count of wgmmas. Registers of D and A may be touched only by wgmmas between the first of them and the wait; what other
instructions wrote to them must be fenced by `wgmma.fence` first (9.7.15.7.2.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fp4emu.instruction import Instruction
from fp4emu.lockstep import Lockstep
from fp4emu.machine import WarpContext
from fp4emu.order.agents import Lanes, Operation
from fp4emu.order.clocks import Clock, WarpClock
from fp4emu.order.observer import Observer
from fp4emu.order.report import who

WARPGROUP = 4


@dataclass(slots=True)
class State:
    """Of one warp: wgmmas so far, how many each committed group ends with, those that are over; registers that are in
    flight, with their wgmma and its count; registers that others have written since the last fence."""

    count: int = 0
    groups: list[int] = field(default_factory=list[int])
    flight: dict[int, tuple[int, Instruction]] = field(default_factory=dict[int, "tuple[int, Instruction]"])
    fresh: set[int] = field(default_factory=set[int])


def _state(warp: WarpContext) -> State:
    return warp.state.of(State)


def _place(clock: WarpClock, warp: WarpContext) -> int:
    return clock.domain.threads + clock.base - 32 * (warp.index % WARPGROUP)


def begin(observer: Observer, warp: WarpContext, ins: Instruction) -> Operation:
    """The warp's part of a wgmma."""
    clock, state = observer.warp(warp), _state(warp)
    state.count += 1
    published = clock.publish(0xFFFF_FFFF)
    parts = clock.distinct(0xFFFF_FFFF)
    if len(parts) > 1:  # every thread must know what the operation reads
        shared = np.minimum.reduce([clock.domain.writable(part.shared) for part, _ in parts])
        places = clock.base + np.arange(32)
        shared[places] = np.maximum(shared[places], clock.shared)
        published = Clock(published.known, shared, published.other)
    return Operation(clock, 0, ins, published, published.taken, _place(clock, warp), state.count, "wgmma")


def fence(warp: WarpContext) -> None:
    _state(warp).fresh.clear()


def commit(warp: WarpContext) -> None:
    state = _state(warp)
    state.groups.append(state.count)


def wait(observer: Observer, warp: WarpContext, pending: int) -> None:
    """All groups but the newest `pending` are over."""
    clock, state = observer.warp(warp), _state(warp)
    over = state.groups[: len(state.groups) - pending] if pending else state.groups
    if not over:
        return
    done = over[-1]
    state.groups = state.groups[len(over) :]
    state.flight = {slot: entry for slot, entry in state.flight.items() if entry[0] > done}
    clock.acquire(0xFFFF_FFFF, clock.domain.done(Clock(), [(_place(clock, warp), done)]))


def registers(g: Lockstep, ins: Instruction, mask: Any, reads: frozenset[int], writes: frozenset[int]) -> None:
    """Called by generated code in front of an instruction that touches registers of some wgmma."""
    observer: Observer = g.order
    mine = ins.rule.opcode == "wgmma.mma_async"
    for row, warp, word in g.executing(g.live if mask is None else mask):
        state = _state(warp)
        g.row = row
        if mine:
            _operate(observer, observer.warp(warp), state, ins, reads, writes)
            continue
        taken = next((slot for slot in (reads | writes) if slot in state.flight), None)
        if taken is not None:
            count, other = state.flight[taken]
            text = f"{who(Lanes(observer.warp(warp), word, ins))}: touches a register of a wgmma in flight: PTX line "
            hint = "missing: wgmma.commit_group and wgmma.wait_group before it"
            observer.fail("wgmma", f"{text}{other.line} (number {count} of the warp): {other.text.strip()}", hint)
        state.fresh |= writes
    g.row = None


def _operate(
    observer: Observer, clock: WarpClock, state: State, ins: Instruction, reads: frozenset[int], writes: frozenset[int]
) -> None:
    if state.fresh & (reads | writes):
        text = f"{who(Lanes(clock, 0xFFFF_FFFF, ins))}: its registers were written with no wgmma.fence since"
        observer.fail("wgmma", text, "missing: wgmma.fence before the first wgmma that uses them")
    for slot in reads | writes:
        state.flight[slot] = (state.count + 1, ins)
