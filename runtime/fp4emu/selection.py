"""Which bytes of a memory an access touches, as those that make them report them to who watches the order of accesses.

Besides the classes here a selection may be a slice of bytes. Offsets are bytes from the start of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Strided:
    """A box of `shape` bytes from `offset` on; `strides` are those of all axes but the last, whose bytes are
    neighbors."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def grains(self, size: int) -> Strided | None:
        """The same in grains of `size` bytes; None if it is not made of whole ones."""
        if size == 1:
            return self
        if (self.offset | self.shape[-1]) % size or any(stride % size for stride in self.strides):
            return None
        strides = tuple(stride // size for stride in self.strides)
        return Strided(self.offset // size, (*self.shape[:-1], self.shape[-1] // size), strides)

    def view(self, array: NDArray[Any]) -> NDArray[Any]:
        """These elements of an array: a view of it."""
        item = array.itemsize
        strides = (*(stride * item for stride in self.strides), item)
        return np.ndarray(self.shape, array.dtype, array, self.offset * item, strides)


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The first `used` bytes of each of some units of `unit` bytes, a power of two; `numbers` count the units from the
    start of the memory, one axis."""

    numbers: NDArray[Any]
    unit: int
    used: int
    _found: dict[int, NDArray[Any] | None] = field(default_factory=dict[int, "NDArray[Any] | None"])

    def grains(self, size: int) -> NDArray[Any] | None:
        """Indices of grains of `size` bytes, [units, grains of a unit]; None if they do not make whole ones."""
        if size not in self._found:
            self._found[size] = self._grains(size)
        return self._found[size]

    def _grains(self, size: int) -> NDArray[Any] | None:
        if self.unit >= size:
            if self.used % size:
                return None
            start = self.numbers * (self.unit // size)
            return start[:, None] + np.arange(self.used // size)
        count = size // self.unit  # neighbors that make a grain
        if self.used != self.unit or len(self.numbers) % count:
            return None
        rows = np.sort(self.numbers).reshape(-1, count)
        first = rows[:, :1]
        if (first % count).any() or (rows - first != np.arange(count)).any():
            return None
        return first // count


Selection = slice | Strided | Units
