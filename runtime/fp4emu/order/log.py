"""What one launch has done so far: who acts, which accesses there were, and what checks have failed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import WarpContext
from fp4emu.order.agents import CP_ASYNC, Agent, Lanes, Operation, beside, issue
from fp4emu.order.checks import Level, Order, levels
from fp4emu.order.clocks import CTA, SCOPES, Clock, Domain, WarpClock
from fp4emu.order.events import Event, Events

T = TypeVar("T")


class Log:
    """`acting` is who makes the accesses that memories report, `ins` what runs. `quiet`: accesses are not the
    program's."""

    def __init__(self, order: Order, changed: Mapping[str, Level] | None = None) -> None:
        self.levels = levels(order, changed)
        self.strict = order == "strict"
        self.events = Events()
        self.domain_of: dict[int, Domain] = {}
        """By the identity of a cluster, which its domain keeps alive."""
        self.acting: Agent | None = None
        self.ins: Instruction | None = None
        self.warnings: dict[str, None] = {}
        self.warned: set[tuple[Any, ...]] = set()
        """What makes the words of warnings of tensor memory that there are already."""
        self.quiet = False
        self._current: dict[Any, int] = {}

    def warp(self, warp: WarpContext) -> WarpClock:
        """The clocks of a warp."""
        domain = self.domain_of[id(warp.cta.cluster)]
        return domain.warps[warp.cta.rank, warp.index]

    # --- who acts ---

    def acts(self, warp: WarpContext, word: int, ins: Instruction) -> None:
        """Lanes of a warp execute an instruction."""
        self.acting = Lanes(self.warp(warp), word, ins)

    def begin(self, warp: WarpContext, lane: int, ins: Instruction) -> Operation:
        """A thread issues an asynchronous operation."""
        return issue(self.warp(warp), lane, ins)

    def begin_pair(self, warp: WarpContext, lane: int, ins: Instruction) -> tuple[Operation, Operation]:
        """A thread issues a copy of which the reading may be over before the writing."""
        reading = self.begin(warp, lane, ins)
        return reading, beside(reading)

    def act(self, agent: Agent | None, effect: Callable[[], T]) -> T:
        """An operation takes effect."""
        before, self.acting = self.acting, agent
        try:
            return effect()
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
        what = self.levels[check]
        if what == "fault":
            raise Fault(f"[{check}] {text}", hint=hint)
        if what == "warn":
            self.warnings.setdefault(f"[{check}] {text}")

    def published(self, agent: Lanes, needed: int = CTA) -> tuple[Clock, Clock]:
        """(what an arrival publishes to threads for which it must have the scope `needed`, what it is ordered after). A
        relaxed one publishes what a release fence before it lets it, and what tcgen05.fence and fence.mbarrier_init
        have published for themselves."""
        whole = agent.warp.publish(agent.word)
        scope = agent.ins.mod("scope")
        narrow = bool(scope) and SCOPES.index(scope) < needed
        if agent.ins.mod("sem") != "relaxed" and not narrow:
            return whole, whole
        part = whole.unordered_part()
        for clock, _ in agent.warp.distinct(agent.word):
            for fence, released in clock.released:
                if fence >= needed and not narrow:
                    part = part.acquire(released)
        return part, whole

    def number(self, agent: Agent, space: str) -> int:
        """The number of an access: the same for all of one instruction at one time."""
        known: dict[Any, int]
        if isinstance(agent, Lanes):
            known, warp = self._current, agent.warp
            key: Any = (id(warp), warp.now, agent.word, agent.ins.line, space)
        else:
            known, key = agent.numbers, space
        found = known.get(key)
        if found is None:
            if len(self._current) > 4096:
                self._current.clear()
            found = known[key] = self.events.add(_event(agent))
        return found


def _event(agent: Agent) -> Event:
    warp, ins = agent.warp, agent.ins
    if isinstance(agent, Lanes):
        scope = strong_scope(ins)
        return Event(
            warp.domain, warp.base, warp.now, agent.word, False, scope, "", ins, warp.cta.id, warp.index, warp.cta.rank
        )
    return Event(
        warp.domain, agent.place, agent.time, 1 << agent.lane, agent.kind != CP_ASYNC, agent.strong, agent.kind, ins,
        warp.cta.id, warp.index, warp.cta.rank, agent.accumulator,
    )  # fmt: skip


def strong_scope(ins: Instruction) -> str:
    """The scope of a strong access: atomics and accesses with .relaxed, .acquire, .release or .volatile (PTX ISA,
    "Strong Operations"); "" for weak ones."""
    opcode, sem = ins.rule.opcode, ins.mod("sem")
    if opcode in ("atom", "red"):
        return ins.mod("scope") or "gpu"
    if opcode in ("ld", "st") and sem not in ("", "weak", None):
        return ins.mod("scope") or "sys"
    return ""
