"""Single-precision arithmetic with one rounding an operation, as the GPU's `.rn` instructions do it.

Every function takes numpy arrays (or numbers), works elementwise in IEEE binary32 with round to nearest even and
subnormals kept, and returns an array. `fp4num.functions` is written in these operations; in an emitted kernel the same
names are one PTX instruction each, so a function means the same bits in both places.

Source: PTX ISA, "Floating-Point Instructions" (`add/mul/fma/div/sqrt.rn.f32`, `min/max{.NaN}.f32`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Bool = NDArray[np.bool_]


def f32(x: ArrayLike) -> F32:
    """`x` as an f32 array; f64 input is rounded once."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(x, dtype=np.float32)


def add(a: ArrayLike, b: ArrayLike) -> F32:
    """a + b."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(f32(a) + f32(b))


def sub(a: ArrayLike, b: ArrayLike) -> F32:
    """a - b."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(f32(a) - f32(b))


def mul(a: ArrayLike, b: ArrayLike) -> F32:
    """a * b."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(f32(a) * f32(b))


def div(a: ArrayLike, b: ArrayLike) -> F32:
    """a / b."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        return np.asarray(f32(a) / f32(b))


def sqrt(x: ArrayLike) -> F32:
    """The square root; NaN below zero."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(f32(x)))


def rcp(x: ArrayLike) -> F32:
    """1 / x."""
    return div(1.0, x)


def fma(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> F32:
    """a * b + c with one rounding.

    The product of two f32 is exact in f64. The sum is rounded to odd there, which keeps what the final rounding to
    f32 has to know (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product = np.asarray(f32(a).astype(np.float64) * f32(b).astype(np.float64))
        addend = f32(c).astype(np.float64)
        total = np.asarray(product + addend)
        back = total - product
        error = (product - (total - back)) + (addend - back)
        inexact = (error > 0) | (error < 0)
        bits = np.atleast_1d(total).view(np.int64)
        even = (bits & 1) == 0
        away = np.atleast_1d((error > 0) == (total > 0))
        fix = np.atleast_1d(inexact) & even
        odd = np.where(fix, np.where(away, bits + 1, bits - 1), bits).view(np.float64)
        return np.asarray(odd.reshape(total.shape).astype(np.float32))


def minimum(a: ArrayLike, b: ArrayLike) -> F32:
    """The smaller; the other operand if one is NaN (`min.f32`); -0 is below +0."""
    x, y = np.broadcast_arrays(f32(a), f32(b))
    smaller = np.where((x < y) | ((x == y) & np.signbit(x)), x, y)
    return np.where(np.isnan(x), y, np.where(np.isnan(y), x, smaller))


def maximum(a: ArrayLike, b: ArrayLike) -> F32:
    """The larger; the other operand if one is NaN (`max.f32`); +0 is above -0."""
    x, y = np.broadcast_arrays(f32(a), f32(b))
    larger = np.where((x > y) | ((x == y) & ~np.signbit(x)), x, y)
    return np.where(np.isnan(x), y, np.where(np.isnan(y), x, larger))


def at_most(x: ArrayLike, high: float) -> F32:
    """`x`, or a constant if `x` is above it; NaN stays NaN (`min.NaN.f32`)."""
    v = f32(x)
    return np.where(np.isnan(v), v, minimum(v, high))


def at_least(x: ArrayLike, low: float) -> F32:
    """`x`, or a constant if `x` is below it; NaN stays NaN (`max.NaN.f32`)."""
    v = f32(x)
    return np.where(np.isnan(v), v, maximum(v, low))


def absolute(x: ArrayLike) -> F32:
    """|x|: the sign bit cleared."""
    return np.abs(f32(x))


def neg(x: ArrayLike) -> F32:
    """-x: the sign bit turned."""
    return np.negative(f32(x))


def copysign(magnitude: ArrayLike, sign: ArrayLike) -> F32:
    """`magnitude` with the sign bit of `sign`."""
    return np.copysign(f32(magnitude), f32(sign))


def lt(a: ArrayLike, b: ArrayLike) -> Bool:
    """a < b; false if either is NaN."""
    return np.asarray(f32(a) < f32(b))


def isnan(x: ArrayLike) -> Bool:
    """True where x is NaN."""
    return np.isnan(f32(x))


def where(condition: Bool, a: ArrayLike, b: ArrayLike) -> F32:
    """`a` where the condition holds, else `b`."""
    return np.where(condition, f32(a), f32(b))


def bits(x: ArrayLike) -> I32:
    """The 32 bits of a float as an integer."""
    v = f32(x)
    return np.atleast_1d(v).view(np.int32).reshape(v.shape)


def from_bits(i: I32) -> F32:
    """The float that has these 32 bits."""
    v = np.asarray(i, dtype=np.int32)
    return np.atleast_1d(v).view(np.float32).reshape(v.shape)
