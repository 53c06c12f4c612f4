"""Shared-memory swizzles: which 16-byte chunks change places.

PTX ISA, "Tensors: Swizzling modes" (the same patterns serve TMA boxes and matrix descriptors). A swizzle is an XOR of
low address bits with higher ones. It acts on the final shared-memory byte address, not on an offset inside a tile, so a
tile that does not start at a multiple of the pattern's repeat length is rotated in the same way as on the hardware.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class Swizzle(IntEnum):
    """A swizzle mode; the values are those of `CUtensorMapSwizzle`."""

    NONE = 0
    B32 = 1
    B64 = 2
    B128 = 3
    B128_ATOM_32B = 4
    B128_ATOM_32B_FLIP_8B = 5
    B128_ATOM_64B = 6


@dataclass(frozen=True, slots=True)
class Pattern:
    """How a mode moves bytes: `bits` address bits from `base` up are XORed with those `shift` places higher.

    `span` is the row length in bytes, `repeat` the pattern's period in bytes. With `flip`, the two 8-byte halves of
    each 16-byte chunk trade places in odd rows.
    """

    bits: int
    base: int
    shift: int
    span: int
    repeat: int
    flip: bool = False


PATTERNS: dict[Swizzle, Pattern] = {
    Swizzle.NONE: Pattern(0, 4, 3, 16, 16),
    Swizzle.B32: Pattern(1, 4, 3, 32, 256),
    Swizzle.B64: Pattern(2, 4, 3, 64, 512),
    Swizzle.B128: Pattern(3, 4, 3, 128, 1024),
    Swizzle.B128_ATOM_32B: Pattern(2, 5, 2, 128, 512),
    Swizzle.B128_ATOM_32B_FLIP_8B: Pattern(2, 5, 2, 128, 512, flip=True),
    Swizzle.B128_ATOM_64B: Pattern(1, 6, 1, 128, 256),
}


def swizzle(address: IntArray, mode: Swizzle) -> IntArray:
    """Physical byte addresses of the logical byte addresses `address` under `mode`. It is its own inverse."""
    pattern = PATTERNS[mode]
    if pattern.bits == 0:
        return address
    mask = ((1 << pattern.bits) - 1) << (pattern.base + pattern.shift)
    result = address ^ ((address & mask) >> pattern.shift)
    if pattern.flip:
        result = result ^ ((address & 0x80) >> 4)
    return result
