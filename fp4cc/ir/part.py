"""What of an operand a buffer holds, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a stage: the codes, or the scales, of the A or of B number `place` of a mainloop."""

    role: Literal["A", "B"]
    place: int = 0
    scales: bool = False

    @property
    def kind(self) -> str:
        """What it is among the parts: all Bs are of one kind, and of one size."""
        return f"{'SF' if self.scales else ''}{self.role}"

    @property
    def name(self) -> str:
        """A name of its own: a, b, b2, sfa, sfb, sfb2."""
        return f"{self.kind.lower()}{self.place + 1 if self.place else ''}"

    @property
    def buffer(self) -> str:
        """Its buffer in shared memory."""
        return f"{self.name}_smem"

    @property
    def of_scales(self) -> Part:
        """The same operand's scales."""
        return replace(self, scales=True)
