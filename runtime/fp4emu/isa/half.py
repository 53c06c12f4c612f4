"""Arithmetic of f16 and bf16, single and packed in pairs (PTX ISA 9.7.4).

Each operation is computed wider than needed (f32 for sums and products, f64 rounded to odd for fma) and rounded once:
exact to nearest even.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fp4emu.instruction import Instruction
from fp4emu.registry import instruction
from fp4emu.values import (
    F2,
    F4,
    F8,
    NAN16,
    U2,
    U4,
    Array,
    bf16_bits,
    bf16_value,
    f16_bits,
    nan_max32,
    nan_min32,
    odd32,
    odd_sum,
    saturate,
)  # fmt: skip

HALF = "type=f16|f16x2|bf16|bf16x2"
F16 = "type=f16|f16x2"
SECTION = "9.7.4"
_TINY = np.float32(2.0**-14)


def widen(codes: Array, brain: bool) -> Array:
    """f16 or bf16 codes (uint16) as f32."""
    return bf16_value(codes) if brain else codes.view(F2).astype(F4)


def narrow(values: Array, brain: bool) -> Array:
    """f32 (or odd-rounded f64) values as codes, rounded to nearest even; a NaN is 0x7FFF."""
    if not brain:
        return f16_bits(values)
    if values.dtype == F8:
        # The f64 is rounded to odd: one more rounding to f32, to odd again, keeps the sticky bit for bf16.
        values = odd32(values)
    return bf16_bits(values)


def _apply(ins: Instruction, function: Callable[..., Any], *operands: Array) -> Array:
    """Applies a function of f32 arrays to each half."""
    kind = ins.mod("type")
    brain = kind.startswith("bf16")
    if not kind.endswith("x2"):
        return _finish(ins, function(*(_source(ins, widen(x, brain)) for x in operands)), brain)
    parts: list[Array] = []
    for shift in (0, 16):
        halves = [widen((x >> U4(shift)).astype(U2), brain) for x in operands]
        parts.append(_finish(ins, function(*(_source(ins, h) for h in halves)), brain).astype(U4))
    return parts[1] << U4(16) | parts[0]


def _source(ins: Instruction, x: Array) -> Array:
    return np.where(np.abs(x) < _TINY, np.copysign(F4(0), x), x) if ins.has("ftz") else x


def _finish(ins: Instruction, values: Array, brain: bool) -> Array:
    if ins.has("sat"):
        values = saturate(values)
    if ins.has("relu"):
        values = np.where(values == values, np.maximum(values, 0), values).astype(values.dtype)
    codes = narrow(values, brain)
    if ins.has("ftz"):
        codes = np.where((codes & U2(0x7C00)) == 0, codes & U2(0x8000), codes)
    return codes


@instruction(
    "add", f"[round=rn] [ftz] [sat] {F16}", "[round=rn] type=bf16|bf16x2", style="lane", section="9.7.4.1", outputs=1
)
def add(ins: Instruction, a: Array, b: Array) -> Array:
    return _apply(ins, np.add, a, b)


@instruction(
    "sub", f"[round=rn] [ftz] [sat] {F16}", "[round=rn] type=bf16|bf16x2", style="lane", section="9.7.4.2", outputs=1
)
def sub(ins: Instruction, a: Array, b: Array) -> Array:
    return _apply(ins, np.subtract, a, b)


@instruction(
    "mul", f"[round=rn] [ftz] [sat] {F16}", "[round=rn] type=bf16|bf16x2", style="lane", section="9.7.4.3", outputs=1
)
def mul(ins: Instruction, a: Array, b: Array) -> Array:
    return _apply(ins, lambda x, y: np.multiply(x, y, dtype=F8), a, b)


@instruction(
    "fma", f"rn [ftz] [sat] [relu] {F16}", "rn [relu] type=bf16|bf16x2", style="lane", section="9.7.4.4", outputs=1
)
def fma(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    return _apply(ins, lambda x, y, z: odd_sum(np.multiply(x, y, dtype=F8), z), a, b, c)


def _signs(ins: Instruction, a: Array, change: Callable[[Array], Array]) -> Array:
    """Changes the sign of each half; a NaN becomes 0x7FFF."""
    kind = ins.mod("type")
    brain = kind.startswith("bf16")

    def one(codes: Array) -> Array:
        values = _source(ins, widen(codes, brain))
        return np.where(values == values, change(narrow(values, brain)), NAN16)

    if not kind.endswith("x2"):
        return one(a)
    return one((a >> U4(16)).astype(U2)).astype(U4) << U4(16) | one(a.astype(U2)).astype(U4)


@instruction("neg", f"[ftz] {HALF}", style="lane", section="9.7.4.5", outputs=1)
def neg(ins: Instruction, a: Array) -> Array:
    return _signs(ins, a, lambda codes: codes ^ U2(0x8000))


@instruction("abs", f"[ftz] {HALF}", style="lane", section="9.7.4.6", outputs=1)
def absolute(ins: Instruction, a: Array) -> Array:
    return _signs(ins, a, lambda codes: codes & U2(0x7FFF))


def _extreme(ins: Instruction, function: Callable[..., Array], a: Array, b: Array) -> Array:
    def combine(x: Array, y: Array) -> Array:
        if ins.has("xorsign"):
            sign = np.signbit(x) ^ np.signbit(y)
            return np.copysign(function(np.abs(x), np.abs(y), ins.has("NaN")), np.where(sign, F4(-1), F4(1)))
        return function(x, y, ins.has("NaN"))

    return _apply(ins, combine, a, b)


@instruction("min", f"[ftz] [NaN] [xorsign] [abs] {HALF}", style="lane", section="9.7.4.7", outputs=1)
def minimum(ins: Instruction, a: Array, b: Array) -> Array:
    return _extreme(ins, nan_min32, a, b)


@instruction("max", f"[ftz] [NaN] [xorsign] [abs] {HALF}", style="lane", section="9.7.4.8", outputs=1)
def maximum(ins: Instruction, a: Array, b: Array) -> Array:
    return _extreme(ins, nan_max32, a, b)


@instruction("tanh", f"approx {HALF}", style="lane", section="9.7.4.9", outputs=1)
def tanh(ins: Instruction, a: Array) -> Array:
    return _apply(ins, lambda x: np.tanh(x.astype(F8)), a)


@instruction("ex2", f"approx {F16}", "approx ftz type=bf16|bf16x2", style="lane", section="9.7.4.10", outputs=1)
def ex2(ins: Instruction, a: Array) -> Array:
    """.ftz of bf16 flushes f32's subnormals, which bf16 shares."""
    kind = ins.mod("type")
    if not kind.startswith("bf16"):
        return _apply(ins, lambda x: np.exp2(x.astype(F8)), a)
    return _ex2_brain(a, kind.endswith("x2"))


def _ex2_brain(a: Array, packed: bool) -> Array:
    def flushed(codes: Array) -> Array:
        result = narrow(np.exp2(widen(codes, True).astype(F8)), True)
        return np.where((result & U2(0x7F80)) == 0, result & U2(0x8000), result)

    if not packed:
        return flushed(a)
    return flushed((a >> U4(16)).astype(U2)).astype(U4) << U4(16) | flushed(a.astype(U2)).astype(U4)
