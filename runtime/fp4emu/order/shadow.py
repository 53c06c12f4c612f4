"""The last write and the reads since, of every byte of shared and global memory and every cell of tensor memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.order.events import Numbers
from fp4emu.selection import Selection, Strided

GRAIN = 4
"""Bytes that share a number, until an access touches a part of them."""
_BLOCK = 1 << 18

Place = Any
"""What picks grains of a table: an index of its arrays, or a box of them."""


@dataclass(slots=True, eq=False)
class Table:
    """Numbers of `fp4emu.order.events` for all bytes of an arena, `grain` bytes together."""

    writes: Numbers
    reads: Numbers
    grain: int = GRAIN

    @staticmethod
    def of(size: int) -> Table:
        """Of so many bytes, a multiple of 16."""
        return Table(np.zeros(size // GRAIN, np.int32), np.zeros(size // GRAIN, np.int32))

    def part(self, size: int) -> None:
        """Has neighbors of `size` bytes numbers of their own."""
        if size < self.grain:
            self.refine()

    def refine(self) -> None:
        """Has each byte its own number."""
        if self.grain > 1:
            self.writes, self.reads = _spread(self.writes, self.grain), _spread(self.reads, self.grain)
            self.grain = 1


def _spread(numbers: Numbers, times: int) -> Numbers:
    """Each number so many times. What is zero takes no memory before and none after."""
    result = np.zeros(len(numbers) * times, np.int32)
    for start in range(0, len(numbers), _BLOCK):
        block = numbers[start : start + _BLOCK]
        if block.any():
            result[start * times : (start + len(block)) * times] = np.repeat(block, times)
    return result


@dataclass(slots=True, eq=False)
class Shadow:
    """Bytes `start` to `stop` of a table: a memory. `name` says where one of its bytes lies; `rank` is that of its CTA,
    -1 if it has none."""

    kind: str
    table: Table
    start: int
    stop: int
    name: Callable[[int], str]
    rank: int = -1

    def at(self, where: Selection) -> Place:
        """The place of some bytes. If they are not whole grains, each byte gets its own number first."""
        found = _grains(where, self.table.grain)
        if found is None:
            self.table.refine()
            found = _grains(where, 1)
        return found

    def writes(self, place: Place) -> Numbers:
        """The numbers of the last writes."""
        return _of(self._part(self.table.writes), place)

    def reads(self, place: Place) -> Numbers:
        """The numbers of the reads since."""
        return _of(self._part(self.table.reads), place)

    def written(self, place: Place, numbers: Any) -> None:
        """Notes a write, which takes the place of all that was before."""
        _put(self._part(self.table.writes), place, numbers)
        _put(self._part(self.table.reads), place, 0)

    def read(self, place: Place, numbers: Any) -> None:
        """Notes reads."""
        _put(self._part(self.table.reads), place, numbers)

    def first(self, place: Place, bad: NDArray[np.bool_]) -> tuple[int, int]:
        """The first byte of the bad grains of a place, and how many bytes there are."""
        grain = self.table.grain
        index = np.arange((self.stop - self.start) // grain, dtype=np.int64)
        chosen = np.broadcast_to(_of(index, place), bad.shape)[bad]
        return int(chosen.min()) * grain, int(bad.sum()) * grain

    def _part(self, numbers: Numbers) -> Numbers:
        grain = self.table.grain
        return numbers[self.start // grain : self.stop // grain]


def _grains(where: Selection, size: int) -> Place | None:
    if not isinstance(where, slice):
        return where.grains(size)
    if (where.start | where.stop) % size:
        return None
    return slice(where.start // size, where.stop // size)


def _of(array: NDArray[Any], place: Place) -> NDArray[Any]:
    if isinstance(place, np.ndarray):
        return array.take(place)
    return place.view(array) if isinstance(place, Strided) else array[place]


def _put(array: Numbers, place: Place, numbers: Any) -> None:
    if isinstance(place, Strided):
        place.view(array)[...] = numbers
    else:
        array[place] = numbers


@dataclass(slots=True, eq=False)
class Cells:
    """The same of tensor memory, lane by column: whoever looks at it picks cells of the arrays by an index."""

    writes: Numbers
    reads: Numbers
    name: Callable[[int], str]

    @staticmethod
    def of(shape: tuple[int, int], name: Callable[[int], str]) -> Cells:
        return Cells(np.zeros(shape, np.int32), np.zeros(shape, np.int32), name)

    def first(self, where: Any, bad: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> tuple[int, int]:
        """The first of the bad cells (None: all) of a selection of this shape, as a flat index, and how many there
        are."""
        lanes, columns = where
        width = self.writes.shape[1]
        if isinstance(lanes, slice) and isinstance(columns, slice):
            row, column = divmod(int(bad.argmax()), shape[1]) if bad is not None else (0, 0)
            count = int(bad.sum()) if bad is not None else shape[0] * shape[1]
            return ((lanes.start or 0) + row) * width + columns.start + column, count
        flat = np.broadcast_to(lanes * width + columns, shape)
        chosen = flat if bad is None else flat[bad]
        return int(chosen.min()), chosen.size
