"""The mbarrier object (PTX ISA 9.7.13.15)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fp4emu.errors import Fault

MAX_COUNT = (1 << 20) - 1


@dataclass(slots=True)
class Clock:
    """Counts phase completions of a launch, so that the scheduler knows when polling the sleepers can pay."""

    ticks: int = 0
    arrivals: int = 0


@dataclass(slots=True)
class Barrier:
    """`expected` arrivals a phase, `pending` of the current phase, `tx` the outstanding transaction bytes, `phase`
    the number of completed phases."""

    expected: int
    clock: Clock
    pending: int = field(init=False)
    tx: int = 0
    phase: int = 0
    order: Any = None
    """The clocks that its phases carry (`fp4emu.order.barriers.BarrierClock`), if somebody watches."""

    def __post_init__(self) -> None:
        if not 1 <= self.expected <= MAX_COUNT:
            raise Fault(f"mbarrier count {self.expected} is outside of [1, {MAX_COUNT}]")
        self.pending = self.expected

    def expect_tx(self, count: int) -> None:
        self._add_tx(count)

    def complete_tx(self, count: int) -> None:
        if self.order is not None:
            self.order.arrive()
        self._add_tx(-count)
        self._maybe_complete()

    def _add_tx(self, count: int) -> None:
        self.tx += count
        if abs(self.tx) > MAX_COUNT:
            raise Fault(
                f"the mbarrier's transaction count is {self.tx}, outside of +-{MAX_COUNT}",
                hint="the bytes expected do not match the bytes that copies bring",
            )

    def arrive(self, count: int = 1) -> int:
        """Arrives `count` times; returns the state token: the phase that was current."""
        phase = self.phase
        if count > self.pending:
            raise Fault(
                f"mbarrier arrival of {count} exceeds the pending count {self.pending} of phase {self.phase} "
                f"(expected count {self.expected})",
                hint="the count given to mbarrier.init does not match the arrivals, or a phase is arrived at twice",
            )
        if self.order is not None:
            self.order.arrive()
        self.pending -= count
        self.clock.arrivals += 1
        self._maybe_complete()
        return phase

    def arrive_drop(self, count: int = 1) -> int:
        """Arrives, and lowers the expected count of the following phases."""
        if count > self.expected:
            raise Fault(f"mbarrier.arrive_drop of {count} with an expected count of {self.expected}")
        self.expected -= count
        return self.arrive(count)

    def passed(self, parity: int) -> bool:
        """Whether the phase of this parity has completed: the current phase has the other parity."""
        return (self.phase & 1) != (parity & 1)

    def _maybe_complete(self) -> None:
        if self.pending == 0 and self.tx == 0:
            if self.order is not None:
                self.order.complete()
            self.phase += 1
            self.pending = self.expected
            self.clock.ticks += 1

    def __str__(self) -> str:
        return f"phase {self.phase} (parity {self.phase & 1}), pending {self.pending} of {self.expected}, tx {self.tx}"
