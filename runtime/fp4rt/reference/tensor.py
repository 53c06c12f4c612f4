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
class Turned:
    """A quantized value with its last two axes exchanged; `axes` are its own, so in the order after the exchange."""

    value: Quantized
    axes: tuple[str, ...]

    @property
    def stored_axes(self) -> tuple[str, ...]:
        """The names of the axes as they lie in memory."""
        return (*self.axes[:-2], self.axes[-1], self.axes[-2])
