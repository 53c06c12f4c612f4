"""The (randomized) Hadamard transform, as one sequence of float32 operations.

Along the axis, each group of `size` elements x becomes (x * signs) @ H / sqrt(size), with H Sylvester's matrix. The
product is computed by butterflies: for h = 1, 2, 4, .. size/2, the pair (a, b) of elements whose index differs in bit h
becomes (a + b, a - b), each rounded once; at the end every element is multiplied by fl(1/sqrt(size)).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fp4num.codecs import Floats
from fp4num.dtypes import numbers
from fp4num.errors import DataError

SIZES = (2, 4, 8, 16, 32, 64, 128, 256)

#: The signs of Transformer Engine's 16-point transform.
TE_SIGNS = (1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1)


def matrix(size: int) -> Floats:
    """Sylvester's matrix H: entries 1 and -1, symmetric, H @ H = size * I. Row i, column j: (-1)^popcount(i & j)."""
    _check(size)
    h = np.ones((1, 1), np.float32)
    while len(h) < size:
        h = np.block([[h, h], [h, -h]])
    return h


def hadamard(x: ArrayLike, size: int, axis: int = -1, signs: ArrayLike | None = None) -> Floats:
    """Transform groups of `size` along `axis`; `signs` [size] multiplies a group's elements first.

    Raises `DataError` if the size is no power of two of 2..256 or does not divide the axis.
    """
    _check(size)
    values = np.moveaxis(np.asarray(numbers(x, "x"), np.float32), axis, -1)
    if values.shape[-1] % size:
        raise DataError(f"a Hadamard transform of {size} does not divide the axis of {values.shape[-1]}")
    groups = values.reshape(*values.shape[:-1], values.shape[-1] // size, size)
    if signs is not None:
        s = np.asarray(signs, np.float32)
        if s.shape != (size,):
            raise DataError(f"signs of a Hadamard transform of {size} have the shape ({size},), not {s.shape}")
        groups = groups * s
    h = 1
    while h < size:
        pairs = groups.reshape(*groups.shape[:-1], size // (2 * h), 2, h)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        groups = np.stack([a + b, a - b], axis=-2).reshape(groups.shape)
        h *= 2
    groups = groups * np.float32(1 / math.sqrt(size))
    return np.ascontiguousarray(np.moveaxis(groups.reshape(values.shape), -1, axis))


def _check(size: int) -> None:
    if size not in SIZES:
        raise DataError(f"a Hadamard transform has a size of {', '.join(map(str, SIZES))}, not {size}")
