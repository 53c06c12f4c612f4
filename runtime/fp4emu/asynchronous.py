"""When asynchronous operations take effect.

PTX lets an asynchronous operation (a TMA copy, a tcgen05.mma, a commit, a bulk reduction ...) complete at any time
until something waits for
it. In the mode "immediate" it completes where it is issued; in the mode "delayed" after a random delay from the
launch's seed, so that a
missing wait reads old data. Operations submitted under the same `order` key complete in the order of their submission
(the tcgen05
pipeline of a CTA pair, PTX ISA 9.7.16.6.2); others complete in any order.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Hashable
from typing import Literal

Mode = Literal["immediate", "delayed"]

# The longest delay in scheduler ticks; a tick is one turn of one group of warps.
LONGEST_DELAY = 24


class AsyncQueue:
    """Completions in flight. `done` counts those that have taken effect: the scheduler polls sleeping warps when it
    changes."""

    def __init__(self, mode: Mode = "immediate", seed: int = 0) -> None:
        self.mode = mode
        self.now = 0
        self.done = 0
        self._random = random.Random(seed)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = 0
        self._last: dict[Hashable, int] = {}

    def submit(self, action: Callable[[], None], *, order: Hashable = None) -> None:
        """Runs `action` at once, or later. It must do the whole effect: read its sources, write, then signal its
        barrier."""
        if self.mode == "immediate":
            action()
            self.done += 1
            return
        due = self.now + self._random.randint(1, LONGEST_DELAY)
        if order is not None:
            due = max(due, self._last.get(order, 0))
            self._last[order] = due
        self._serial += 1
        heapq.heappush(self._heap, (due, self._serial, action))

    @property
    def pending(self) -> int:
        return len(self._heap)

    def tick(self) -> None:
        """Advances the clock by one and runs what is due."""
        self.now += 1
        self._run()

    def skip(self) -> bool:
        """Advances the clock to the next completion; False if nothing is in flight."""
        if not self._heap:
            return False
        self.now = max(self.now, self._heap[0][0])
        self._run()
        return True

    def drain(self) -> None:
        """Completes everything (end of a launch)."""
        while self.skip():
            pass

    def _run(self) -> None:
        while self._heap and self._heap[0][0] <= self.now:
            _, _, action = heapq.heappop(self._heap)
            action()
            self.done += 1
