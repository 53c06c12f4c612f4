"""Arithmetic of f64 (PTX ISA 9.7.3), rounded to nearest even.

A result that is NaN is the first source that is one, made quiet, as an H100 has it; without such a source it is the
negative quiet NaN.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from fp4emu.instruction import Instruction
from fp4emu.registry import instruction
from fp4emu.values import F8, U8, Array

_QUIET, _DEFAULT = U8(1 << 51), U8(0xFFF8_0000_0000_0000)
_SIGN = U8(1 << 63)
_TINY = 2.0**-1022


def _bits(result: Array, *sources: Array) -> Array:
    """The bits of a result, those of a NaN by its sources."""
    bits, bad = result.view(U8), result != result
    if not bad.any():
        return bits
    chosen: Array = np.asarray(_DEFAULT)
    for source in reversed(sources):
        value = source.view(F8)
        chosen = np.where(value != value, source | _QUIET, chosen)
    return np.where(bad, chosen, bits)


@instruction("add", "[round=rn] type=f64", style="lane", section="9.7.3.3", outputs=1)
def add(ins: Instruction, a: Array, b: Array) -> Array:
    return _bits(a.view(F8) + b.view(F8), a, b)


@instruction("sub", "[round=rn] type=f64", style="lane", section="9.7.3.4", outputs=1)
def sub(ins: Instruction, a: Array, b: Array) -> Array:
    return _bits(a.view(F8) - b.view(F8), a, b)


@instruction("mul", "[round=rn] type=f64", style="lane", section="9.7.3.5", outputs=1)
def mul(ins: Instruction, a: Array, b: Array) -> Array:
    return _bits(a.view(F8) * b.view(F8), a, b)


@instruction("div", "round=rn type=f64", style="lane", section="9.7.3.8", outputs=1)
def div(ins: Instruction, a: Array, b: Array) -> Array:
    return _bits(a.view(F8) / b.view(F8), a, b)


@instruction("fma", "rn type=f64", style="lane", section="9.7.3.6", outputs=1)
def fma(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    """Exact by rational arithmetic, one lane at a time: f64 is rare in these kernels."""
    x, y, z = (array.view(F8) for array in np.broadcast_arrays(a, b, c))
    result = np.empty(x.shape, F8)
    for index in np.ndindex(x.shape):
        p, q, r = float(x[index]), float(y[index]), float(z[index])
        if not (np.isfinite(p) and np.isfinite(q)):
            result[index] = p * q + r
            continue
        if not np.isfinite(r):  # a product that leaves the range is none of it
            result[index] = r
            continue
        exact = Fraction(p) * Fraction(q) + Fraction(r)
        try:
            result[index] = float(exact) if exact else p * q + r
        except OverflowError:
            result[index] = np.inf if exact > 0 else -np.inf
    return _bits(result, a, b, c)


@instruction("rcp", "round=rn type=f64", style="lane", section="9.7.3.13", outputs=1)
def rcp(ins: Instruction, a: Array) -> Array:
    return _bits(1.0 / a.view(F8), a)


@instruction("rcp", "approx ftz type=f64", style="lane", section="9.7.3.14", outputs=1)
def rcp_approx(ins: Instruction, a: Array) -> Array:
    """The upper words of the source and of the result alone; subnormals are zeros."""
    upper = U8(0xFFFF_FFFF_0000_0000)
    source = _flushed((a & upper).view(F8))
    return _flushed((_bits(1.0 / source, a) & upper).view(F8)).view(U8)


def _flushed(x: Array) -> Array:
    return np.where(np.abs(x) < _TINY, np.copysign(0.0, x), x)


@instruction("sqrt", "round=rn type=f64", style="lane", section="9.7.3.15", outputs=1)
def sqrt(ins: Instruction, a: Array) -> Array:
    return _bits(np.sqrt(a.view(F8)), a)


@instruction("abs", "type=f64", style="lane", section="9.7.3.9", outputs=1)
def absolute(ins: Instruction, a: Array) -> Array:
    """A NaN keeps its sign."""
    return np.where(a.view(F8) == a.view(F8), a & ~_SIGN, a | _QUIET)


@instruction("neg", "type=f64", style="lane", section="9.7.3.10", outputs=1)
def neg(ins: Instruction, a: Array) -> Array:
    """A NaN keeps its sign."""
    return np.where(a.view(F8) == a.view(F8), a ^ _SIGN, a | _QUIET)
