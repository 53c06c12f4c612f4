"""Loads and stores of many warps at once: what nearly always holds is found for all of them by a few array operations.

If the lanes of a group touch different elements, none of them sees what another does by the same instruction, and they
may be judged together. Where all that stands in the shadow happened before, nothing is left but to note the accesses.
Anything else, faults among it, is left to the rule that looks at one warp after the other (`fp4emu.order.loads`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.instruction import Instruction
from fp4emu.lockstep import Lockstep
from fp4emu.order.agents import Lanes
from fp4emu.order.clocks import Clock, WarpClock
from fp4emu.order.events import SPREAD, WHOLE, Numbers
from fp4emu.order.lanes import LANES
from fp4emu.order.observer import Observer
from fp4emu.shapes import Mask, words

Array = NDArray[Any]


def access(
    g: Lockstep, observer: Observer, space: str, start: Array, size: int, executing: Mask, *, write: bool
) -> bool:
    """Judges and notes an access of the executing lanes, of `size` bytes each at offsets of the arena, both [rows, 32].
    False, and nothing is noted, if it has to be looked at warp by warp."""
    ins = observer.ins
    assert ins is not None
    table = observer.arena if space == "shared" else observer.global_table
    table.part(size)
    rows, lanes = np.nonzero(executing)
    element = start[rows, lanes] // size
    if not _different(element) or (space == "shared" and not _at_home(g, start, executing)):
        return False
    warps = _Warps(g, observer, ins, executing)
    count = size // table.grain
    writes, reads = table.writes.reshape(-1, count), table.reads.reshape(-1, count)
    if not warps.see(writes[element], rows, lanes) or not warps.see(reads[element], rows, lanes, once=not write):
        return False
    numbers = np.array([observer.number(Lanes(clock, word, ins), space) if word else 0 for clock, word in warps.acting])
    own = (numbers[rows] + lanes)[:, None]
    if write:
        writes[element] = own
        reads[element] = 0
    else:
        reads[element] = own
    return True


def _different(element: Array) -> bool:
    """Whether no two lanes touch the same element."""
    if (element[1:] > element[:-1]).all():
        return True
    ordered = np.sort(element)
    return bool((ordered[1:] != ordered[:-1]).all())


def _at_home(g: Lockstep, start: Array, executing: Mask) -> bool:
    """Whether each lane touches its own CTA's shared memory."""
    away = start // g.grid.stride != np.asarray(g.arena_base) // g.grid.stride
    return not (away & executing).any()


class _Warps:
    """The warps of a group as those who access: `acting` are (clocks, lanes that execute) by row."""

    def __init__(self, g: Lockstep, observer: Observer, ins: Instruction, executing: Mask) -> None:
        self.events = observer.events
        self.acting: list[tuple[WarpClock, int]] = [
            (observer.warp(warp), word) for warp, word in zip(g.warps, words(executing).tolist(), strict=True)
        ]
        self.base = np.array([clock.base for clock, _ in self.acting], np.int32)
        self.domain = np.array([clock.domain.index for clock, _ in self.acting], np.int32)
        self._known: tuple[NDArray[np.int32], Array, bool] | None = None

    def see(self, numbers: Numbers, rows: Array, lanes: Array, *, once: bool = False) -> bool:
        """Whether all these accesses, [lanes, grains], happened before those of the lanes. With `once`, a warp's lanes
        must know the same."""
        first = numbers[:, :1]
        if (numbers == first).all():
            numbers = first
        if not numbers.any():
            return True
        index = np.maximum(numbers, 0) // SPREAD
        lane = numbers - index * SPREAD
        events = self.events
        place = events.place[index] + lane
        beside = events.asynchronous[index]
        own = (place == (self.base[rows] + lanes)[:, None]) & ~beside
        fine = (numbers >= 0) & (lane < WHOLE) & (events.domain[index] == self.domain[rows][:, None])
        if not (fine | (numbers == 0)).all():
            return False
        rest = ~own & (numbers != 0)
        if not rest.any():
            return True
        known, which, alike = self._clocks()
        if once and not alike:
            return False
        clock = np.broadcast_to(which[rows, lanes][:, None], place.shape)
        if int(place[rest].max()) >= known.shape[1]:
            return False
        return bool((known[clock[rest], place[rest]] >= events.time[index][rest]).all())

    def _clocks(self) -> tuple[NDArray[np.int32], Array, bool]:
        """(what is known, [clock, place]; the clock of each [row, lane]; whether each row has one clock)."""
        if self._known is None:
            clocks: list[Clock] = []
            which = np.zeros((len(self.acting), LANES), np.intp)
            alike = True
            for row, (warp, word) in enumerate(self.acting):
                parts = warp.distinct(word)
                alike = alike and len(parts) < 2
                for clock, mask in parts:
                    which[row] = len(clocks) if mask == word else np.where(_flags(mask), len(clocks), which[row])
                    clocks.append(clock)
            known = np.zeros((len(clocks), max(len(clock.known) for clock in clocks)), np.int32)
            for row, clock in enumerate(clocks):
                known[row, : len(clock.known)] = clock.known
            self._known = known, which, alike
        return self._known


def _flags(word: int) -> Mask:
    return (word >> np.arange(LANES) & 1).astype(np.bool_)
