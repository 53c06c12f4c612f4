"""The last write and the reads since, of every byte of shared and global memory and every cell of tensor memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.order.events import Numbers

Selection = Any
"""What picks bytes of a memory: an index of its arrays, or a function that gives a view of them."""


@dataclass(slots=True, eq=False)
class Shadow:
    """`writes` and `reads` hold numbers of `fp4emu.order.events`; `name` says where an element lies."""

    kind: str
    writes: Numbers
    reads: Numbers
    name: Callable[[int], str]
    rank: int = -1

    @staticmethod
    def of(kind: str, shape: int | tuple[int, int], name: Callable[[int], str], rank: int = -1) -> Shadow:
        return Shadow(kind, np.zeros(shape, np.int32), np.zeros(shape, np.int32), name, rank)

    def get(self, array: Numbers, where: Selection) -> Numbers:
        return _selected(array, where)

    def put(self, array: Numbers, where: Selection, numbers: Any) -> None:
        if callable(where):
            _selected(array, where)[...] = numbers
        else:
            array[where] = numbers

    def first(self, where: Selection, bad: NDArray[np.bool_]) -> tuple[int, int]:
        """The first of the bad elements of a selection, as a flat index, and how many there are."""
        index = np.arange(self.writes.size, dtype=np.int64).reshape(self.writes.shape)
        chosen = np.broadcast_to(_selected(index, where), bad.shape)[bad]
        return int(chosen.min()), int(bad.sum())


def _selected(array: Any, where: Selection) -> Any:
    view: Any = where
    return view(array) if callable(where) else array[where]
