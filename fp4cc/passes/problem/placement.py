"""Where a scale layout puts scales: which layouts are the same, however they are written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from fp4num import ScaleLayout
from fp4num.layouts import COORDINATES


@lru_cache(maxsize=64)
def same_placement(a: ScaleLayout, b: ScaleLayout) -> bool:
    """Whether two layouts put every scale, and the same padding, at the same offset, however they are written."""
    return (a.order, a.pad) == (b.order, b.pad) and all(
        [along(a.modes(c), i) for i in range(a.extent(c))] == [along(b.modes(c), i) for i in range(b.extent(c))]
        for c in COORDINATES
    )


def along(modes: Sequence[tuple[int, int]], index: int) -> int:
    """The offset of an index along a coordinate, inside an atom."""
    offset = 0
    for extent, stride in modes:
        offset += index % extent * stride
        index //= extent
    return offset
