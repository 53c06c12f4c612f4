"""Operands drawn where instructions go wrong: limits, ties, subnormals, infinities and NaN among random bits."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Random:
    """Random numbers that are the same with every version of numpy, which promises that of bit generators alone."""

    def __init__(self, name: str) -> None:
        self._bits = np.random.PCG64(zlib.crc32(name.encode()))

    def bits(self, count: int, dtype: str | np.dtype[Any]) -> Array:
        """`count` numbers of an unsigned type."""
        size = np.dtype(dtype).itemsize
        return self._bits.random_raw(-(-count * size // 8)).view(dtype)[:count].copy()

    def below(self, limit: int, count: int) -> NDArray[np.int64]:
        """`count` numbers from 0 to limit - 1."""
        return (self._bits.random_raw(count) % np.uint64(limit)).astype(np.int64)

    def one(self, limit: int) -> int:
        return int(self._bits.random_raw() % limit)

    def between(self, low: int, high: int) -> int:
        return low + self.one(high - low + 1)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.one(len(options))]

    def unit(self, count: int) -> NDArray[np.float64]:
        """`count` numbers in [0, 1)."""
        return (self._bits.random_raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


BITS = {"u8": 8, "s8": 8, "u16": 16, "s16": 16, "u32": 32, "s32": 32, "u64": 64, "s64": 64, "b16": 16, "b32": 32,
        "b64": 64, "f16": 16, "bf16": 16, "f32": 32, "f64": 64, "f16x2": 32, "bf16x2": 32, "pair": 16, "small": 32,
        "shift": 32, "lane": 32, "angle": 32, "tame": 32}  # fmt: skip
FORMATS = {"f16": (5, 10), "bf16": (8, 7), "f32": (8, 23), "f64": (11, 52)}


def draw(kind: str, count: int, random: Random) -> Array:
    """`count` operands of a kind, as unsigned numbers of its width."""
    if kind in FORMATS:
        return _floats(kind, count, random)
    if kind in ("f16x2", "bf16x2"):
        low, high = (_floats(kind[:-2], count, random).astype(np.uint32) for _ in range(2))
        return low | high << np.uint32(16)
    if kind == "angle":
        return ((random.unit(count) * 2 - 1) * np.pi).astype(np.float32).view(np.uint32)
    if kind == "tame":  # no overflow in what is made of a few of them
        signs = 1 - 2 * random.below(2, count)
        return ((1 + random.unit(count)) * signs).astype(np.float32).view(np.uint32)
    limit = {"small": 5, "shift": 70, "lane": 40}.get(kind)
    if limit is not None:
        return random.below(limit, count).astype(np.uint32)
    return _integers(BITS[kind], count, random)


def _integers(bits: int, count: int, random: Random) -> Array:
    dtype = np.dtype(f"u{bits // 8}")
    any_bits = random.bits(count, dtype)
    top = 1 << (bits - 1)
    edges = np.array([0, 1, 2, top - 1, top, top + 1, 2 * top - 2, 2 * top - 1], dtype)
    near = (random.below(80, count) - 40).astype(dtype)
    narrow = any_bits >> random.below(bits, count).astype(dtype)
    choice = random.below(8, count)
    result = np.where(choice < 3, any_bits, np.where(choice < 5, narrow, near))
    return np.where(choice >= 6, edges[random.below(len(edges), count)], result).astype(dtype)


def _floats(kind: str, count: int, random: Random) -> Array:
    exponent, mantissa = FORMATS[kind]
    bits = 1 + exponent + mantissa
    dtype = np.dtype(f"u{bits // 8}")
    any_bits = random.bits(count, dtype)
    bias, mask = (1 << (exponent - 1)) - 1, (1 << mantissa) - 1
    infinity = ((1 << exponent) - 1) << mantissa
    one, half = bias << mantissa, (bias - 1) << mantissa
    edges = [0, 1, 2, mask, mask + 1, mask + 2, infinity, infinity - 1, infinity + 1, infinity | 1 << (mantissa - 1),
             one, one - 1, one + 1, half, half + 1, one | 1 << (mantissa - 1), half | 1 << (mantissa - 1)]  # fmt: skip
    # Numbers of a moderate size, whose mantissas are often short: ties of what is narrower.
    size = (bias - 12 + random.below(30, count)).astype(dtype) << dtype.type(mantissa)
    zeros = random.below(mantissa + 1, count).astype(dtype)
    moderate = size + ((any_bits & dtype.type(mask)) >> zeros << zeros)
    sign = random.below(2, count).astype(dtype) << dtype.type(bits - 1)
    choice = random.below(8, count)
    edge = np.array(edges, dtype)[random.below(len(edges), count)]
    chosen = np.where(choice < 2, any_bits, np.where(choice < 6, moderate, edge))
    return (chosen ^ sign).astype(dtype)
