"""What a launch has to do with the one before and the next (PTX ISA 9.7.13.13, "griddepcontrol")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Place = tuple[int, int, int]


@dataclass(slots=True)
class Dependency:
    """What a launch has to do with those around it: `over` says whether the one before has ended. `waited` are the CTAs
    of which a thread has waited for that, `released` those that have let the next launch begin, or have ended."""

    over: Callable[[], bool] = lambda: True
    waited: set[Place] = field(default_factory=set[Place])
    released: set[Place] = field(default_factory=set[Place])
    early: bool = False
    """Whether a CTA has let the next launch begin before it waited for the one before."""

    def release(self, cta: Place) -> None:
        """A CTA executes `launch_dependents`."""
        self.early |= cta not in self.waited
        self.released.add(cta)
