"""Who acts in a replay: clusters, CTAs and warps, and the replay as events see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from fp4emu.timeline.rates import Rates
from fp4emu.timeline.servers import Meeting, Phase, Sm
from fp4emu.timeline.steps import Step


@dataclass(slots=True)
class Warp:
    """A warp in time. `ready`: when registers that loads bring are there; `since`: when it began to wait."""

    log: list[Any]
    sm: Sm
    cta: Cta
    index: int
    time: float = 0.0
    at: int = 0
    steps: list[Step] = field(default_factory=list[Step])
    step: int = 0
    ready: dict[int, float] = field(default_factory=dict[int, float])
    groups: list[float] = field(default_factory=list[float])  # of wgmmas
    last: float = 0.0  # when the open group's wgmmas are over
    bulk: list[tuple[float, float]] = field(default_factory=list["tuple[float, float]"])
    open: tuple[float, float] = (0.0, 0.0)
    copies: list[float] = field(default_factory=list[float])
    copying: float = 0.0
    tmem: float = 0.0
    reason: str = ""
    running: float = 0.0
    generation: int = 0


@dataclass(slots=True)
class Cta:
    """A CTA in time."""

    cluster: Cluster
    rank: int
    warps: int
    live: int
    named: dict[int, Meeting] = field(default_factory=dict[int, Meeting])


@dataclass(slots=True)
class Cluster:
    """A cluster in time: its CTAs and their mbarriers, by (rank, offset)."""

    ctas: list[Cta] = field(default_factory=list[Cta])
    barriers: dict[tuple[int, int], Phase] = field(default_factory=dict["tuple[int, int]", Phase])
    meeting: Meeting = field(default_factory=Meeting)

    @property
    def live(self) -> int:
        """Warps that have not exited."""
        return sum(cta.live for cta in self.ctas)


class Player(Protocol):
    """The replay, as events see it. `flop` counts the work of tensor cores."""

    rates: Rates
    sms: list[Sm]
    flop: float

    def at(self, time: float, what: Callable[[float], None]) -> None:
        """A function is called at a time."""

    def until(self, warp: Warp, time: float, reason: str) -> bool:
        """A warp goes on at a time; False if it has to wait for that."""
        ...

    def park(self, warp: Warp, reason: str) -> bool:
        """It waits until somebody wakes it."""
        ...

    def wake(self, warp: Warp, time: float, reason: str = "") -> None:
        """It goes on."""

    def opens(self, meeting: Meeting, needed: int, time: float) -> None:
        """Who waits at a meeting goes on if all have come."""
