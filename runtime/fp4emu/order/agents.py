"""Who makes an access: lanes of a warp, or an asynchronous operation that a thread issued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fp4emu.instruction import Instruction
from fp4emu.order.clocks import NOTHING, Clock, Times, WarpClock
from fp4emu.order.lanes import bits


@dataclass(slots=True)
class Lanes:
    """Lanes of a warp that execute an instruction together."""

    warp: WarpClock
    word: int
    ins: Instruction


Accumulator = tuple[int, ...]
"""Of a tcgen05.mma, where its D lies and its shape; () of all else."""


@dataclass(slots=True, eq=False)
class Operation:
    """An asynchronous operation. `clock` is what its thread knew when it issued it, `taken` the tcgen05 operations
    that the thread had taken up; `covers` are operations whose completion it waits for."""

    warp: WarpClock
    lane: int
    ins: Instruction
    clock: Clock
    taken: Times
    place: int
    time: int
    kind: str
    strong: str = ""
    generic: bool = False
    """Whether it accesses memory through the generic proxy (cp.async, st.async, red.async)."""
    covers: list[Operation] = field(default_factory=list["Operation"])
    loaded: int = 0
    stored: int = 0
    accumulator: Accumulator = ()
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    """Its events, by memory."""

    def completed(self) -> Clock:
        """What the completion publishes."""
        done = [(op.place, op.time) for op in self.covers]
        own = [] if self.kind in ("commit", "arrival") else [(self.place, self.time)]
        return self.warp.domain.done(self.clock, [*done, *own])

    def effect(self) -> Clock:
        """The operation alone, without what its thread knew."""
        return self.warp.domain.done(Clock(), [(self.place, self.time)])


Agent = Lanes | Operation

_PIPELINE = {"tcgen05.mma": "mma", "tcgen05.mma.ws": "mma", "tcgen05.cp": "cp", "tcgen05.commit": "commit"}
CP_ASYNC = "cp.async"
"""The kind of a copy that is not bulk: through the generic proxy, waited for in order (PTX ISA 9.7.9.25.3)."""


def issue(warp: WarpClock, lane: int, ins: Instruction) -> Operation:
    """The operation that a thread starts with an instruction."""
    opcode = ins.rule.opcode
    kind = _PIPELINE.get(opcode, "copy")
    clock = warp.of(lane)
    if kind != "copy":
        time = warp.now
        published = warp.publish(1 << lane, pipeline=kind == "commit")
        place = warp.domain.threads + warp.base + lane
        return Operation(
            warp, lane, ins, published, clock.taken, place, time, kind, loaded=warp.loaded, stored=warp.stored
        )
    published = warp.publish(1 << lane)
    if opcode == CP_ASYNC:
        place, time = warp.domain.copy(warp, lane)
        return Operation(warp, lane, ins, published, clock.taken, place, time, CP_ASYNC, generic=True)
    if opcode == "cp.async.mbarrier.arrive":
        return _arrival(warp, lane, ins, published)
    place, time = warp.domain.operation(warp.base + lane, published)
    strong = "gpu" if opcode.startswith(("cp.reduce", "red.async")) else ""
    generic = opcode in ("st.async", "red.async")
    return Operation(warp, lane, ins, published, clock.taken, place, time, kind, strong, generic)


def beside(copy: Operation) -> Operation:
    """Another operation of the same instruction."""
    place, time = copy.warp.domain.operation(copy.warp.base + copy.lane, copy.clock)
    return Operation(
        copy.warp, copy.lane, copy.ins, copy.clock, copy.taken, place, time, copy.kind, copy.strong, copy.generic
    )


def _arrival(warp: WarpClock, lane: int, ins: Instruction, published: Clock) -> Operation:
    """cp.async.mbarrier.arrive (9.7.13.15.15): the arrival says that the thread's cp.async so far are over."""
    domain, count = warp.domain, int(warp.issued[lane])
    if count:
        published = domain.done(published, [(domain.copies + warp.base + lane, count)])
    return Operation(warp, lane, ins, published, NOTHING, warp.base + lane, warp.now - 1, "arrival", generic=True)


def named(agent: Agent) -> Lanes:
    """Who acted, without what it knew: enough for a report."""
    return agent if isinstance(agent, Lanes) else Lanes(agent.warp, 1 << agent.lane, agent.ins)


def lanes_of(agent: Agent) -> Sequence[int]:
    """The lanes that act."""
    return bits(agent.word) if isinstance(agent, Lanes) else [agent.lane]
