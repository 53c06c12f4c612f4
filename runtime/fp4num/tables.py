"""What codes stand for: the value of every code of a format, as float32, exactly."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fp4num.elements import ElementFormat, element

Floats: TypeAlias = NDArray[np.float32]


def decoded(codes: NDArray[Any], e: ElementFormat) -> Floats:
    """The values of an array of integers that are codes. Bits above the format's are ignored."""
    if e.bits <= 8:
        return np.take(decode_table(e.name), codes & ((1 << e.bits) - 1))
    if e.name == "f16":
        return codes.astype(np.uint16).view(np.float16).astype(np.float32)
    if e.name == "bf16":
        return (codes.astype(np.uint32) << 16).view(np.float32)
    return codes.astype(np.uint32).view(np.float32)


@cache
def decode_table(name: str) -> Floats:
    """The value of every code of a format of at most 8 bits, indexed by code. Read only."""
    e = element(name)
    codes = np.arange(1 << e.bits, dtype=np.int64)
    if e.name == "e8m0":
        values = np.ldexp(1.0, codes - e.bias)
        values[0xFF] = np.nan
    else:
        m = e.mantissa_bits
        magnitude = codes & ((1 << (e.exponent_bits + m)) - 1)
        exponent, mantissa = magnitude >> m, magnitude & ((1 << m) - 1)
        normal = np.ldexp(1.0 + mantissa / (1 << m), exponent - e.bias)
        values = np.where(exponent == 0, np.ldexp(mantissa / (1 << m), 1 - e.bias), normal)
        if e.has_inf:
            values = np.where(magnitude == e.max_code + 1, np.inf, values)
        if e.has_nan:
            values = np.where(magnitude > e.max_code + (1 if e.has_inf else 0), np.nan, values)
        if e.signed:
            values = np.where(codes >> (e.bits - 1), -values, values)
    table = values.astype(np.float32)
    table.flags.writeable = False
    return table
