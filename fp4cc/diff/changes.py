"""What a comparison of two kernels finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fp4cc.source import Span

Aspect = Literal["interface", "numerics", "layout", "schedule"]

#: What can change, the weightiest first.
#:
#: interface: what a caller passes and gets: arguments, their types and axes, dims, conditions, defaults.
#: numerics: the numbers that come out for the same numbers that go in.
#: layout: where the bytes of a quantized tensor lie.
#: schedule: how the kernel runs, and nothing of what it computes.
ASPECTS: tuple[Aspect, ...] = ("interface", "numerics", "layout", "schedule")


@dataclass(frozen=True, slots=True)
class Change:
    """One change: what it is, and the places it shows at; None where one side has nothing of it."""

    aspect: Aspect
    what: str
    before: Span | None
    after: Span | None


@dataclass(frozen=True, slots=True)
class KernelChanges:
    """The changes of one kernel. `before` and `after` are its names; None where a file does not have it."""

    before: str | None
    after: str | None
    changes: tuple[Change, ...]

    @property
    def name(self) -> str:
        """The kernel's name, the new one where it changed."""
        return self.after or self.before or ""

    @property
    def aspects(self) -> tuple[Aspect, ...]:
        """What changed, the weightiest first; nothing for the same kernel."""
        found = {c.aspect for c in self.changes}
        return tuple(a for a in ASPECTS if a in found)
