"""Watches a launch and proves that its accesses are ordered, for the order of synchronisation that the run took.

The executor tells it which instruction runs and who acts (`acts`, `begin`); memories tell it what is touched (`touch`,
`elements`, `fp4emu.order.tensor`); instructions that synchronise call the rules in `fp4emu.order.rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.instruction import Instruction
from fp4emu.machine import Cluster, Cta, WarpContext
from fp4emu.memory import GlobalMemory
from fp4emu.order import tensor
from fp4emu.order.agents import Agent, Lanes, Operation, named
from fp4emu.order.checks import Level, Order
from fp4emu.order.clocks import Clock, Domain, WarpClock
from fp4emu.order.events import WHOLE, Numbers
from fp4emu.order.lanes import bits
from fp4emu.order.log import Log
from fp4emu.order.precedes import Sight, failed_check, other_readers, unordered, unseen, whole_known
from fp4emu.order.report import access_text, missing
from fp4emu.order.shadow import Cells, Place, Shadow, Table
from fp4emu.selection import Selection, Units


class RemoteAccesses(dict[int, tuple[int, Lanes]]):
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
        self.arena = Table.of(0)
        self.shared: dict[int, Shadow] = {}
        self.batches = 0
        self.starting: Callable[[], None] | None = None
        """Called once the launch's global memory is watched."""
        self.dependent = False
        """Whether the launch may begin before the end of the one before."""

    # --- the machine ---

    def watch_global(self, memory: GlobalMemory) -> None:
        """Has a launch's global memory report to this observer."""
        size = memory.used
        shadow = Shadow("global", Table.of(size), 0, size, lambda i: f"global memory at {memory.name_of(i)}")
        self.global_shadow = shadow
        memory.touch = lambda where, write: self.touch(shadow, where, write)
        if self.starting is not None:
            self.starting()

    def watch_shared(self, size: int) -> None:
        """A shadow for the arena of all resident CTAs' shared memory."""
        self.arena = Table.of(size)

    def watch_cluster(self, cluster: Cluster, warps: int, parts: Sequence[slice]) -> None:
        """Places for the threads of a cluster, and shadows of its shared and tensor memory; `parts` of the arena are
        the CTAs' shared memories."""
        count = len(cluster.ctas) * warps * 32
        domain = Domain(len(self.domain_of), cluster, count, size=3 * count)
        self.domain_of[id(cluster)] = domain
        for cta, part in zip(cluster.ctas, parts, strict=True):
            for index in range(warps):
                base = (cta.rank * warps + index) * 32
                domain.warps[cta.rank, index] = WarpClock(domain, cta, index, base)
            self._watch_cta(cta, part)

    def _watch_cta(self, cta: Cta, part: slice) -> None:
        memory = cta.shared
        shared = Shadow(
            "shared", self.arena, part.start, part.stop, lambda i: f"shared {memory.describe(i)}", cta.rank
        )  # fmt: skip
        shared.written(shared.at(slice(0, part.stop - part.start)), 0)
        self.shared[id(cta)] = shared
        memory.touch = lambda where, write: self.touch(shared, where, write)
        cells = Cells.of((128, 512), lambda i: f"tensor memory lane {i // 512}, column {i % 512}")
        cta.tensor.touch = lambda where, write: tensor.touch(self, cells, where, write)
        cta.tensor.claim = lambda columns: tensor.allocated(self, cells, columns)

    def ended(self) -> None:
        """Lets go of the launch's memories and clocks, which hold each other."""
        for domain in self.domain_of.values():
            for cta in domain.cluster.ctas:
                cta.shared.touch = cta.tensor.touch = cta.tensor.claim = None
                for barrier in cta.shared.barriers.values():
                    barrier.order = None
            domain.warps.clear()
        self.shared.clear()

    @property
    def global_table(self) -> Table:
        assert self.global_shadow is not None
        return self.global_shadow.table

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
        place, sight = shadow.at(where), Sight.of(agent, shadow.kind)
        self._check(shadow, place, sight, None, write)
        self._record(shadow, place, sight, number, write)
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
        units = start // size
        shadow.table.part(size)
        if not write and len(start) > 1 and self._one(agent, shadow, Units(units[:1], size, size), units):
            return
        numbers: Any = (base + lanes).astype(np.int32)[:, None]
        if len(start) > 1 and not (start[1:] > start[:-1]).all() and len(np.unique(start)) < len(start):
            numbers = self._shared_numbers(agent, shadow, lanes, start)
        for knows, mask in clock.distinct(word):
            chosen = slice(None) if mask == word else np.flatnonzero((mask >> lanes.astype(np.int64)) & 1)
            part = Lanes(clock, mask, ins)
            place = shadow.at(Units(units[chosen], size, size))
            self._check(shadow, place, Sight.of(part, shadow.kind, knows), lanes[chosen], write)
        place, sight = shadow.at(Units(units, size, size)), Sight.of(agent, shadow.kind)
        self._record(shadow, place, sight, numbers, write)
        self._remote(shadow, agent)

    def _one(self, agent: Lanes, shadow: Shadow, element: Units, units: NDArray[Any]) -> bool:
        """Notes a read of the same element by all lanes. False, and nothing is noted, if they read others, or what they
        may not."""
        if (units != units[0]).any():
            return False
        place = shadow.at(element)
        numbers = shadow.writes(place)
        for knows, _ in agent.warp.distinct(agent.word):
            sight = Sight.of(agent, shadow.kind, knows)
            for number in unseen(self.events, numbers, sight):
                if number < 0:
                    return False
                event, lane = self.events.of(number)
                if lane < WHOLE or event.kind or not whole_known(event, sight):
                    return False
        self._record(shadow, place, Sight.of(agent, shadow.kind), self.number(agent, shadow.kind) + WHOLE, False)
        self._remote(shadow, agent)
        return True

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
            table[place] = (time, named(agent))

    # --- the rule ---

    def _check(self, shadow: Shadow, place: Place, sight: Sight, lanes: Any, write: bool) -> None:
        """Faults unless what an access may not meet happens before it: earlier writes, and earlier reads of what it
        writes."""
        self._ordered(shadow, place, shadow.writes(place), sight, lanes, write, "wrote")
        if write:
            self._ordered(shadow, place, shadow.reads(place), sight, lanes, True, "read")

    def _ordered(
        self, shadow: Shadow, place: Place, numbers: Numbers, sight: Sight, lanes: Any, write: bool, was: str
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
                element, count = shadow.first(place, bad)
                text = access_text(agent, write, shadow.name(element), count, "bytes", event, lane, was)
                self.fail(check, text, missing(check, agent, event))

    # --- recording ---

    def _record(self, shadow: Shadow, place: Place, sight: Sight, numbers: Any, write: bool) -> None:
        if write:
            shadow.written(place, numbers)
        else:
            shadow.read(place, self._joined_reads(shadow.reads(place), sight, numbers))

    def _joined_reads(self, old: Numbers, sight: Sight, numbers: Any) -> Any:
        """Readers so far, less those that happen before the new one, and it."""
        left = unseen(self.events, old, sight)
        if not left:
            return numbers
        new = np.broadcast_to(np.asarray(numbers, np.int32), old.shape).copy()
        for number in left:
            here = old == number
            for value in [numbers] if isinstance(numbers, int) else np.unique(new[here]).tolist():
                members = other_readers(self.events, self.events.members(number), value)
                new[here & (new == value)] = self.events.set(members | {value})
        return new


def remote_times(agent: Agent) -> list[tuple[int, int]]:
    """(place, time) of an agent's access."""
    if isinstance(agent, Operation):
        return [(agent.place, agent.time)]
    return [(agent.warp.base + lane, agent.warp.now) for lane in bits(agent.word)]
