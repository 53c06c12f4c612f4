"""Watches a launch and proves that its accesses are ordered, for the order of synchronisation that the run took.

The executor tells it which instruction runs and who acts (`acts`, `begin`); memories tell it what is touched (`touch`,
`elements`, `fp4emu.order.tensor`); instructions that synchronise call the rules in `fp4emu.order.rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.instruction import Instruction
from fp4emu.machine import Cluster, Cta, WarpContext
from fp4emu.memory import GlobalMemory
from fp4emu.order import tensor
from fp4emu.order.agents import Agent, Lanes, Operation
from fp4emu.order.checks import Level, Order
from fp4emu.order.clocks import Clock, Domain, WarpClock, bits
from fp4emu.order.events import WHOLE, Numbers
from fp4emu.order.log import Log
from fp4emu.order.precedes import Sight, failed_check, same_reader, unordered, unseen
from fp4emu.order.report import access_text, missing
from fp4emu.order.shadow import Selection, Shadow


class RemoteAccesses(dict[int, tuple[int, Agent]]):
    """(time, agent) of who touched a CTA's shared memory from outside, or by a copy, by the agent's place."""


@dataclass(frozen=True, slots=True)
class Release:
    """What a strong write at an address lets others acquire: the writer's clock, CTA, and the scope that it has."""

    scope: int
    domain: Domain
    cta: Cta
    clock: Clock


