"""The lanes of a warp as the bits of a word."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LANES, FULL = 32, 0xFFFF_FFFF


@lru_cache(maxsize=4096)
def bits(word: int) -> tuple[int, ...]:
    """Positions of the set bits."""
    return tuple(i for i in range(LANES) if word >> i & 1)


@lru_cache(maxsize=4096)
def positions(word: int) -> NDArray[np.int64]:
    """The same as an array, which nobody changes."""
    found = np.array(bits(word), np.int64)
    found.setflags(write=False)
    return found


@lru_cache(maxsize=4096)
def span(word: int, base: int) -> int | slice | NDArray[np.int64]:
    """The places of lanes, of which lane 0 is at `base`, as the cheapest index that there is."""
    low, high = (word & -word).bit_length() - 1, word.bit_length()
    if high - low == 1:
        return base + low
    return slice(base + low, base + high) if word.bit_count() == high - low else base + positions(word)
