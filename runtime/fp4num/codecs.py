"""Element codecs: float32 to codes and back, vectorized and exact.

`encode` is what PTX `cvt.rn.satfinite` does: round to nearest, ties to the even code, finite overflow and infinities to
the largest finite value, a NaN to the format's canonical NaN (or to the positive maximum where it has none). bf16 and
f16 follow `cvt.rn.bf16.f32` and `cvt.rn.f16.f32`, which keep infinities. PTX ISA 9.7.9.21, `cvt`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4num.dtypes import numbers, raw_codes, refuse_masked
from fp4num.elements import ElementFormat, element
from fp4num.errors import DataError
from fp4num.tables import Floats, decode_table, decoded

Codes: TypeAlias = "NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32]"
Rounding = Literal["nearest", "stochastic", "toward_zero", "up"]

_MAGNITUDE = 0x7FFFFFFF
_INFINITY = 0x7F800000
#: Values handled at once: the temporaries of one chunk stay in cache.
_CHUNK = 1 << 16
#: Up to this many values a search in a table costs less than the dozen array operations it saves.
_FEW = 1 << 11


def encode(
    x: ArrayLike,
    to: str | ElementFormat,
    rounding: Rounding = "nearest",
    random: NDArray[np.uint8] | None = None,
) -> Codes:
    """Codes of float32 values, one a byte (two for bf16 and f16), in the shape of `x`.

    `rounding="stochastic"` needs `random`, one byte r for each value: the magnitude is rounded up when the dropped
    fraction of a step plus r/256 reaches 1 (PTX `cvt.rs`). `e8m0` takes "toward_zero" and "up", which are
    `cvt.rz` and `cvt.rp` to `.ue8m0x2`, and "nearest" with ties up; its sign is ignored. Raises `DataError` for another
    rounding, and for an array of integers (`fp4num.dtypes`).
    """
    e = element(to)
    values = np.asarray(numbers(x, "x"), dtype=np.float32)
    if rounding not in _roundings(e):
        raise DataError(f"{e.name} does not round {rounding!r}; it takes {', '.join(map(repr, _roundings(e)))}")
    if rounding == "stochastic":
        if random is None or random.shape != values.shape or random.dtype != np.uint8:
            raise DataError(f"stochastic rounding needs `random`: one uint8 for each value, shape {values.shape}")
        noise = np.ascontiguousarray(random).reshape(-1)
    else:
        noise = None
    flat = values.reshape(-1).view(np.uint32)
    if e.bits < 16 and rounding == "nearest" and flat.size <= _FEW and e.name != "e8m0":
        return _search(e, flat).reshape(values.shape)
    step = _encoder(e, rounding)
    out = np.empty(flat.shape, _code_type(e))
    for start in range(0, flat.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = step(flat[part], None if noise is None else noise[part])
    return out.reshape(values.shape)


def decode(codes: ArrayLike, of: str | ElementFormat) -> Floats:
    """The float32 values of codes, one a byte (two for bf16 and f16), exactly. Bits above the format's are ignored.

    An array whose dtype says what it holds (ml_dtypes' types, `fp4num.dtypes`) is taken for that element alone.
    """
    e = element(of)
    refuse_masked(codes, "codes")
    raw = np.asarray(codes)
    if raw.dtype.kind != "i":
        raw = raw_codes(raw, e.name)
    return decoded(raw, e)


def round_to(x: ArrayLike, to: str | ElementFormat) -> Floats:
    """`decode(encode(x, to), to)`: the values of `x` as the format holds them."""
    return decode(encode(x, to), to)


def _roundings(e: ElementFormat) -> tuple[str, ...]:
    if e.name == "e8m0":
        return ("nearest", "toward_zero", "up")
    return ("nearest", "stochastic") if e.bits <= 8 else ("nearest",)


def _code_type(e: ElementFormat) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if e.bits <= 8 else np.uint16 if e.bits == 16 else np.uint32


_Bits: TypeAlias = NDArray[np.uint32]
_Encoder: TypeAlias = Callable[[_Bits, "NDArray[np.uint8] | None"], NDArray[Any]]


def _encoder(e: ElementFormat, rounding: Rounding) -> _Encoder:
    if e.name == "e8m0":
        return lambda bits, _: _encode_e8m0(bits, rounding)
    if e.name == "f32":
        return lambda bits, _: bits
    if e.name == "bf16":
        return lambda bits, _: _encode_bf16(bits)
    if e.name == "f16":
        return lambda bits, _: _encode_f16(bits)
    if rounding == "stochastic":
        return lambda bits, noise: _finish(e, bits, _stochastic(e, bits, noise))
    return lambda bits, _: _finish(e, bits, _nearest(e, bits))


def _constants(e: ElementFormat) -> tuple[int, int, int]:
    """Bits of the largest value and of the smallest normal one as float32, and the mantissa bits that are dropped."""
    largest = int(np.float32(e.max).view(np.uint32))
    smallest_normal = (127 + 1 - e.bias) << 23
    return largest, smallest_normal, 23 - e.mantissa_bits


def _magnitude(e: ElementFormat, bits: _Bits, largest: int) -> _Bits:
    """The magnitude's bits, clamped to the largest finite value. Infinities and NaN compare above it as integers."""
    magnitude: _Bits = bits & np.uint32(_MAGNITUDE)
    np.minimum(magnitude, np.uint32(largest), out=magnitude)
    if not e.signed:
        magnitude[bits >> 31 != 0] = 0
    return magnitude


def _nearest(e: ElementFormat, bits: _Bits) -> _Bits:
    largest, smallest_normal, drop = _constants(e)
    magnitude = _magnitude(e, bits, largest)
    # Half a step less one, plus the lowest kept bit: the carry rounds to nearest, ties to even.
    code: _Bits = magnitude >> np.uint32(drop)
    code &= 1
    code += magnitude
    code += np.uint32((1 << (drop - 1)) - 1)
    code >>= drop
    code -= np.uint32((127 - e.bias) << e.mantissa_bits)
    subnormal = magnitude < smallest_normal
    if subnormal.any():
        # Adding a power of two whose last place is the format's smallest step rounds to that step in the f32 adder.
        offset = np.float32(2.0 ** (23 + 1 - e.bias - e.mantissa_bits))
        shifted = (magnitude.view(np.float32) + offset).view(np.uint32) - offset.view(np.uint32)
        np.copyto(code, shifted, where=subnormal)
    return code


def _search(e: ElementFormat, bits: _Bits) -> NDArray[np.uint8]:
    """The codes of a few values: the place of their magnitudes among the thresholds, looked up."""
    thresholds, codes = _places(e.name)
    place = np.searchsorted(thresholds, bits & np.uint32(_MAGNITUDE), side="right")
    place += (bits >> np.uint32(31)).astype(np.intp) * (len(codes) // 2)
    return np.take(codes, place)


@cache
def _places(name: str) -> tuple[_Bits, NDArray[np.uint8]]:
    """The bits of the smallest float32 that rounds to code 1, 2, .. and to NaN; the codes of the places, both signs."""
    e = element(name)
    values = decode_table(name)[: e.max_code + 1].astype(np.float64)
    middle = ((values[:-1] + values[1:]) / 2).astype(np.float32).view(np.uint32)
    # A tie goes to the even code: up from an odd one.
    upward = middle + (np.arange(e.max_code, dtype=np.uint32) % 2 == 0)
    thresholds = np.append(upward, np.uint32(_INFINITY + 1))
    positive = np.append(np.arange(e.max_code + 1), e.nan_code)
    negative = positive | (1 << (e.bits - 1)) if e.signed else np.zeros_like(positive)
    negative[-1] = e.nan_code
    return thresholds, np.concatenate([positive, negative]).astype(np.uint8)


def _stochastic(e: ElementFormat, bits: _Bits, noise: NDArray[np.uint8] | None) -> _Bits:
    assert noise is not None  # checked by `encode`
    largest, smallest_normal, drop = _constants(e)
    magnitude = _magnitude(e, bits, largest)
    r = noise.astype(np.uint32)
    code = (magnitude + (r << (drop - 8))) >> drop
    code -= np.uint32((127 - e.bias) << e.mantissa_bits)
    # Below the smallest normal value count in 1/256 of a step: the product is exact, and what truncation drops r cannot
    # reach.
    scale = np.float32(2.0 ** (e.bias - 1 + e.mantissa_bits + 8))
    small = np.where(magnitude < smallest_normal, magnitude, np.uint32(0)).view(np.float32) * scale
    shifted = (small.astype(np.uint32) + r) >> 8
    code = np.where(magnitude < smallest_normal, shifted, code)
    return np.minimum(code, np.uint32(e.max_code))


def _finish(e: ElementFormat, bits: _Bits, code: _Bits) -> NDArray[np.uint8]:
    """Put the sign and the NaN code in."""
    if e.signed:
        code |= (bits >> 31) << np.uint32(e.bits - 1)
    out = code.astype(np.uint8)
    nan = (bits & _MAGNITUDE) > _INFINITY
    if nan.any():
        out[nan] = e.nan_code
    return out


def _encode_e8m0(bits: _Bits, rounding: Rounding) -> NDArray[np.uint8]:
    magnitude = bits & _MAGNITUDE
    if rounding == "toward_zero":
        code = magnitude >> 23
    elif rounding == "up":
        # Between 0 and 2^-127 (code 0) float32 is subnormal: only what is above 2^-127 goes up to code 1.
        code = np.where(magnitude <= 0x00400000, np.uint32(0), (magnitude + 0x7FFFFF) >> 23)
    else:
        # Ties, at 1.5 * 2^e, go up. 2^-127 is subnormal: its tie with 2^-126 lies at 1.5 * 2^-127.
        normal = np.maximum((magnitude + 0x400000) >> 23, np.uint32(1))
        code = np.where(magnitude < 0x00600000, np.uint32(0), normal)
    out = np.minimum(code, np.uint32(0xFE)).astype(np.uint8)
    out[magnitude > _INFINITY] = 0xFF
    return out


def _encode_bf16(bits: _Bits) -> NDArray[np.uint16]:
    out = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    out[(bits & _MAGNITUDE) > _INFINITY] = 0x7FFF
    return out


def _encode_f16(bits: _Bits) -> NDArray[np.uint16]:
    with np.errstate(over="ignore"):
        out = bits.view(np.float32).astype(np.float16).view(np.uint16)
    out[(bits & _MAGNITUDE) > _INFINITY] = 0x7FFF
    return out
