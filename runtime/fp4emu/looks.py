"""When to look whether a path goes around for ever (`fp4emu.spin`): seldom, since it costs and most loops end."""

from __future__ import annotations

from collections.abc import Callable

from fp4emu.machine import Machine
from fp4emu.registry import Wait
from fp4emu.spin import Read, Snapshot, Watch

FIRST_LOOK = 16
"""How often a path goes backward before it is watched."""
LOOKS = 4
"""How many turns of the loop are then compared, before it is left alone for twice as long."""


class Looks:
    """When to look at a path's loops, and what came of it: the first time after `FIRST_LOOK` steps backward (at once if
    it has `spun` before), then less and less often. `seen` are the reads of the last turn that was compared."""

    def __init__(self, machine: Machine, spun: bool) -> None:
        self.machine = machine
        self.watching = False
        self.seen: tuple[Read, ...] = ()
        self._backward = 0
        self._patience = 1 if spun else FIRST_LOOK
        self._tries = 0

    def due(self, quiet: bool) -> bool:
        """Whether to look, at a step backward from a block that is `quiet`."""
        if self.watching and not quiet:
            self.stop()
        self._backward += 1
        return self.watching or self._backward >= self._patience

    def spins(self, block: int, state: Callable[[], Snapshot]) -> bool:
        """Looks at the group as it comes to a block; True if it will never leave the loop by itself."""
        watch = self.machine.watch
        if watch is not None and watch.block != block and self._backward < 2 * self._patience:
            return False
        now = state()
        if watch is not None and watch.block == block:
            self.seen = tuple(watch.reads)
            if watch.repeats(now):
                return True
            self._tries += 1
            if self._tries % LOOKS == 0:
                self.stop()
                return False
        self.machine.watch, self.watching = Watch(block, now), True
        return False

    def wait(self) -> Wait:
        """The sleep of a path that spins."""
        watch = self.machine.watch
        assert watch is not None
        self.machine.watch, self.watching = None, False
        return watch.wait()

    def stop(self) -> None:
        self.machine.watch, self.watching = None, False
        self._patience, self._backward = 2 * self._patience, 0
