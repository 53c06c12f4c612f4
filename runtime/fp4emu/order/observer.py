"""Watches a launch and proves that its accesses are ordered, for the order of synchronisation that the run took.

The executor tells it which instruction runs and who acts (`acts`, `begin`); memories tell it what is touched (`touch`,
`elements`, `fp4emu.order.tensor`); instructions that synchronise call the rules in `fp4emu.order.rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import Cluster, Cta, WarpContext
from fp4emu.memory import GlobalMemory
from fp4emu.order import tensor
from fp4emu.order.agents import Agent, Lanes, Operation, issue
from fp4emu.order.checks import Order, level
from fp4emu.order.clocks import NOTHING, Clock, Domain, Times, WarpClock, at, bits
from fp4emu.order.events import SPREAD, WHOLE, Event, Events, Numbers, distinct
from fp4emu.order.report import access_text, missing
from fp4emu.order.shadow import Selection, Shadow

MANY = 256
"""Accesses that are compared one by one; more of them, as arrays."""
_SCOPES = ("", "cta", "cluster", "gpu", "sys")


class Observer:
    """Happens-before of one launch. `acting` is who makes the accesses that memories report, `ins` what runs."""

    def __init__(self, order: Order) -> None:
        self.order: Order = order
        self.strict = order == "strict"
        self.events = Events()
        self.domains: list[Domain] = []
        self.acting: Agent | None = None
        self.ins: Instruction | None = None
        self.warnings: dict[str, None] = {}
        self.locations: dict[tuple[int, int], tuple[Clock, str]] = {}
        self.global_shadow: Shadow | None = None
        self.shared: dict[int, Shadow] = {}
        self.batches = 0
        self.quiet = False
        self._space = "shared"
        self._current: dict[Any, int] = {}

    # --- the machine ---

    def watch_global(self, memory: GlobalMemory) -> None:
        """Has a launch's global memory report to this observer."""
        base = len(memory.data)
        shadow = Shadow.of("global", base, lambda index: f"global memory at {memory.name_of(index)}")
        self.global_shadow = shadow
        memory.touch = lambda where, write: self.touch(shadow, where, write)

    def watch_cluster(self, cluster: Cluster, warps: int) -> None:
        """Places for the threads of a cluster, and shadows of its shared and tensor memory."""
        count = len(cluster.ctas) * warps * 32
        domain = Domain(len(self.domains), cluster, count, size=3 * count)
        self.domains.append(domain)
        cluster.scratch["order"] = domain
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

    def warp(self, warp: WarpContext) -> WarpClock:
        """The clocks of a warp."""
        domain: Domain = warp.cta.cluster.scratch["order"]
        return domain.warps[warp.cta.rank, warp.index]

    # --- who acts ---

    def acts(self, warp: WarpContext, word: int, ins: Instruction) -> None:
        """Lanes of a warp execute an instruction."""
        self.acting = Lanes(self.warp(warp), word, ins)

    def begin(self, warp: WarpContext, lane: int, ins: Instruction) -> Agent:
        """A thread issues an asynchronous operation. Copies by cp.async count as finished where they stand."""
        if ins.rule.opcode.startswith("cp.async") and not ins.rule.opcode.startswith("cp.async.bulk"):
            return Lanes(self.warp(warp), 1 << lane, ins)
        return issue(self.warp(warp), lane, ins)

    @contextmanager
    def under(self, agent: Agent) -> Generator[None]:
        """An operation takes effect."""
        before, self.acting = self.acting, agent
        try:
            yield
        finally:
            self.acting = before

    @contextmanager
    def aside(self) -> Generator[None]:
        """Accesses that are no accesses of the program (a tensor map that TMA reads)."""
        self.quiet = True
        try:
            yield
        finally:
            self.quiet = False

    def fail(self, check: str, text: str, hint: str = "") -> None:
        """A check has failed: a fault, a warning or nothing."""
        what = level(check, self.order)
        if what == "fault":
            raise Fault(f"[{check}] {text}", hint=hint)
        if what == "warn":
            self.warnings.setdefault(f"[{check}] {text}")

    def published(self, agent: Lanes) -> tuple[Clock, Clock]:
        """(what an arrival publishes, what it is ordered after). A relaxed one publishes what a release fence before it
        lets it, and what tcgen05.fence and fence.mbarrier_init have published for themselves."""
        whole = agent.warp.publish(agent.word)
        if agent.ins.mod("sem") != "relaxed":
            return whole, whole
        part = whole.unordered_part()
        for clock, _ in agent.warp.distinct(agent.word):
            if clock.released is not None:
                part = part.acquire(clock.released)
        return part, whole

    # --- accesses ---

    def touch(self, shadow: Shadow, where: Selection, write: bool) -> None:
        """Whoever acts reads or writes a selection of a memory."""
        agent = self.acting
        if agent is None or self.quiet:
            return
        if isinstance(agent, Lanes) and agent.word & (agent.word - 1) == 0:
            lane = agent.word.bit_length() - 1
            number = self._event(agent, shadow.kind) + lane
        elif isinstance(agent, Lanes):
            number = self._event(agent, shadow.kind) + WHOLE
        else:
            number = self._event(agent, shadow.kind)
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
        base = self._event(agent, shadow.kind)
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
            numbers[i] = self._event(Lanes(agent.warp, mask, agent.ins), shadow.kind) + WHOLE
        return numbers[group][:, None]

    def _event(self, agent: Agent, space: str) -> int:
        """The number of an access: the same for all of one instruction at one time."""
        warp = agent.warp
        key: Any = space
        if isinstance(agent, Lanes):
            known: dict[Any, int] = self._current
            key = (id(warp), warp.now, agent.word, agent.ins.line, space)
            place, time, mask, kind, strong = warp.base, warp.now, agent.word, "", _strong(agent.ins)
        else:
            known = agent.numbers
            place, time, mask, kind, strong = agent.place, agent.time, 1, agent.kind, agent.strong
        found = known.get(key)
        if found is None:
            if len(self._current) > 4096:
                self._current.clear()
            event = Event(
                warp.domain, place, time, mask, not isinstance(agent, Lanes), strong, kind, agent.ins, warp.cta.id,
                warp.index, warp.cta.rank,
            )  # fmt: skip
            found = known[key] = self.events.add(event)
        return found

    def _remote(self, shadow: Shadow, agent: Agent) -> None:
        """Remembers who touched another CTA's shared memory, or copied to or from that of its own, for when that
        exits."""
        copies = isinstance(agent, Operation) and agent.kind == "copy"
        if shadow.rank < 0 or (agent.warp.cta.rank == shadow.rank and not copies):
            return
        target = agent.warp.domain.cluster.ctas[shadow.rank]
        table: dict[int, tuple[int, Agent]] = target.scratch.setdefault("remote accesses", {})
        for place, time in remote_times(agent):
            table[place] = (time, agent)

    # --- the rule ---

    def _check(
        self, shadow: Shadow, where: Selection, agent: Agent, lanes: Any, write: bool, knows: Clock | None = None
    ) -> None:
        self._space = shadow.kind
        writes = shadow.get(shadow.writes, where)
        self._ordered(shadow, where, writes, agent, lanes, write, "wrote", knows)
        if write:
            reads = shadow.get(shadow.reads, where)
            self._ordered(shadow, where, reads, agent, lanes, True, "read", knows)

    def _ordered(
        self, shadow: Shadow, where: Selection, numbers: Numbers, agent: Agent, lanes: Any, write: bool, was: str,
        knows: Clock | None,
    ) -> None:  # fmt: skip
        """Faults unless the accesses with these numbers happen before the agent's."""
        for number in self._left(numbers, agent, knows):
            for member in self.events.members(number):
                event, lane = self.events.of(member)
                bad = self._unordered(event, lane, agent, lanes, numbers == number, knows)
                if bad is None:
                    continue
                check = self._kind(event, lane, agent, was)
                element, count = shadow.first(where, bad)
                text = access_text(agent, write, shadow.name(element), count, "bytes", event, lane, was)
                self.fail(check, text, missing(check, agent, event))

    def _clocks(self, agent: Agent, knows: Clock | None) -> tuple[Times, Times]:
        """(all accesses that an agent knows, those of the generic proxy that it may rely on)."""
        if isinstance(agent, Operation):
            clock = agent.clock
            if agent.generic:
                return clock.known, clock.known
            visible = clock.shared if self._space == "shared" else clock.other
            return clock.known, visible
        clock = knows or agent.warp.lanes[(agent.word & -agent.word).bit_length() - 1]
        return clock.known, clock.known

    def _known(self, numbers: Numbers, agent: Agent, knows: Clock | None) -> NDArray[np.bool_]:
        """Which accesses the clocks of an agent say to have happened before."""
        known, visible = self._clocks(agent, knows)
        index, lane = np.divmod(numbers, SPREAD)
        index = np.where(numbers > 0, index, 0)
        events = self.events
        place = events.place[index] + lane
        fine = (numbers > 0) & (lane < WHOLE) & (events.domain[index] == agent.warp.domain.index)
        times = _times(known, place)
        if isinstance(agent, Operation):
            times = np.where(events.asynchronous[index], times, _times(visible, place))
        return (numbers == 0) | (fine & (times >= events.time[index]))

    def _left(self, numbers: Numbers, agent: Agent, knows: Clock | None) -> list[int]:
        """The different accesses that the clocks of an agent do not say to have happened before."""
        unique = distinct(numbers)
        if len(unique) > MANY:
            array = np.array(unique, np.int32)
            return array[~self._known(array, agent, knows)].tolist()
        known, visible = self._clocks(agent, knows)
        operation, domain, left = isinstance(agent, Operation), agent.warp.domain, list[int]()
        for number in unique:
            if number > 0:
                event, lane = self.events.of(number)
                if lane < WHOLE and event.domain is domain:
                    times = visible if operation and not event.asynchronous else known
                    place = event.place + lane
                    if place < len(times) and times[place] >= event.time:
                        continue
                left.append(number)
            elif number:
                left.append(number)
        return left

    def _unordered(
        self, event: Event, lane: int, agent: Agent, lanes: Any, here: NDArray[np.bool_], knows: Clock | None
    ) -> NDArray[np.bool_] | None:
        """The elements of `here` that an access does not happen before; None if there is none."""
        if event.strong and self._morally_strong(event, agent):
            return None
        if self._far(event, agent, knows):
            return None
        known, visible = self._clocks(agent, knows)
        times = visible if isinstance(agent, Operation) and not event.asynchronous else known
        if event.domain is not agent.warp.domain:
            return here
        if isinstance(agent, Operation):
            if event.asynchronous and (event.place, event.time) == (agent.place, agent.time):
                return None
            members = bits(event.mask) if lane == WHOLE else [lane]
            return None if all(at(times, event.place + m) >= event.time for m in members) else here
        if event.asynchronous:
            return None if at(times, event.place) >= event.time else here
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

    def _far(self, event: Event, agent: Agent, knows: Clock | None) -> bool:
        if event.domain is agent.warp.domain:
            return False
        clock = agent.clock if isinstance(agent, Operation) else (knows or agent.warp.lanes[0])
        times = dict(clock.far).get(event.domain.index, NOTHING)
        return at(times, event.place) >= event.time

    def _morally_strong(self, event: Event, agent: Agent) -> bool:
        """Both strong, each in the scope of the other (PTX ISA, "Morally Strong Operations")."""
        mine = agent.strong if isinstance(agent, Operation) else _strong(agent.ins)
        if not mine:
            return False
        warp = agent.warp
        needed = "gpu" if event.domain is not warp.domain else "cta" if event.cta == warp.cta.id else "cluster"
        return min(_SCOPES.index(mine), _SCOPES.index(event.strong)) >= _SCOPES.index(needed)

    def _kind(self, event: Event, lane: int, agent: Agent, was: str) -> str:
        """The name of the check that two unordered accesses fail."""
        if isinstance(agent, Operation) and not event.asynchronous and event.domain is agent.warp.domain:
            members = bits(event.mask) if lane == WHOLE else [lane]
            if all(at(agent.clock.known, event.place + m) >= event.time for m in members):
                return "proxy" if was == "wrote" else "refill"
        same = event.domain is agent.warp.domain and event.place == agent.warp.base and not event.asynchronous
        return "lanes" if same and isinstance(agent, Lanes) else "race"

    # --- recording ---

    def _record(self, shadow: Shadow, where: Selection, agent: Agent, numbers: Any, write: bool) -> None:
        if write:
            shadow.put(shadow.writes, where, numbers)
            shadow.put(shadow.reads, where, 0)
            return
        numbers = self._joined_reads(shadow.get(shadow.reads, where), agent, numbers)
        shadow.put(shadow.reads, where, numbers)

    def _joined_reads(self, old: Numbers, agent: Agent, numbers: Any) -> Any:
        """Readers so far, less those that happen before the new one, and it."""
        left = self._left(old, agent, None)
        if not left:
            return numbers
        new = np.broadcast_to(np.asarray(numbers, np.int32), old.shape).copy()
        for number in left:
            here = old == number
            for value in np.unique(new[here]).tolist():
                members = frozenset(m for m in self.events.members(number) if not self._same_reader(m, value))
                new[here & (new == value)] = self.events.set(members | {value})
        return new

    def _same_reader(self, old: int, new: int) -> bool:
        """Whether the lanes of an older access are among those of a newer one of the same warp."""
        (a, lane_a), (b, lane_b) = self.events.of(old), self.events.of(new)
        if a.domain is not b.domain or a.place != b.place or a.asynchronous or b.asynchronous:
            return False
        mask_a = a.mask if lane_a == WHOLE else 1 << lane_a
        mask_b = b.mask if lane_b == WHOLE else 1 << lane_b
        return not mask_a & ~mask_b

    def operation_number(self, agent: Agent, space: str) -> int:
        """The number of an event for `fp4emu.order.tensor`."""
        return self._event(agent, space)


def remote_times(agent: Agent) -> list[tuple[int, int]]:
    """(place, time) of an agent's access."""
    if isinstance(agent, Operation):
        return [(agent.place, agent.time)]
    return [(agent.warp.base + lane, agent.warp.now) for lane in bits(agent.word)]


def _times(times: Times, place: NDArray[Any]) -> NDArray[Any]:
    if not len(times):
        return np.zeros(place.shape, np.int32)
    return np.where(place < len(times), times[np.minimum(place, len(times) - 1)], 0)


def _strong(ins: Instruction) -> str:
    """The scope of a strong access: atomics and accesses with .relaxed, .acquire, .release or .volatile (PTX ISA,
    "Strong Operations"); "" for weak ones."""
    opcode, sem = ins.rule.opcode, ins.mod("sem")
    if opcode in ("atom", "red"):
        return ins.mod("scope") or "gpu"
    if opcode in ("ld", "st") and sem not in ("", "weak", None):
        return ins.mod("scope") or "sys"
    return ""


Touch = Callable[[Selection, bool], None]
