"""Comparison and selection (PTX ISA 9.7.6, 9.7.7)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fp4emu.builder import Builder
from fp4emu.instruction import Instruction, Operand, Pair, Sink
from fp4emu.isa.integer import bits_of
from fp4emu.registry import instruction
from fp4emu.representation import Value, computed, join
from fp4emu.values import Array, bf16_value

INTEGER_TYPES = "type=b16|b32|b64|u16|u32|u64|s16|s32|s64"
INTEGER_OPS = "op=eq|ne|lt|le|gt|ge|lo|ls|hi|hs"
FLOAT_OPS = "op=eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan"
COMBINE = "[combine=and|or|xor]"

_SYMBOL = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "lo": "<",
    "ls": "<=",
    "hi": ">",
    "hs": ">=",
}
_INVERSE = {"equ": "!=", "neu": "==", "ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}


def _integer(e: Builder, ins: Instruction, a: Operand, b: Operand) -> tuple[str, str]:
    kind_name = ins.mod("type")
    bits = bits_of(kind_name)
    rep = "s" if kind_name[0] == "s" else "u"
    (x, x_kind), (y, y_kind) = e.source(a, rep, bits), e.source(b, rep, bits)
    return f"({x} {_SYMBOL[ins.mod('op')]} {y})", join(x_kind, y_kind)


def float_comparison(op: str, x: str, y: str, uniform: bool) -> str:
    """Ordered comparisons are false and the ...u ones true if an operand is NaN."""
    no, either, both = ("not ", " or ", " and ") if uniform else ("~", " | ", " & ")
    if op == "num":
        return f"(({x} == {x}){both}({y} == {y}))"
    if op == "nan":
        return f"(({x} != {x}){either}({y} != {y}))"
    if op == "ne":
        return f"(({x} < {y}){either}({x} > {y}))"
    if op == "equ":
        return f"({no}(({x} < {y}){either}({x} > {y})))"
    if op == "neu":
        return f"({x} != {y})"
    if op in _INVERSE:
        inverse = {"ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}[op]
        return f"({no}({x} {inverse} {y}))"
    return f"({x} {_SYMBOL[op]} {y})"


def _floating(e: Builder, ins: Instruction, a: Operand, b: Operand) -> tuple[str, str]:
    kind_name = ins.mod("type")
    bits = 16 if kind_name == "bf16" else bits_of(kind_name)
    if kind_name == "bf16":
        widen = e.constant(bf16_value)
        pairs = [e.source(operand, "u", 16) for operand in (a, b)]
        x, y = (e.assign(f"{widen}(np.asarray({text}, U2))") for text, _ in pairs)
        kind = join(*(k for _, k in pairs))
        text = float_comparison(ins.mod("op"), x, y, False)
        return (f"bool({text})" if kind == "U" else text), kind
    pairs = [e.source(operand, "f", bits) for operand in (a, b)]
    if ins.has("ftz"):
        pairs = [(e.assign(f"flush({text})"), kind) for text, kind in pairs]
    kind = join(*(k for _, k in pairs))
    text = float_comparison(ins.mod("op"), pairs[0][0], pairs[1][0], kind == "U")
    return (f"bool({text})" if kind == "U" else text), kind


def _put(e: Builder, ins: Instruction, test: tuple[str, str]) -> None:
    text, kind = e.assign(test[0]), test[1]
    target = ins.operands[0]
    first, second = (target.first, target.second) if isinstance(target, Pair) else (target, Sink())
    if ins.has("combine"):
        other, other_kind = e.source(ins.operands[3], "b", 1)
        both = join(kind, other_kind)
        word = {"and": ("and", "&"), "or": ("or", "|"), "xor": ("!=", "^")}[ins.mod("combine")][both != "U"]
        results = [f"({text} {word} {other})", f"({'not ' if kind == 'U' else '~'}{text})"]
        results[1] = f"({results[1]} {word} {other})"
        kinds = [both, both]
    else:
        results, kinds = [text, f"({'not ' if kind == 'U' else '~'}{text})"], [kind, kind]
    named = [e.assign(r) if not isinstance(t, Sink) else "" for r, t in zip(results, (first, second), strict=True)]
    for operand, name, result_kind in zip((first, second), named, kinds, strict=True):
        if not isinstance(operand, Sink):
            e.set(operand, result_kind, "b", name, 1)


@instruction(
    "setp", f"{INTEGER_OPS} {COMBINE} {INTEGER_TYPES}", style="emit", operands="2+combine", section="9.7.6.2", outputs=1
)
def setp(e: Builder, ins: Instruction) -> None:
    _put(e, ins, _integer(e, ins, ins.operands[1], ins.operands[2]))


@instruction(
    "setp",
    f"{FLOAT_OPS} {COMBINE} [ftz] type=f32|f64|f16|bf16",
    style="emit",
    operands="2+combine",
    section="9.7.6.2",
    outputs=1,
)
def setp_float(e: Builder, ins: Instruction) -> None:
    _put(e, ins, _floating(e, ins, ins.operands[1], ins.operands[2]))


@instruction(
    "setp", f"{FLOAT_OPS} {COMBINE} [ftz] type=f16x2|bf16x2", style="emit", operands="2", section="9.7.7.3", outputs=1
)
def setp_packed(e: Builder, ins: Instruction) -> None:
    """Two predicates: of the low and of the high halves."""
    if not isinstance(ins.operands[0], Pair) or ins.has("combine"):
        e.fail("setp of packed operands needs a pair of predicates and no combination")
    compare = e.constant(_compare_halves)
    pairs = [e.source(operand, "u", 32) for operand in ins.operands[1:3]]
    kind = join(*(k for _, k in pairs))
    x, y = (text if k != "U" else f"vector({text}, U4)" for text, k in pairs)
    both = e.assign(f"{compare}({ins.mod('op')!r}, {ins.mod('type')!r}, {x}, {y})")
    for index, operand in enumerate((ins.operands[0].first, ins.operands[0].second)):
        if not isinstance(operand, Sink):
            e.set(operand, kind, "b", f"bool({both}[{index}][0, 0])" if kind == "U" else f"{both}[{index}]", 1)


def _compare_halves(op: str, kind_name: str, a: Array, b: Array) -> list[Array]:
    result: list[Array] = []
    for shift in (0, 16):
        halves = [(x >> np.uint32(shift)).astype(np.uint16) for x in (a, b)]
        x, y = (bf16_value(h) if kind_name == "bf16x2" else h.view(np.float16) for h in halves)
        table: dict[str, Any] = {
            "eq": lambda x=x, y=y: x == y,
            "ne": lambda x=x, y=y: (x < y) | (x > y),
            "lt": lambda x=x, y=y: x < y,
            "le": lambda x=x, y=y: x <= y,
            "gt": lambda x=x, y=y: x > y,
            "ge": lambda x=x, y=y: x >= y,
            "equ": lambda x=x, y=y: ~((x < y) | (x > y)),
            "neu": lambda x=x, y=y: x != y,
            "ltu": lambda x=x, y=y: ~(x >= y),
            "leu": lambda x=x, y=y: ~(x > y),
            "gtu": lambda x=x, y=y: ~(x <= y),
            "geu": lambda x=x, y=y: ~(x < y),
            "num": lambda x=x, y=y: (x == x) & (y == y),
            "nan": lambda x=x, y=y: (x != x) | (y != y),
        }
        result.append(table[op]())
    return result


def _all_bits(e: Builder, ins: Instruction, text: str, kind: str) -> None:
    """Writes 32 ones where a comparison holds, else zeros."""
    found = f"(0xFFFFFFFF if {text} else 0)" if kind == "U" else f"where({text}, U4(0xFFFFFFFF), U4(0))"
    e.set(ins.operands[0], kind, "u", found, 32)


@instruction(
    "set", f"{INTEGER_OPS} out=u32|s32 {INTEGER_TYPES}", style="emit", operands="2", section="9.7.6.1", outputs=1
)
def set_integer(e: Builder, ins: Instruction) -> None:
    _all_bits(e, ins, *_integer(e, ins, ins.operands[1], ins.operands[2]))


@instruction(
    "set",
    f"{FLOAT_OPS} [ftz] out=u32|s32 type=f32|f64|f16|bf16",
    style="emit",
    operands="2",
    section="9.7.6.1",
    outputs=1,
)
def set_float(e: Builder, ins: Instruction) -> None:
    _all_bits(e, ins, *_floating(e, ins, ins.operands[1], ins.operands[2]))


@instruction("set", f"{FLOAT_OPS} [ftz] f32 type=f32", style="emit", operands="2", section="9.7.6.1", outputs=1)
def set_to_float(e: Builder, ins: Instruction) -> None:
    text, kind = _floating(e, ins, ins.operands[1], ins.operands[2])
    e.set(ins.operands[0], kind, "f", f"F4(1 if {text} else 0)" if kind == "U" else f"where({text}, F4(1), F4(0))", 32)


@instruction(
    "selp", "type=b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64", style="emit", operands="3", section="9.7.6.3", outputs=1
)
def selp(e: Builder, ins: Instruction) -> None:
    bits = bits_of(ins.mod("type"))
    a, b = e.value(ins.operands[1], bits), e.value(ins.operands[2], bits)
    flag = e.value(ins.operands[3], 1)
    e.put(ins.operands[0], select(e, flag, a, b))


def select(e: Builder, flag: Value, a: Value, b: Value) -> Value:
    """`a if flag else b` of two values of one width."""
    if a.bits != b.bits:
        e.fail(f"operands of {a.bits} and {b.bits} bits")
    rep = "f" if computed(a) and computed(b) else "u"
    x, y, test = e.rep(a, rep), e.rep(b, rep), e.rep(flag, "b")
    kinds = (e.kind(a), e.kind(b), e.kind(flag))
    if kinds == ("U", "U", "U"):
        return Value("U", a.bits, {rep: e.assign(f"{x} if {test} else {y}")})
    x, y = e.widen(x, kinds[0], rep, a.bits), e.widen(y, kinds[1], rep, a.bits)
    return Value(join(*kinds), a.bits, {rep: e.assign(f"where({test}, {x}, {y})")})


@instruction("slct", "type=b32|b64|u32|s32|f32|f64 on=s32", style="emit", operands="3", section="9.7.6.4", outputs=1)
def slct(e: Builder, ins: Instruction) -> None:
    bits = bits_of(ins.mod("type"))
    a, b = e.value(ins.operands[1], bits), e.value(ins.operands[2], bits)
    c, kind = e.source(ins.operands[3], "s", 32)
    flag = Value(kind, 1, {"b": e.assign(f"({c} >= 0)")})
    e.put(ins.operands[0], select(e, flag, a, b))
