"""cvt between integers and floats of 16 to 64 bits (PTX ISA 9.7.9.21)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fp4emu.builder import Builder
from fp4emu.instruction import Instruction, Operand, Register
from fp4emu.isa.integer import bits_of
from fp4emu.registry import instruction
from fp4emu.representation import SIGNED, UNSIGNED, width_of
from fp4emu.values import (
    F2,
    F4,
    F8,
    U2,
    U4,
    U8,
    Array,
    bf16_bits,
    bf16_value,
    directed32,
    f16_bits,
    odd32,
    rounded_integer,
)  # fmt: skip

SECTION = "9.7.9.21"
INTS = "u8|u16|u32|u64|s8|s16|s32|s64"
FP = "f16|f32|f64|bf16"
INT_ROUND = "round=rni|rzi|rmi|rpi"


def _register_bits(e: Builder, operand: Operand) -> int:
    if not isinstance(operand, Register):
        return 64
    return width_of(operand.type)


def resize(e: Builder, text: str, kind: str, source: int, target: int, signed: bool) -> str:
    """Unsigned text of `source` bits as unsigned text of `target` bits, sign-extended if `signed`."""
    if source == target:
        return text
    mask = (1 << target) - 1
    if target < source:
        return f"({text} & {mask})" if kind == "U" else f"{text}.astype({UNSIGNED[target]})"
    if not signed:
        return text if kind == "U" else f"{text}.astype({UNSIGNED[target]})"
    sign = 1 << (source - 1)
    if kind == "U":
        return f"((({text} ^ {sign}) - {sign}) & {mask})"
    narrow = "np.int8" if source == 8 else SIGNED[source]
    return f"{text}.view({narrow}).astype({SIGNED[target]}).view({UNSIGNED[target]})"


@instruction(
    "cvt", f"[sat] to=u8|u16|u32|u64|s8|s16|s32|s64 from={INTS}", style="emit", operands="1", section=SECTION, outputs=1
)
def integer_to_integer(e: Builder, ins: Instruction) -> None:
    """The source is truncated to its type, extended by its sign, and truncated (or saturated) to the destination's
    type."""
    to, frm = ins.mod("to"), ins.mod("from")
    source_bits, target_bits = bits_of(frm), bits_of(to)
    held = _register_bits(e, ins.operands[1]) if isinstance(ins.operands[1], Register) else source_bits
    text, kind = e.source(ins.operands[1], "u", held)
    text = e.assign(resize(e, text, kind, held, source_bits, False))
    if ins.has("sat"):
        array = text if kind != "U" else f"vector({text}, {UNSIGNED[source_bits]})"
        text = e.assign(f"{e.constant(saturated)}({array}, {frm!r}, {to!r})")
        if kind == "U":
            text = e.assign(f"int({text}[0, 0])")
    else:
        text = e.assign(resize(e, text, kind, source_bits, target_bits, frm[0] == "s"))
    out = _register_bits(e, ins.operands[0])
    e.set(ins.operands[0], kind, "u", resize(e, text, kind, target_bits, out, to[0] == "s"), out)


def saturated(x: Array, frm: str, to: str) -> Array:
    """Integers of one type clamped to another's range."""
    wide = x.view(f"i{x.dtype.itemsize}").astype(object) if frm[0] == "s" else x.astype(object)
    bits = bits_of(to)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if to[0] == "s" else (0, (1 << bits) - 1)
    clipped = np.vectorize(lambda v: min(max(v, low), high) & ((1 << bits) - 1), otypes=[object])(wide)
    return clipped.astype(f"u{bits // 8}")


def _float_source(e: Builder, operand: Operand, kind_name: str) -> tuple[str, str]:
    """A float source as an array (or numpy scalar) of its own precision, bf16 as f32."""
    if kind_name == "bf16":
        text, kind = e.source(operand, "u", 16)
        return e.assign(f"{e.constant(_bf16_scalar_or_array)}({text})"), kind
    bits = bits_of(kind_name)
    return e.source(operand, "f", bits)


def _bf16_scalar_or_array(bits: Any) -> Any:
    return bf16_value(np.asarray(bits, U2))[()] if not isinstance(bits, np.ndarray) else bf16_value(bits)


_INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@instruction(
    "cvt", f"{INT_ROUND} [ftz] [sat] to={INTS} from={FP}", style="emit", operands="1", section=SECTION, outputs=1
)
def float_to_integer(e: Builder, ins: Instruction) -> None:
    """Out of range values clamp to the destination's range; a NaN gives 0, but the highest bit alone where the source
    or the destination has 64 bits."""
    to = ins.mod("to")
    text, kind = _float_source(e, ins.operands[1], ins.mod("from"))
    if ins.has("ftz"):
        text = e.assign(f"flush({text})")
    nan = 1 << (bits_of(to) - 1) if ins.mod("from") == "f64" or bits_of(to) == 64 else 0
    result = e.assign(f"{e.constant(_to_integer)}({text}, {ins.mod('round')!r}, {to!r}, {nan})")
    if kind == "U":
        result = e.assign(f"int({result}[()])")
    bits, out = bits_of(to), _register_bits(e, ins.operands[0])
    e.set(ins.operands[0], kind, "u", resize(e, result, kind, bits, out, to[0] == "s"), out)


def _to_integer(x: Any, mode: str, to: str, nan: int) -> Array:
    whole = _INTEGRAL[mode](np.asarray(x).astype(F8))
    bits = bits_of(to)
    signed = to[0] == "s"
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1)) if signed else (0.0, 2.0**bits)
    over, under = whole >= high, whole < low
    safe = np.where(over | under | (whole != whole), 0.0, whole)
    kind = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    top = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    result = np.where(over, kind.type(top), np.where(under, kind.type(int(low)), safe.astype(kind)))
    codes = result.view(f"u{bits // 8}")
    return np.where(whole == whole, codes, codes.dtype.type(nan)) if nan else codes


@instruction(
    "cvt", f"round=rn|rz|rm|rp [ftz] [sat] to={FP} from={INTS}", style="emit", operands="1", section=SECTION, outputs=1
)
def integer_to_float(e: Builder, ins: Instruction) -> None:
    to, frm = ins.mod("to"), ins.mod("from")
    bits = bits_of(frm)
    held = _register_bits(e, ins.operands[1]) if isinstance(ins.operands[1], Register) else bits
    text, kind = e.source(ins.operands[1], "u", held)
    text = e.assign(resize(e, text, kind, held, bits, False))
    array = f"vector({text}, {UNSIGNED[bits]})" if kind == "U" else text
    result = e.assign(f"{e.constant(_from_integer)}({array}, {frm!r}, {to!r}, {ins.mod('round')!r})")
    if ins.has("sat"):
        result = e.assign(f"saturate({result})")
    _put_float(e, ins.operands[0], result, kind, to)


def _from_integer(x: Array, frm: str, to: str, mode: str) -> Array:
    typed = x.view(f"i{x.dtype.itemsize}") if frm[0] == "s" else x
    if to == "f32" and mode == "rn":
        return typed.astype(F4)
    if to == "f64" and mode == "rn":
        return typed.astype(F8)
    value = rounded_integer(typed, _SIGNIFICANT[to], mode)
    if to in ("f32", "f64"):
        return value.astype(F4 if to == "f32" else F8)
    return f16_bits(value, mode).view(F2) if to == "f16" else bf16_bits(value.astype(F4))


_SIGNIFICANT = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}


def _put_float(e: Builder, operand: Operand, text: str, kind: str, to: str) -> None:
    """Stores a float result (bf16: its codes) that a helper computed on arrays."""
    bits = 16 if to == "bf16" else bits_of(to)
    rep = "u" if to == "bf16" else "f"
    if kind == "U":
        text = f"int({text}[0, 0])" if rep == "u" else f"{text}[0, 0]"
    e.set(operand, kind, rep, text, bits)


@instruction(
    "cvt",
    f"[round=rn|rz|rm|rp|rna|rni|rzi|rmi|rpi] [ftz] [relu] [satfinite] [sat] to={FP} from={FP}",
    "round=rn|rz|rna [relu] [satfinite] to=tf32 from=f32",
    style="emit",
    operands="1",
    section=SECTION,
    outputs=1,
)
def float_to_float(e: Builder, ins: Instruction) -> None:
    to, frm, mode = ins.mod("to"), ins.mod("from"), ins.mod("round")
    text, kind = _float_source(e, ins.operands[1], frm)
    if ("f64" in (to, frm) or (to, frm) == ("f32", "bf16")) and not ins.has("sat"):
        codes, _ = e.source(ins.operands[1], "u", _WIDTHS[frm])
        array = f"np.array([[{text}]])" if kind == "U" else text
        number = f"vector({codes}, {UNSIGNED[_WIDTHS[frm]]})" if kind == "U" else codes
        options = (mode, ins.has("relu"), ins.has("satfinite"), ins.has("ftz"))
        result = e.assign(f"{e.constant(_with_payload)}({array}, {number}, {frm!r}, {to!r}, {options!r})")
        e.set(ins.operands[0], kind, "u", f"int({result}[0, 0])" if kind == "U" else result, _WIDTHS[to])
        return
    if ins.has("ftz") and frm == "f32":
        text = e.assign(f"flush({text})")
    array = f"np.array([[{text}]])" if kind == "U" else text
    options = (mode, ins.has("relu"), ins.has("satfinite"))
    result = e.assign(f"{e.constant(_float)}({array}, {to!r}, {options!r})")
    if ins.has("sat"):
        result = e.assign(f"saturate({result})")
    if ins.has("ftz") and to == "f32":
        result = e.assign(f"flush({result})")
    if to == "tf32":
        e.set(ins.operands[0], kind, "u", f"int({result}[0, 0])" if kind == "U" else result, 32)
        return
    _put_float(e, ins.operands[0], result, kind, to)