class Observer(Log):
    """Happens-before of one launch: the accesses to its memories, and what strong ones have released where."""

    def __init__(self, order: Order, changed: Mapping[str, Level] | None = None) -> None:
        super().__init__(order, changed)
        self.locations: dict[tuple[int, int], tuple[Release, ...]] = {}
        self.global_shadow: Shadow | None = None
        self.shared: dict[int, Shadow] = {}
        self.batches = 0
        self.starting: Callable[[], None] | None = None
        """Called once the launch's global memory is watched."""
        self.dependent = False
        """Whether the launch may begin before the end of the one before."""

    # --- the machine ---

    def watch_global(self, memory: GlobalMemory) -> None:
        """Has a launch's global memory report to this observer."""
        base = len(memory.data)
        shadow = Shadow.of("global", base, lambda index: f"global memory at {memory.name_of(index)}")
        self.global_shadow = shadow
        memory.touch = lambda where, write: self.touch(shadow, where, write)
        if self.starting is not None:
            self.starting()

    def watch_cluster(self, cluster: Cluster, warps: int) -> None:
        """Places for the threads of a cluster, and shadows of its shared and tensor memory."""
        count = len(cluster.ctas) * warps * 32
        domain = Domain(len(self.domain_of), cluster, count, size=3 * count)
        self.domain_of[id(cluster)] = domain
        for cta in cluster.ctas:
            for index in range(warps):
                base = (cta.rank * warps + index) * 32
                domain.warps[cta.rank, index] = WarpClock(domain, cta, index, base)
            self._watch_cta(cta)

    def _watch_cta(self, cta: Cta) -> None:
        shared = Shadow.of("shared", cta.shared.size, lambda i, s=cta.shared: f"shared {s.describe(i)}", cta.rank)
        self.shared[id(cta)] = shared
        cta.shared.touch = lambda where, write: self.touch(shared, where, write)
        cells = Shadow.of("tensor", (128, 512), lambda i: f"tensor memory lane {i // 512}, column {i % 512}", cta.rank)
        cta.tensor.touch = lambda where, write: tensor.touch(self, cells, where, write)
        cta.tensor.claim = lambda columns: tensor.allocated(self, cells, columns)

    # --- accesses ---

    def touch(self, shadow: Shadow, where: Selection, write: bool) -> None:
        """Whoever acts reads or writes a selection of a memory."""
        agent = self.acting
        if agent is None or self.quiet:
            return
        if isinstance(agent, Lanes) and agent.word & (agent.word - 1) == 0:
            lane = agent.word.bit_length() - 1
            number = self.number(agent, shadow.kind) + lane
        elif isinstance(agent, Lanes):
            number = self.number(agent, shadow.kind) + WHOLE
        else:
            number = self.number(agent, shadow.kind)
        self._check(shadow, where, agent, None, write)
        self._record(shadow, where, agent, number, write)
        self._remote(shadow, agent)

    def elements(
        self, warp: WarpContext, ins: Instruction, shadow: Shadow, lanes: NDArray[Any], start: NDArray[Any], size: int,
        write: bool,
    ) -> None:  # fmt: skip
        """Lanes of a warp access elements of `size` bytes, one each, at byte offsets of a memory."""
        clock = self.warp(warp)
        word = int(np.bitwise_or.reduce(np.int64(1) << lanes.astype(np.int64)))
        agent = Lanes(clock, word, ins)
        base = self.number(agent, shadow.kind)
        where = start[:, None] + np.arange(size)
        numbers: Any = (base + lanes).astype(np.int32)[:, None]
        if len(start) > 1 and not (start[1:] > start[:-1]).all() and len(np.unique(start)) < len(start):
            numbers = self._shared_numbers(agent, shadow, lanes, start)
        for knows, mask in clock.distinct(word):
            chosen = slice(None) if mask == word else np.flatnonzero((mask >> lanes.astype(np.int64)) & 1)
            part = Lanes(clock, mask, ins)
            self._check(shadow, where[chosen], part, lanes[chosen], write, knows)
        self._record(shadow, where, agent, numbers, write)
        self._remote(shadow, agent)

    def _shared_numbers(self, agent: Lanes, shadow: Shadow, lanes: NDArray[Any], start: NDArray[Any]) -> Numbers:
        """Where lanes access the same element, the number of an event of those lanes together."""
        _, group = np.unique(start, return_inverse=True)
        masks = np.zeros(int(group.max()) + 1, np.int64)
        np.bitwise_or.at(masks, group, np.int64(1) << lanes.astype(np.int64))
        numbers = np.zeros(len(masks), np.int32)
        for i, mask in enumerate(masks.tolist()):
            numbers[i] = self.number(Lanes(agent.warp, mask, agent.ins), shadow.kind) + WHOLE
        return numbers[group][:, None]

    def _remote(self, shadow: Shadow, agent: Agent) -> None:
        """Remembers who touched another CTA's shared memory, or copied to or from that of its own, for when that
        exits."""
        copies = isinstance(agent, Operation) and agent.kind == "copy"
        if shadow.rank < 0 or (agent.warp.cta.rank == shadow.rank and not copies):
            return
        target = agent.warp.domain.cluster.ctas[shadow.rank]
        table = target.state.of(RemoteAccesses)
        for place, time in remote_times(agent):
            table[place] = (time, agent)

    # --- the rule ---

    def _check(
        self, shadow: Shadow, where: Selection, agent: Agent, lanes: Any, write: bool, knows: Clock | None = None
    ) -> None:
        """Faults unless what an access may not meet happens before it: earlier writes, and earlier reads of what it
        writes."""
        sight = Sight.of(agent, shadow.kind, knows)
        self._ordered(shadow, where, shadow.get(shadow.writes, where), sight, lanes, write, "wrote")
        if write:
            self._ordered(shadow, where, shadow.get(shadow.reads, where), sight, lanes, True, "read")

    def _ordered(
        self, shadow: Shadow, where: Selection, numbers: Numbers, sight: Sight, lanes: Any, write: bool, was: str
    ) -> None:
        """Faults unless the accesses with these numbers happen before the agent's."""
        agent = sight.agent
        for number in unseen(self.events, numbers, sight):
            for member in self.events.members(number):
                event, lane = self.events.of(member)
                bad = unordered(event, lane, sight, lanes, numbers == number)
                if bad is None:
                    continue
                check = failed_check(event, lane, sight, was)
                element, count = shadow.first(where, bad)
                text = access_text(agent, write, shadow.name(element), count, "bytes", event, lane, was)
                self.fail(check, text, missing(check, agent, event))

    # --- recording ---

    def _record(self, shadow: Shadow, where: Selection, agent: Agent, numbers: Any, write: bool) -> None:
        if write:
            shadow.put(shadow.writes, where, numbers)
            shadow.put(shadow.reads, where, 0)
            return
        numbers = self._joined_reads(shadow.get(shadow.reads, where), Sight.of(agent, shadow.kind), numbers)
        shadow.put(shadow.reads, where, numbers)

    def _joined_reads(self, old: Numbers, sight: Sight, numbers: Any) -> Any:
        """Readers so far, less those that happen before the new one, and it."""
        left = unseen(self.events, old, sight)
        if not left:
            return numbers
        new = np.broadcast_to(np.asarray(numbers, np.int32), old.shape).copy()
        for number in left:
            here = old == number
            for value in np.unique(new[here]).tolist():
                members = frozenset(m for m in self.events.members(number) if not same_reader(self.events, m, value))
                new[here & (new == value)] = self.events.set(members | {value})
        return new


def remote_times(agent: Agent) -> list[tuple[int, int]]:
    """(place, time) of an agent's access."""
    if isinstance(agent, Operation):
        return [(agent.place, agent.time)]
    return [(agent.warp.base + lane, agent.warp.now) for lane in bits(agent.word)]
