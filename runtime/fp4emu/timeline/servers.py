"""What warps share in a replay: the units of an SM, its part of the GPU's memories, barriers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fp4emu.timeline.rates import Rates
from fp4emu.timeline.result import Span

#: Clocks that stores may be ahead of the memory before a warp waits with them.
_AHEAD = 1000.0


@dataclass(frozen=True, slots=True)
class Demand:
    """What the replayed SMs share with others: `active` SMs of the GPU; `dram_fraction`, the part of what is asked of
    L2 that comes from DRAM; `resident` clusters that an SM (or the SMs of a cluster) holds at once."""

    active: int
    dram_fraction: float
    resident: int = 1


@dataclass(slots=True)
class Unit:
    """Something that does one thing after the other. `free`: when it has done all so far; `busy`: clocks of work."""

    free: float = 0.0
    busy: float = 0.0

    def take(self, now: float, clocks: float) -> tuple[float, float]:
        """(begin, end) of work that comes now."""
        begin = self.free if self.free > now else now
        self.free = begin + clocks
        self.busy += clocks
        return begin, self.free


@dataclass(slots=True)
class Sm:
    """The units of an SM, and its share of L2 and DRAM."""

    name: str
    rates: Rates
    demand: Demand
    spans: list[Span] | None
    issue: list[Unit] = field(default_factory=lambda: [Unit() for _ in range(4)])
    tensor: list[Unit] = field(default_factory=lambda: [Unit() for _ in range(4)])
    umma: Unit = field(default_factory=Unit)
    shared: Unit = field(default_factory=Unit)
    tma: Unit = field(default_factory=Unit)
    fill: Unit = field(default_factory=Unit)
    drain: Unit = field(default_factory=Unit)
    dram: Unit = field(default_factory=Unit)
    tmem: Unit = field(default_factory=Unit)
    loaded: float = 0.0
    stored: float = 0.0

    def span(self, track: str, what: str, begin: float, end: float) -> None:
        """Something to be seen on a track."""
        if self.spans is not None and end > begin:
            self.spans.append((self.name, track, what, begin, end))

    def fetch(self, now: float, size: float) -> float:
        """When bytes from L2, or from DRAM by the fraction of the demand, are here."""
        rates, demand = self.rates, self.demand
        self.loaded += size
        _, done = self.fill.take(now, size / min(rates.fill_bytes_per_clock, rates.l2_bytes_per_clock / demand.active))
        part = demand.dram_fraction
        if part:
            begin, end = self.dram.take(now, size * part * demand.active / rates.dram_bytes_per_clock)
            self.span("DRAM share", "read", begin, end)
            done = max(done, end)
        return done + rates.l2_latency + part * (rates.dram_latency - rates.l2_latency)

    def put(self, now: float, size: float, moved: float) -> float:
        """When sectors of so many bytes are in L2; the bytes `moved` go on to DRAM behind the warp's back."""
        rates, demand = self.rates, self.demand
        self.stored += moved
        _, done = self.drain.take(now, size / min(rates.fill_bytes_per_clock, rates.l2_bytes_per_clock / demand.active))
        begin, end = self.dram.take(now, moved * demand.active / rates.dram_bytes_per_clock)
        self.span("DRAM share", "write", begin, end)
        return max(done, end)

    def held(self, done: float) -> float:
        """Until when a warp waits whose stores are done then."""
        return done - _AHEAD

    def load(self, now: float, size: int, rows: int) -> float:
        """A bulk copy's bytes from L2 to shared memory."""
        rates = self.rates
        begin, end = self.tma.take(now, rates.tma_issue + rows * rates.tma_row)
        self.span("TMA", f"load {size} bytes", begin, end)
        return self.fetch(end, size) + rates.tma_latency

    def arrive(self, now: float, size: float) -> None:
        """Bytes of a copy are written to shared memory."""
        self.shared.take(now, size / self.rates.shared_bytes_per_clock)


@dataclass(slots=True)
class Phase:
    """An mbarrier in time: what it waits for, and who waits for it. `by`: what completed its last phase."""

    count: int
    pending: int
    tx: int = 0
    phase: int = 0
    by: str = "warps"
    waiting: list[tuple[Any, int]] = field(default_factory=list["tuple[Any, int]"])

    def passed(self, parity: int) -> bool:
        """Whether the phase of this parity is over."""
        return (self.phase & 1) != parity

    def settle(self, by: str, wake: Callable[[Any], None]) -> None:
        """Ends the phase if nothing is missing."""
        self.by = by if by != "warps" or not self.tx else self.by
        if self.pending <= 0 and self.tx <= 0:
            self.phase += 1
            self.pending = self.count
            self.by = by
            waiting, self.waiting = self.waiting, []
            for warp, parity in waiting:
                if self.passed(parity):
                    wake(warp)
                else:
                    self.waiting.append((warp, parity))


@dataclass(slots=True)
class Meeting:
    """A named barrier, or that of a cluster: who has come, and who waits."""

    arrived: int = 0
    generation: int = 0
    waiting: list[Any] = field(default_factory=list[Any])
