"""What a block is measured by: the largest magnitude, or the standard deviation."""

from __future__ import annotations

import numpy as np

from fp4num.codecs import Floats
from fp4num.rules.base import Statistic


def amax(x: Floats, *, nan: bool) -> np.float32:
    """The largest magnitude of a tensor, 0 if it is empty. A NaN makes it NaN, or is ignored, by `nan`."""
    magnitude = np.abs(x)
    if not nan:  # numpy's fmax takes a signaling NaN for the larger in some places of an array
        magnitude = np.where(np.isnan(magnitude), np.float32(0), magnitude)
    return np.float32(np.maximum.reduce(magnitude, axis=None, initial=np.float32(0)))


def of(statistic: Statistic, x: Floats, tall: int, wide: int) -> Floats:
    """The statistic of every block of x [rows, columns]: float32 [block rows, block columns].

    The last block row may be shorter; the columns are whole blocks.
    """
    if statistic == "std":
        return _std(x, tall, wide)
    magnitude = np.abs(x)
    found = _block_max(magnitude, tall, wide)
    if statistic == "amax" and np.isnan(found).any():
        magnitude[np.isnan(magnitude)] = 0
        found = _block_max(magnitude, tall, wide)
    return found


def _block_max(magnitude: Floats, tall: int, wide: int) -> Floats:
    """Maxima of blocks of non-negative numbers; NaN propagates."""
    if tall > 1:
        starts = np.arange(0, magnitude.shape[0], tall)
        magnitude = np.maximum.reduceat(magnitude, starts, axis=0)
    rows, columns = magnitude.shape
    while wide > 1 and wide % 2 == 0:
        # Halving compares long runs; a reduction over a short last axis would pay its overhead for every block.
        magnitude = np.maximum(magnitude[:, 0::2], magnitude[:, 1::2])
        wide //= 2
        columns //= 2
    return magnitude if wide == 1 else magnitude.reshape(rows, columns // wide, wide).max(axis=-1)


def _std(x: Floats, tall: int, wide: int) -> Floats:
    """Population standard deviation; sums run over a block's elements in row-major order, one float32 add at a time."""
    pad = -x.shape[0] % tall
    rows = np.pad(x, ((0, pad), (0, 0))) if pad else x
    blocks = rows.reshape(-1, tall, x.shape[1] // wide, wide).transpose(0, 2, 1, 3).reshape(-1, tall * wide)
    count = np.float32(tall * wide)
    total = np.zeros(blocks.shape[0], np.float32)
    squares = np.zeros(blocks.shape[0], np.float32)
    for i in range(blocks.shape[1]):
        total += blocks[:, i]
        squares += blocks[:, i] * blocks[:, i]
    mean = total / count
    variance = np.maximum(squares / count - mean * mean, np.float32(0))
    return np.sqrt(variance).reshape(rows.shape[0] // tall, x.shape[1] // wide)
