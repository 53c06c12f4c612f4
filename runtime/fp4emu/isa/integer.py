"""Integer arithmetic (PTX ISA 9.7.1, 9.7.2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fp4emu.builder import Builder
from fp4emu.instruction import Instruction
from fp4emu.registry import instruction
from fp4emu.representation import SIGNED, UNSIGNED, join
from fp4emu.values import Array

INTEGERS = "type=u16|u32|u64|s16|s32|s64"
SECTION = "9.7.1"


def bits_of(type_name: str) -> int:
    """Width of a PTX type such as "s32"."""
    return int(type_name.lstrip("busf"))


def lanewise(
    e: Builder,
    ins: Instruction,
    bits: int,
    rep: str,
    uniform: str,
    array: str,
    *,
    out: tuple[str, int] | None = None,
    sources: Any = None,
) -> None:
    """One result from templates over the sources: `uniform` for Python numbers, `array` as soon as one source is an
    array."""
    operands = ins.operands[1:] if sources is None else sources
    pairs = [e.source(operand, rep, bits) for operand in operands]
    kind = join(*(kind for _, kind in pairs))
    texts = [text for text, _ in pairs]
    result = (uniform if kind == "U" else array).format(*texts)
    out_rep, out_bits = out or (rep, bits)
    e.set(ins.operands[0], kind, out_rep, result, out_bits)


def _wrapped(e: Builder, ins: Instruction, operator: str) -> None:
    bits = bits_of(ins.mod("type"))
    mask = (1 << bits) - 1
    lanewise(e, ins, bits, "u", f"(({{0}} {operator} {{1}}) & {mask})", f"({{0}} {operator} {{1}})")


@instruction("add", INTEGERS, style="emit", operands="2", section="9.7.1.1", outputs=1)
def add(e: Builder, ins: Instruction) -> None:
    _wrapped(e, ins, "+")


@instruction("sub", INTEGERS, style="emit", operands="2", section="9.7.1.2", outputs=1)
def sub(e: Builder, ins: Instruction) -> None:
    _wrapped(e, ins, "-")


@instruction("add", "sat type=s32", style="emit", operands="2", section="9.7.1.1", outputs=1)
def add_sat(e: Builder, ins: Instruction) -> None:
    low, high = -(1 << 31), (1 << 31) - 1
    lanewise(
        e,
        ins,
        32,
        "s",
        f"min(max({{0}} + {{1}}, {low}), {high}) & 0xFFFFFFFF",
        f"np.clip(np.add({{0}}, {{1}}, dtype=S8), {low}, {high}).astype(S4).view(U4)",
        out=("u", 32),
    )


@instruction("sub", "sat type=s32", style="emit", operands="2", section="9.7.1.2", outputs=1)
def sub_sat(e: Builder, ins: Instruction) -> None:
    low, high = -(1 << 31), (1 << 31) - 1
    lanewise(
        e,
        ins,
        32,
        "s",
        f"min(max({{0}} - {{1}}, {low}), {high}) & 0xFFFFFFFF",
        f"np.clip(np.subtract({{0}}, {{1}}, dtype=S8), {low}, {high}).astype(S4).view(U4)",
        out=("u", 32),
    )


def _product(e: Builder, ins: Instruction, operand_count: int) -> tuple[list[str], str, int, str, str]:
    """(texts of a and b, kind, bits, expression of the part of a*b that `mul`/`mad` keep as unsigned, ...)."""
    kind_name = ins.mod("type")
    bits, signed = bits_of(kind_name), kind_name[0] == "s"
    part = ins.mod("part")
    rep = "s" if signed and part != "lo" else "u"
    pairs = [e.source(operand, rep, bits) for operand in ins.operands[1:3]]
    kind = join(*(k for _, k in pairs))
    a, b = (text for text, _ in pairs)
    wide = 2 * bits
    if kind == "U":
        product = f"({a} * {b})"
        text = {
            "lo": f"({product} & {(1 << bits) - 1})",
            "hi": f"(({product} >> {bits}) & {(1 << bits) - 1})",
            "wide": f"({product} & {(1 << wide) - 1})",
        }[part]
    elif part == "lo":
        text = f"({a} * {b})"
    elif bits == 64:
        if part == "wide":
            e.fail("mul.wide has no 64-bit operands")
        text = f"{e.constant(high_product)}({a}, {b}, {signed})"
    else:
        dtype = (SIGNED if signed else UNSIGNED)[wide]
        full = f"np.multiply({a}, {b}, dtype={dtype})"
        text = f"{full}.view({UNSIGNED[wide]})" if part == "wide" else f"({full} >> {bits}).astype({UNSIGNED[bits]})"
    return [a, b], kind, bits, text, part


def high_product(a: Any, b: Any, signed: bool) -> Array:
    """The high 64 bits of a 64 x 64-bit product."""
    x, y = np.broadcast_arrays(np.asarray(a), np.asarray(b))
    flat = [(int(p) * int(q) >> 64) & 0xFFFF_FFFF_FFFF_FFFF for p, q in zip(x.ravel(), y.ravel(), strict=True)]
    return np.array(flat, np.uint64).reshape(x.shape)


@instruction("mul", f"part=lo|hi|wide {INTEGERS}", style="emit", operands="2", section="9.7.1.3", outputs=1)
def mul(e: Builder, ins: Instruction) -> None:
    _, kind, bits, text, part = _product(e, ins, 2)
    e.set(ins.operands[0], kind, "u", text, 2 * bits if part == "wide" else bits)


@instruction("mad", f"part=lo|hi|wide {INTEGERS}", style="emit", operands="3", section="9.7.1.4", outputs=1)
def mad(e: Builder, ins: Instruction) -> None:
    _, kind, bits, text, part = _product(e, ins, 3)
    out = 2 * bits if part == "wide" else bits
    c, c_kind = e.source(ins.operands[3], "u", out)
    if kind == "U" and c_kind == "U":
        text = f"(({text} + {c}) & {(1 << out) - 1})"
    else:
        text = f"({text} + {c})"
    e.set(ins.operands[0], join(kind, c_kind), "u", text, out)


@instruction("mul24", "part=lo type=u32|s32", style="emit", operands="2", section="9.7.1.5", outputs=1)
def mul24(e: Builder, ins: Instruction) -> None:
    if ins.mod("type") == "u32":
        lanewise(
            e,
            ins,
            32,
            "u",
            "((({0} & 0xFFFFFF) * ({1} & 0xFFFFFF)) & 0xFFFFFFFF)",
            "(({0} & U4(0xFFFFFF)) * ({1} & U4(0xFFFFFF)))",
        )
    else:
        signed = "(((({{{0}}} & 0xFFFFFF) ^ 0x800000) - 0x800000)"
        text = "((" + signed.format(0) + ") * " + signed.format(1) + ")) & 0xFFFFFFFF)"
        lanewise(e, ins, 32, "u", text, f"{e.constant(_mul24)}({{0}}, {{1}})")


def _mul24(a: Any, b: Any) -> Array:
    def extend(x: Any) -> Array:
        return (np.asarray(x).astype(np.uint32) << np.uint32(8)).view(np.int32) >> np.int32(8)

    return (extend(a).astype(np.int64) * extend(b)).astype(np.uint32)


def divide(a: Array, b: Array) -> Array:
    """Quotient rounded toward zero; all ones for a zero divisor, as the hardware gives."""
    zero = b == 0
    safe = np.where(zero, b.dtype.type(1), b)
    if a.dtype.kind == "u":
        return np.where(zero, ~a.dtype.type(0), a // safe)
    quotient = a // safe
    quotient = quotient + ((quotient < 0) & (quotient * safe != a)).astype(a.dtype)
    return np.where(zero, a.dtype.type(-1), quotient)


@instruction("div", INTEGERS, style="lane", section="9.7.1.8", outputs=1)
def div(ins: Instruction, a: Array, b: Array) -> Array:
    x, y = _typed(ins, a, b)
    return divide(x, y).view(a.dtype)


@instruction("rem", INTEGERS, style="lane", section="9.7.1.9", outputs=1)
def rem(ins: Instruction, a: Array, b: Array) -> Array:
    x, y = _typed(ins, a, b)
    return np.where(y == 0, x, x - divide(x, y) * y).view(a.dtype)


def _typed(ins: Instruction, *arrays: Array) -> list[Array]:
    """Operands as signed arrays where the type is signed."""
    if ins.mod("type")[0] != "s":
        return list(arrays)
    return [array.view(f"i{array.dtype.itemsize}") for array in arrays]


@instruction("abs", "type=s16|s32|s64", style="emit", operands="1", section="9.7.1.10", outputs=1)
def absolute(e: Builder, ins: Instruction) -> None:
    bits = bits_of(ins.mod("type"))
    lanewise(
        e, ins, bits, "s", f"(abs({{0}}) & {(1 << bits) - 1})", f"np.abs({{0}}).view({UNSIGNED[bits]})", out=("u", bits)
    )


@instruction("neg", "type=s16|s32|s64", style="emit", operands="1", section="9.7.1.11", outputs=1)
def neg(e: Builder, ins: Instruction) -> None:
    bits = bits_of(ins.mod("type"))
    lanewise(e, ins, bits, "u", f"(-{{0}} & {(1 << bits) - 1})", f"({UNSIGNED[bits]}(0) - {{0}})")


def _extreme(e: Builder, ins: Instruction, python: str, array: str) -> None:
    kind_name = ins.mod("type")
    bits, rep = bits_of(kind_name), kind_name[0] if kind_name[0] == "s" else "u"
    relu = ins.has("relu")
    uniform = f"{python}({{0}}, {{1}})"
    vector = f"{array}({{0}}, {{1}})"
    if relu:
        uniform, vector = f"max({uniform}, 0)", f"np.maximum({vector}, 0)"
    if rep == "s":
        lanewise(
            e, ins, bits, "s", f"({uniform} & {(1 << bits) - 1})", f"{vector}.view({UNSIGNED[bits]})", out=("u", bits)
        )
    else:
        lanewise(e, ins, bits, "u", uniform, vector)


@instruction("min", INTEGERS, "relu type=s32", style="emit", operands="2", section="9.7.1.12", outputs=1)
def minimum(e: Builder, ins: Instruction) -> None:
    _extreme(e, ins, "min", "np.minimum")


@instruction("max", INTEGERS, "relu type=s32", style="emit", operands="2", section="9.7.1.13", outputs=1)
def maximum(e: Builder, ins: Instruction) -> None:
    _extreme(e, ins, "max", "np.maximum")


@instruction("sad", INTEGERS, style="lane", section="9.7.1.7", outputs=1)
def sad(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    x, y = _typed(ins, a, b)
    return np.where(x > y, a - b, b - a) + c


@instruction("popc", "type=b32|b64", style="lane", section="9.7.1.14", outputs=1)
def popc(ins: Instruction, a: Array) -> Array:
    return np.bitwise_count(a).astype(np.uint32)


@instruction("clz", "type=b32|b64", style="lane", section="9.7.1.15", outputs=1)
def clz(ins: Instruction, a: Array) -> Array:
    return (bits_of(ins.mod("type")) - 1 - _highest(a)).astype(np.uint32)


def _highest(a: Array) -> Array:
    """Position of the highest set bit, -1 if none."""
    bits = a.dtype.itemsize * 8
    spread = a.copy()
    shift = 1
    while shift < bits:
        spread |= spread >> a.dtype.type(shift)
        shift *= 2
    return np.bitwise_count(spread).astype(np.int64) - 1


@instruction("bfind", "[shiftamt] type=u32|u64|s32|s64", style="lane", section="9.7.1.16", outputs=1)
def bfind(ins: Instruction, a: Array) -> Array:
    bits = bits_of(ins.mod("type"))
    if ins.mod("type")[0] == "s":
        a = np.where(a >> a.dtype.type(bits - 1) != 0, ~a, a)
    found = _highest(a)
    if ins.has("shiftamt"):
        found = np.where(found < 0, found, bits - 1 - found)
    return (found & 0xFFFF_FFFF).astype(np.uint32)


@instruction("fns", "b32", style="lane", section="9.7.1.17", outputs=1)
def fns(ins: Instruction, mask: Array, base: Array, offset: Array) -> Array:
    mask, base, offset = np.broadcast_arrays(mask, base, offset)
    result = np.full(mask.shape, 0xFFFF_FFFF, np.uint32)
    for index in np.ndindex(mask.shape):
        bits, at, count = int(mask[index]), int(base[index]), int(np.int32(np.uint32(offset[index])))
        if count == 0:
            order = [at] if bits >> at & 1 else []
        elif count > 0:
            order = [i for i in range(at, 32) if bits >> i & 1][count - 1 : count]
        else:
            order = [i for i in range(at, -1, -1) if bits >> i & 1][-count - 1 : -count]
        if order:
            result[index] = order[0]
    return result


@instruction("brev", "type=b32|b64", style="lane", section="9.7.1.18", outputs=1)
def brev(ins: Instruction, a: Array) -> Array:
    bits, kind = bits_of(ins.mod("type")), a.dtype.type
    result = np.zeros_like(a)
    for i in range(bits):
        result |= ((a >> kind(i)) & kind(1)) << kind(bits - 1 - i)
    return result


@instruction("bfe", "type=u32|u64|s32|s64", style="lane", section="9.7.1.19", outputs=1)
def bfe(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    bits, kind = bits_of(ins.mod("type")), a.dtype.type
    position = (b & b.dtype.type(0xFF)).astype(np.int64)
    length = (c & c.dtype.type(0xFF)).astype(np.int64)
    moved = np.where(position < bits, a >> np.minimum(position, bits - 1).astype(kind), kind(0))
    mask = np.where(length >= bits, ~kind(0), (kind(1) << np.minimum(length, bits - 1).astype(kind)) - kind(1))
    field = moved & mask
    if ins.mod("type")[0] == "u":
        return field
    # The sign is the field's highest bit inside of the word, and fills everything above it.
    top = np.clip(position + length - 1, 0, bits - 1).astype(kind)
    sign = (a >> top) & kind(1)
    inside = np.clip(bits - position, 0, length)
    known = np.where(inside >= bits, ~kind(0), (kind(1) << np.clip(inside, 0, bits - 1).astype(kind)) - kind(1))
    return np.where((length != 0) & (sign != 0), field | ~known, field)


@instruction("bfi", "type=b32|b64", style="lane", section="9.7.1.20", outputs=1)
def bfi(ins: Instruction, a: Array, b: Array, c: Array, d: Array) -> Array:
    bits, kind = bits_of(ins.mod("type")), b.dtype.type
    position = (c & c.dtype.type(0xFF)).astype(np.int64)
    length = (d & d.dtype.type(0xFF)).astype(np.int64)
    low = np.where(length >= bits, ~kind(0), (kind(1) << np.minimum(length, bits - 1).astype(kind)) - kind(1))
    shift = np.minimum(position, bits - 1).astype(kind)
    mask = np.where(position < bits, low << shift, kind(0))
    return (b & ~mask) | ((a << shift) & mask)


@instruction("szext", "mode=clamp|wrap type=u32|s32", style="lane", section="9.7.1.21", outputs=1)
def szext(ins: Instruction, a: Array, b: Array) -> Array:
    width = (b & np.uint32(31)).astype(np.int64) if ins.mod("mode") == "wrap" else np.minimum(b.astype(np.int64), 32)
    mask = np.where(width >= 32, 0xFFFF_FFFF, (1 << np.minimum(width, 31)) - 1).astype(np.uint32)
    if ins.mod("type") == "u32":
        return a & mask
    sign = (a >> np.maximum(width - 1, 0).astype(np.uint32)) & np.uint32(1)
    return np.where(width == 0, np.uint32(0), np.where(sign != 0, a | ~mask, a & mask))


@instruction("bmsk", "mode=clamp|wrap b32", style="lane", section="9.7.1.22", outputs=1)
def bmsk(ins: Instruction, a: Array, b: Array) -> Array:
    position, width = a.astype(np.int64), b.astype(np.int64)
    if ins.mod("mode") == "wrap":
        position, width = position & 31, width & 31
    else:
        position, width = np.minimum(position, 32), np.minimum(width, 32)
    return ((((1 << width) - 1) << position) & 0xFFFF_FFFF).astype(np.uint32)


@instruction("dp4a", "a=u32|s32 b=u32|s32", style="lane", section="9.7.1.23", outputs=1)
def dp4a(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    total = c.astype(np.int64)
    for i in range(4):
        total = total + _field(a, i, 8, ins.mod("a")) * _field(b, i, 8, ins.mod("b"))
    return (total & 0xFFFF_FFFF).astype(np.uint32)


@instruction("dp2a", "part=lo|hi a=u32|s32 b=u32|s32", style="lane", section="9.7.1.24", outputs=1)
def dp2a(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    total, first = c.astype(np.int64), 2 if ins.mod("part") == "hi" else 0
    for i in range(2):
        total = total + _field(a, i, 16, ins.mod("a")) * _field(b, first + i, 8, ins.mod("b"))
    return (total & 0xFFFF_FFFF).astype(np.uint32)


def _field(word: Array, index: int, bits: int, type_name: str) -> Array:
    value = (word >> np.uint32(index * bits)).astype(np.int64) & ((1 << bits) - 1)
    return np.where(value >> (bits - 1) != 0, value - (1 << bits), value) if type_name[0] == "s" else value


@instruction("cnot", "type=b16|b32|b64", style="lane", section="9.7.8.5", outputs=1)
def cnot(ins: Instruction, a: Array) -> Array:
    return (a == 0).astype(a.dtype)