_WIDTHS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}
_MANTISSAS = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}


def _with_payload(x: Array, codes: Array, frm: str, to: str, options: tuple[str, bool, bool, bool]) -> Array:
    """A conversion in which a NaN keeps its sign and the upper bits of its payload: from and to f64, made quiet, and
    from bf16 to f32."""
    mode, relu, satfinite, ftz = options
    if ftz and frm == "f32":
        x = np.where(np.abs(x) < 2.0**-126, np.copysign(F4(0), x), x)
    result = _float(x, to, (mode, relu, satfinite))
    if ftz and to == "f32":
        result = np.where(np.abs(result) < 2.0**-126, np.copysign(F4(0), result), result)
    kind = np.dtype(f"u{_WIDTHS[to] // 8}").type
    bits, bad = result.view(kind), x != x
    if relu or not bad.any():
        return bits
    moved, wide = _MANTISSAS[to] - _MANTISSAS[frm], codes.astype(U8)
    payload = wide & U8((1 << _MANTISSAS[frm]) - 1)
    payload = payload << U8(moved) if moved > 0 else payload >> U8(-moved)
    sign = (wide >> U8(_WIDTHS[frm] - 1)) << U8(_WIDTHS[to] - 1)
    quiet = 0 if frm == "bf16" and to == "f32" else 1 << (_MANTISSAS[to] - 1)
    infinity = ((1 << (_WIDTHS[to] - 1)) - 1) >> _MANTISSAS[to] << _MANTISSAS[to]
    return np.where(bad, (sign | U8(infinity | quiet) | payload).astype(kind), bits)


def _float(x: Array, to: str, options: tuple[str, bool, bool]) -> Array:
    mode, relu, satfinite = options
    if mode in _INTEGRAL:
        x = _INTEGRAL[mode](x).astype(x.dtype)
        mode = "rn"
    mode = mode or "rn"
    if relu:
        x = np.where(x > 0, x, np.where(x == x, x.dtype.type(0), x))
    if to == "f16":
        return f16_bits(x, mode, satfinite).view(F2)
    if to == "bf16":
        # The f64 goes by way of an f32 rounded to odd, or with the same direction: either rounds once in effect.
        return bf16_bits(odd32(x) if mode == "rn" else directed32(x, mode) if x.dtype == F8 else x, mode, satfinite)
    if to == "f64":
        return x.astype(F8)
    if to == "tf32":
        return tf32_bits(x, mode, satfinite)
    return x.astype(F4) if mode == "rn" or x.dtype != F8 else directed32(x, mode)


def tf32_bits(x: Array, mode: str, satfinite: bool) -> Array:
    """f32 to tf32 (13 low bits zero): rn to even, rna ties away from zero, rz."""
    bits = x.astype(F4).view(U4)
    if mode == "rna":
        code = (bits + U4(0x1000)) & U4(0xFFFF_E000)
    elif mode == "rn":
        code = (bits + U4(0xFFF) + ((bits >> U4(13)) & U4(1))) & U4(0xFFFF_E000)
    else:
        code = bits & U4(0xFFFF_E000)
    if mode == "rna":  # a NaN is rounded like a number, an H100 says: one with a small payload becomes infinite
        return np.where((bits & U4(0x7FFF_FFFF)) >= U4(0x7FFF_F000), bits & U4(0xFFFF_E000), code)
    if satfinite:
        over = (code & U4(0x7FFF_FFFF)) >= U4(0x7F80_0000)
        code = np.where(over, (code & U4(0x8000_0000)) | U4(0x7F7F_E000), code)
    return np.where(x == x, code, U4(0x7FFF_E000))
