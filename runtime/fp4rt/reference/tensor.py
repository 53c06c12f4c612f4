"""Arrays with named axes: broadcasting is by name, never by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import Quantized
from fp4rt.errors import DeviceError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Values and the name of each axis, in order. Floats of any type are held as f32, which is exact for them."""

    data: Array
    axes: tuple[str, ...]

    def extent(self, axis: str) -> int:
        """The size of an axis."""
        return self.data.shape[self.axes.index(axis)]

    def align(self, axes: Sequence[str]) -> Array:
        """The data with exactly these axes in this order: transposed, and of size 1 along the axes it lacks."""
        extra = [a for a in self.axes if a not in axes]
        if extra:
            raise DeviceError(f"axes {', '.join(extra)} of a value are not among {', '.join(axes)}", code="FP6307")
        present = [a for a in axes if a in self.axes]
        data = self.data.transpose([self.axes.index(a) for a in present])
        shape = iter(data.shape)
        return data.reshape([next(shape) if a in self.axes else 1 for a in axes])

    def renamed(self, axes: tuple[str, ...]) -> Tensor:
        """The same data with other names."""
        return Tensor(self.data, axes)

    def swap_last(self) -> Tensor:
        """The last two axes exchanged."""
        return Tensor(np.swapaxes(self.data, -1, -2), (*self.axes[:-2], self.axes[-1], self.axes[-2]))


@dataclass(frozen=True, slots=True)
class Gathered:
    """Rows of a quantized value, by their numbers; `axes` are its own: those of the numbers, then the value's rest."""

    value: Quantized
    rows: Array
    axes: tuple[str, ...]

    def of(self, data: Array) -> Tensor:
        """These rows of a decoded value."""
        return Tensor(rows_of(data, self.rows), self.axes)


def rows_of(data: Array, rows: Array) -> Array:
    """Rows of an array by their numbers; zeros for a number that is none of its rows'."""
    inside = (rows >= 0) & (rows < data.shape[0])
    if not data.shape[0]:
        return np.zeros((*rows.shape, *data.shape[1:]), data.dtype)
    found = data[np.where(inside, rows, 0)]
    found[~inside] = 0
    return found


@dataclass(frozen=True, slots=True)
class Turned:
    """A quantized value with its last two axes exchanged; `axes` are its own, so in the order after the exchange."""

    value: Quantized
    axes: tuple[str, ...]

    @property
    def stored_axes(self) -> tuple[str, ...]:
        """The names of the axes as they lie in memory."""
        return (*self.axes[:-2], self.axes[-1], self.axes[-2])
