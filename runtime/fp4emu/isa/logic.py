"""Logic and shifts (PTX ISA 9.7.8), prmt (9.7.9.7)."""

from __future__ import annotations

import numpy as np

from fp4emu.builder import Builder
from fp4emu.instruction import Instruction
from fp4emu.isa.integer import bits_of, lanewise
from fp4emu.registry import instruction
from fp4emu.representation import SIGNED, UNSIGNED, Value, join
from fp4emu.values import Array

TYPES = "type=b16|b32|b64"


def _bitwise(e: Builder, ins: Instruction, operator: str) -> None:
    if ins.mod("type") == "pred":
        word = {"&": "and", "|": "or", "^": "!="}[operator]
        lanewise(e, ins, 1, "b", f"({{0}} {word} {{1}})", f"({{0}} {operator} {{1}})")
    else:
        bits = bits_of(ins.mod("type"))
        lanewise(e, ins, bits, "u", f"({{0}} {operator} {{1}})", f"({{0}} {operator} {{1}})")


@instruction("and", TYPES, "type=pred", style="emit", operands="2", section="9.7.8.1", outputs=1)
def and_(e: Builder, ins: Instruction) -> None:
    _bitwise(e, ins, "&")


@instruction("or", TYPES, "type=pred", style="emit", operands="2", section="9.7.8.2", outputs=1)
def or_(e: Builder, ins: Instruction) -> None:
    _bitwise(e, ins, "|")


@instruction("xor", TYPES, "type=pred", style="emit", operands="2", section="9.7.8.3", outputs=1)
def xor(e: Builder, ins: Instruction) -> None:
    _bitwise(e, ins, "^")


@instruction("not", TYPES, "type=pred", style="emit", operands="1", section="9.7.8.4", outputs=1)
def not_(e: Builder, ins: Instruction) -> None:
    if ins.mod("type") != "pred":
        bits = bits_of(ins.mod("type"))
        lanewise(e, ins, bits, "u", f"({{0}} ^ {(1 << bits) - 1})", "(~{0})")
        return
    value = e.value(ins.operands[1], 1)
    if value.elect:
        e.put(ins.operands[0], Value("V", 1, {}, None, "N" if value.elect == "E" else "E"))
    else:
        lanewise(e, ins, 1, "b", "(not {0})", "(~{0})")


@instruction("lop3", "b32", style="lane", section="9.7.8.6", outputs=1)
def lop3(ins: Instruction, a: Array, b: Array, c: Array, table: Array) -> Array:
    bits = int(table.ravel()[0])
    result = np.zeros(np.broadcast_shapes(a.shape, b.shape, c.shape), np.uint32)
    for i in range(8):
        if bits >> i & 1:
            result = result | ((a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c))
    return result


@instruction("shl", TYPES, style="emit", operands="2", section="9.7.8.8", outputs=1)
def shl(e: Builder, ins: Instruction) -> None:
    bits = bits_of(ins.mod("type"))
    a, a_kind = e.source(ins.operands[1], "u", bits)
    by, by_kind = e.source(ins.operands[2], "u", 32)
    kind, mask = join(a_kind, by_kind), (1 << bits) - 1
    if by.isdigit() and int(by) < bits:
        text = f"({a} << {by}) & {mask}" if kind == "U" else f"({a} << {UNSIGNED[bits]}({by}))"
    elif kind == "U":
        text = f"({a} << min({by}, {bits})) & {mask}"
    else:
        text = f"shift_left({e.widen(a, a_kind, 'u', bits)}, {by}, {bits})"
    e.set(ins.operands[0], kind, "u", text, bits)


@instruction(
    "shr", "type=b16|b32|b64|u16|u32|u64|s16|s32|s64", style="emit", operands="2", section="9.7.8.9", outputs=1
)
def shr(e: Builder, ins: Instruction) -> None:
    bits, signed = bits_of(ins.mod("type")), ins.mod("type")[0] == "s"
    rep = "s" if signed else "u"
    a, a_kind = e.source(ins.operands[1], rep, bits)
    by, by_kind = e.source(ins.operands[2], "u", 32)
    kind = join(a_kind, by_kind)
    dtype = (SIGNED if signed else UNSIGNED)[bits]
    if kind == "U":
        text = f"({a} >> min({by}, {bits})) & {(1 << bits) - 1}"
    elif by.isdigit() and int(by) < bits:
        text = f"({a} >> {dtype}({by}))"
    else:
        text = f"shift_right({e.widen(a, a_kind, rep, bits)}, {by}, {bits})"
    if signed and kind != "U":
        text += f".view({UNSIGNED[bits]})"
    e.set(ins.operands[0], kind, "u", text, bits)


@instruction("shf", "direction=l|r mode=clamp|wrap b32", style="lane", section="9.7.8.7", outputs=1)
def shf(ins: Instruction, low: Array, high: Array, by: Array) -> Array:
    amount = by & np.uint32(31) if ins.mod("mode") == "wrap" else np.minimum(by, np.uint32(32))
    wide = (high.astype(np.uint64) << np.uint64(32)) | low
    if ins.mod("direction") == "r":
        return (wide >> amount.astype(np.uint64)).astype(np.uint32)
    return ((wide << amount.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


@instruction("prmt", "b32 [mode=f4e|b4e|rc8|ecl|ecr|rc16]", style="lane", section="9.7.9.7", outputs=1)
def prmt(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    wide = (b.astype(np.uint64) << np.uint64(32)) | a
    mode, result = ins.mod("mode"), np.zeros(np.broadcast_shapes(a.shape, b.shape, c.shape), np.uint32)
    low = (c & np.uint32(3)).astype(np.int64)
    for i in range(4):
        if not mode:
            selector = (c >> np.uint32(4 * i)).astype(np.int64) & 15
        else:
            chosen = {
                "f4e": low + i,
                "b4e": (low - i) & 7,
                "rc8": low,
                "ecl": np.maximum(low, i),
                "ecr": np.minimum(low, i),
                "rc16": ((low & 1) << 1) + (i & 1),
            }[mode]
            selector = np.broadcast_to(chosen, low.shape)
        byte = (wide >> ((selector & 7) * 8).astype(np.uint64)) & np.uint64(0xFF)
        sign = np.where(byte >> np.uint64(7) != 0, np.uint64(0xFF), np.uint64(0))
        byte = np.where(selector & 8 != 0, sign, byte)
        result = result | (byte << np.uint64(8 * i)).astype(np.uint32)
    return result
