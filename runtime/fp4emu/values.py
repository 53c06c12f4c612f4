"""Numeric kernels over lane arrays: roundings and conversions that numpy does not have.

Arrays have the shape [row, lane] (a row is a warp); either extent may be 1 and broadcasts. numpy floating-point
warnings are off while a
kernel runs (`fp4emu.launch`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

U1, U2, U4, U8 = np.uint8, np.uint16, np.uint32, np.uint64
S2, S4, S8 = np.int16, np.int32, np.int64
F2, F4, F8 = np.float16, np.float32, np.float64

NAN32 = np.uint32(0x7FFF_FFFF)
NAN16 = np.uint16(0x7FFF)
NAN64 = np.uint64(0x7FF8_0000_0000_0000)
_TINY32 = np.float32(2.0**-126)
_LOW29, _HALF29 = np.uint64(0x1FFF_FFFF), np.uint64(0x1000_0000)


def float32(bits: int) -> np.float32:
    """The f32 with these bits."""
    return np.uint32(bits).view(np.float32)


def float64(bits: int) -> np.float64:
    return np.uint64(bits).view(np.float64)


def bits32(value: Any) -> int:
    """Bits of an f32 scalar; a NaN is the canonical one, as the hardware writes it."""
    return 0x7FFF_FFFF if value != value else int(np.float32(value).view(np.uint32))


def bits64(value: Any) -> int:
    return int(NAN64) if value != value else int(np.float64(value).view(np.uint64))


def canonical32(x: Array) -> Array:
    """Bits of f32 results, NaNs canonical."""
    bits = x.view(U4)
    bad = x != x
    return np.where(bad, NAN32, bits) if bad.any() else bits


def canonical64(x: Array) -> Array:
    bits = x.view(U8)
    bad = x != x
    return np.where(bad, NAN64, bits) if bad.any() else bits


def canonical16(x: Array) -> Array:
    bits = x.view(U2)
    bad = x != x
    return np.where(bad, NAN16, bits) if bad.any() else bits


_WORDS = {16: U2, 32: U4, 64: U8}


def pack(low: Any, high: Any, bits: int) -> Any:
    """A register of `bits` bits from its halves (arrays or ints, not both ints)."""
    kind, half = _WORDS[bits], bits // 2
    upper = high.astype(kind) << kind(half) if isinstance(high, np.ndarray) else kind(high << half)
    return upper | (low.astype(kind) if isinstance(low, np.ndarray) else kind(low))


def low32(x: Array) -> Array:
    return x.astype(U4)


def high32(x: Array) -> Array:
    return (x >> U8(32)).astype(U4)


def vector(value: int, dtype: Any) -> Array:
    """A uniform value as a [1, 1] array."""
    return np.array([[value]], dtype)


def shift_left(x: Array, by: Any, bits: int) -> Array:
    """PTX shl: amounts of `bits` or more give 0 (9.7.7.6)."""
    kind = x.dtype.type
    amount = np.minimum(by, bits - 1).astype(kind)
    return np.where(np.asarray(by) >= bits, kind(0), x << amount)


def shift_right(x: Array, by: Any, bits: int) -> Array:
    """PTX shr of an unsigned (fills zeros) or signed (fills the sign) array."""
    kind = x.dtype.type
    amount = np.minimum(by, bits - 1).astype(kind)
    moved = x >> amount
    return moved if x.dtype.kind == "i" else np.where(np.asarray(by) >= bits, kind(0), moved)


def flush(x: Any) -> Any:
    """Subnormal f32 to zero of the same sign (.ftz)."""
    return (
        np.where(np.abs(x) < _TINY32, np.copysign(F4(0), x), x)
        if isinstance(x, np.ndarray)
        else (np.copysign(F4(0), x) if abs(x) < _TINY32 else x)
    )


def saturate(x: Any) -> Any:
    """.sat: clamp to [0, 1], NaN and -0 to +0."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    if isinstance(x, np.ndarray):
        return np.where(x > 0, np.minimum(x, one), zero)
    return min(x, one) if x > 0 else zero


def odd_sum(product: Array, addend: Any) -> Array:
    """product + addend in f64, rounded to odd: rounding the result once more to f32 or narrower is then exact."""
    addend = np.asarray(addend, F8)
    total = np.asarray(product + addend)
    back = total - product
    error = (product - (total - back)) + (addend - back)
    inexact = (error != 0) & np.isfinite(total)
    even = (total.view(U8) & U8(1)) == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    return np.where(inexact & even, np.nextafter(total, toward), total)


def fma32(a: Any, b: Any, c: Any) -> Any:
    """a * b + c of f32, rounded once to nearest even. The f64 product is exact; sums that two roundings might spoil
    (ties of f32, subnormals) are rounded to odd first."""
    product = np.multiply(a, b, dtype=F8)
    total = np.asarray(product + c)
    result = total.astype(F4)
    doubtful = ((total.view(U8) & _LOW29) == _HALF29) | ((np.abs(total) < _TINY32) & (total != 0))
    if doubtful.any():
        if result.ndim == 0:
            return odd_sum(np.asarray(product), c).astype(F4)[()]
        terms = np.broadcast_to(product, total.shape)[doubtful], np.broadcast_to(c, total.shape)[doubtful]
        result[doubtful] = odd_sum(*terms).astype(F4)
    return result if result.ndim else result[()]


