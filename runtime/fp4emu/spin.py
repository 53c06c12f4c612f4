"""Loops that cannot end by themselves: what a path polls, so that it can sleep until somebody writes there.

A path that comes back to a block with all registers as they were, having executed only `quiet` instructions (which
change nothing but registers, `fp4emu.registry`), will go around for ever: until one of the bytes that it read on the
way changes. It is then put to sleep with a `Wait` for that, so that the lanes, warps and CTAs that it waits for run,
and so that a deadlock names the address. This is exact: a loop that counts, or looks at the clock, is never taken for
one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.registry import Wait

LONGEST = 4096
"""The most reads that are kept of one turn."""

Snapshot = tuple[list[Any], list[Any]]


@dataclass(frozen=True, slots=True)
class Read:
    """Elements that were read: `memory[index]` held the bytes `value`. `where` names the first of them."""

    memory: NDArray[Any]
    index: Any
    value: bytes
    where: Callable[[], str]

    def changed(self) -> bool:
        return np.asarray(self.memory[self.index]).tobytes() != self.value


@dataclass(slots=True)
class Watch:
    """One look at a loop: the block and the state of the group where it began, and what was read since."""

    block: int
    state: Snapshot
    reads: list[Read] = field(default_factory=list[Read])
    quiet: bool = True

    def note(self, memory: NDArray[Any], index: Any, where: Callable[[], str]) -> None:
        """A read. Too many of them are no loop that polls."""
        if len(self.reads) >= LONGEST:
            self.quiet = False
        else:
            self.reads.append(Read(memory, index, np.asarray(memory[index]).tobytes(), where))

    def disturbed(self) -> None:
        """Something other than a register was changed."""
        self.quiet = False

    def repeats(self, state: Snapshot) -> bool:
        """Whether the group is where it was, and nothing happened that could make the next turn another one."""
        return self.quiet and all(map(_same, self.state[0], state[0])) and all(map(_same, self.state[1], state[1]))

    def wait(self) -> Wait:
        """Until a byte that was read has changed; for ever if none was."""
        reads = tuple(self.reads)
        return Wait(lambda: any(read.changed() for read in reads), lambda: describe(reads), spins=True)


def describe(reads: tuple[Read, ...]) -> str:
    """`spins on global 0x7f0000000400 (...)`."""
    if not reads:
        return "spins without reading memory"
    return "spins on " + ", ".join(dict.fromkeys(read.where() for read in reads[-3:]))


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) or bool(a != a and b != b)
