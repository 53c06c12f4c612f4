"""What a replay gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: (track's process, track, what, begin, end) in clocks.
Span = tuple[str, str, str, float, float]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The replay of some SMs. Times in clocks of an SM at its full clock.

    `busy`: the part of the time that each resource of the busiest SM works; of "DRAM" and "L2", that its share of the
    GPU's is used. `stalls`: clocks that warps spend by reason, of all warps together. `flop` is that of these SMs.
    """

    cycles: float
    busy: Mapping[str, float]
    stalls: Mapping[str, float]
    sms: int
    flop: float
    load_bytes: float
    store_bytes: float
    spans: list[Span] = field(default_factory=list[Span])

    @property
    def limit(self) -> str:
        """What limits: the resource that is busy most, or the latency that warps wait for where none is."""
        name = max(self.busy, key=lambda key: self.busy[key])
        if self.busy[name] >= 0.6:
            return name
        waits = {k: v for k, v in self.stalls.items() if k not in ("runs",)}
        return "latency: " + max(waits, key=lambda key: waits[key]) if waits else "latency"
