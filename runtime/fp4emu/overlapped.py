"""Grids that overlap: programmatic dependent launches (PTX ISA 9.7.13.13, "griddepcontrol").

A launch that depends on the one before may begin once each CTA of that one has executed `launch_dependents` or has
ended. `wait` ends when the launch before has.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from fp4emu.launch import Launch


@dataclass(slots=True)
class _Running:
    """A launch that has begun. `over`: it has ended."""

    launch: Launch
    steps: Generator[bool]
    blocked: bool = False
    over: bool = False

    @property
    def opened(self) -> bool:
        """Whether the next launch may begin."""
        return self.over or len(self.launch.machine.dependency.released) == math.prod(self.launch.grid.size)


def run_overlapped(launches: Sequence[Launch], chooser: random.Random | None, deadline: float | None) -> None:
    """Runs launches, each of which depends on the one before. Without a `chooser`, one that has begun goes as far as it
    can before those in front of it go on; else turns are drawn. `TimeOver` at the monotonic clock's `deadline`."""
    waiting, running = list(launches), list[_Running]()
    with np.errstate(all="ignore"):
        try:
            while waiting or not all(one.over for one in running):
                if waiting and (not running or running[-1].opened):
                    running.append(_begun(waiting.pop(0), running[-1] if running else None, deadline))
                _turn(running, chooser)
        finally:
            for one in reversed(running):
                one.steps.close()


def _begun(launch: Launch, before: _Running | None, deadline: float | None) -> _Running:
    if before is not None:
        launch.machine.dependency.over = lambda: before.over
    return _Running(launch, launch.steps(deadline))


def _turn(running: Sequence[_Running], chooser: random.Random | None) -> None:
    """A step of one launch; those that can do nothing but wait are tried again when another has ended."""
    able = [one for one in running if not (one.over or one.blocked)]
    one = chooser.choice(able) if chooser is not None else able[-1]
    try:
        one.blocked = next(one.steps)
    except StopIteration:
        one.over = True
        for other in running:
            other.blocked = False