def rounded_integer(x: Array, kept: int, mode: str) -> Array:
    """Integers (signed or not, of any width) as f64 values of `kept` significant bits (53 at most), rounded once."""
    negative = x < 0 if x.dtype.kind == "i" else np.zeros(x.shape, np.bool_)
    size = np.where(negative, U8(0) - x.astype(U8), x.astype(U8))
    high, low = (size >> U8(32)).astype(F8), (size & U8(0xFFFF_FFFF)).astype(F8)
    length = np.where(high > 0, np.frexp(high)[1] + 32, np.frexp(low)[1])
    dropped = np.maximum(length - kept, 0).astype(U8)
    whole = size >> dropped
    rest = size - (whole << dropped)
    half = np.where(dropped > 0, U8(1) << (np.maximum(dropped, U8(1)) - U8(1)), U8(0))
    if mode == "rn":
        up = (rest > half) | ((rest == half) & (rest > 0) & (whole & U8(1) != 0))
    else:
        up = (rest > 0) & (~negative if mode == "rp" else negative & (mode == "rm"))
    value = np.ldexp((whole + up).astype(F8), dropped.astype(np.int64))
    return np.where(negative, -value, value)


def odd32(x: Array) -> Array:
    """f64 values as f32 rounded to odd, whose rounding to less than 23 bits is that of the f64; f32 as they are."""
    if x.dtype != F8:
        return x
    near = x.astype(F4)
    wide = near.astype(F8)
    even = (near.view(U4) & U4(1)) == 0
    toward = np.where(wide > x, F4(-np.inf), F4(np.inf))
    return np.where((wide != x) & even & np.isfinite(near), np.nextafter(near, toward), near)


def directed32(exact: Array, mode: str) -> Array:
    """f64 values (rounded to odd or exact) to f32 toward zero, minus or plus infinity."""
    exact = np.asarray(exact, F8)
    near = exact.astype(F4)
    wide = near.astype(F8)
    down = (wide > exact) & ((exact > 0) if mode == "rz" else (mode == "rm"))
    up = (wide < exact) & ((exact < 0) if mode == "rz" else (mode == "rp"))
    lower = np.where(down, np.nextafter(near, F4(-np.inf)), near)
    return np.where(up, np.nextafter(lower, F4(np.inf)), lower)


def bf16_bits(x: Any, mode: str = "rn", satfinite: bool = False) -> Array:
    """f32 to bf16 codes (uint16). NaN becomes 0x7FFF."""
    x = np.asarray(x, F4)
    bits = x.view(U4)
    if mode == "rn":
        code = (bits + U4(0x7FFF) + ((bits >> U4(16)) & U4(1))) >> U4(16)
    else:
        away = (mode == "rp") & (bits >> U4(31) == 0) | (mode == "rm") & (bits >> U4(31) == 1)
        code = (bits >> U4(16)) + (away & ((bits & U4(0xFFFF)) != 0)).astype(U4)
    result = code.astype(U2)
    if satfinite:
        over = (result & U2(0x7FFF)) == U2(0x7F80)
        result = np.where(over, (result & U2(0x8000)) | U2(0x7F7F), result)
    bad = x != x
    return np.where(bad, NAN16, result) if bad.any() else result


def bf16_value(bits: Array) -> Array:
    """bf16 codes to f32."""
    return (np.asarray(bits).astype(U4) << U4(16)).view(F4)


def f16_bits(x: Any, mode: str = "rn", satfinite: bool = False) -> Array:
    """f32 (or f64) to f16 codes (uint16). NaN becomes 0x7FFF."""
    x = np.asarray(x)
    near = x.astype(F2)
    if mode != "rn":
        wide = near.astype(F8)
        exact = x.astype(F8)
        down = (wide > exact) & ((exact > 0) if mode == "rz" else (mode == "rm"))
        up = (wide < exact) & ((exact < 0) if mode == "rz" else (mode == "rp"))
        near = np.where(down, np.nextafter(near, F2(-np.inf)), near)
        near = np.where(up, np.nextafter(near, F2(np.inf)), near)
    if satfinite:
        near = np.where(np.isinf(near), np.copysign(F2(65504), near), near)
    bad = x != x
    bits = near.view(U2)
    return np.where(bad, NAN16, bits) if bad.any() else bits


def _numbers(a: Array, b: Array, result: Array) -> Array:
    """The other operand where one is NaN: numpy's fmin and fmax miss a signaling NaN in some places of an array."""
    return np.where(a != a, b, np.where(b != b, a, result))


def nan_min32(a: Any, b: Any, propagate: bool = False) -> Array:
    """PTX min.f32: the operand that is no NaN (NaN if `propagate`), and -0 below +0."""
    a, b = np.asarray(a), np.asarray(b)
    result = np.minimum(a, b) if propagate else _numbers(a, b, np.minimum(a, b))
    return np.where((a == b) & np.signbit(a), a, result)


def nan_max32(a: Any, b: Any, propagate: bool = False) -> Array:
    """PTX max.f32."""
    a, b = np.asarray(a), np.asarray(b)
    result = np.maximum(a, b) if propagate else _numbers(a, b, np.maximum(a, b))
    return np.where((a == b) & np.signbit(b), a, result)
