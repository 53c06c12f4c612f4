"""Floating-point arithmetic of f32 (PTX ISA 9.7.3) and packed f32x2; min, max and tests of f64 too.

`.approx` functions give the exact result rounded to nearest, where the hardware may be off by the error that PTX
states for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fp4emu.builder import Builder
from fp4emu.instruction import Instruction, Operand
from fp4emu.registry import instruction
from fp4emu.representation import Value, join
from fp4emu.values import F4, F8, directed32, nan_max32, nan_min32, odd_sum

ROUND = "[round=rn|rz|rm|rp]"
NEED_ROUND = "round=rn|rz|rm|rp"


def _width(ins: Instruction) -> int:
    return 64 if ins.mod("type") == "f64" else 32


def apply(e: Builder, ins: Instruction, texts: list[str], kinds: list[str], expression: str) -> tuple[str, str]:
    """(expression, kind) of an f32 operation with the .ftz and .sat modifiers around it; `expression` has the sources
    as {0}, {1} ..."""
    kind = join(*kinds)
    if ins.has("ftz"):
        texts = [e.assign(f"flush({text})") for text in texts]
    result = expression.format(*texts)
    if ins.has("ftz"):
        result = f"flush({e.assign(result)})"
    if ins.has("sat"):
        result = f"saturate({e.assign(result)})"
    return result, kind


def _arithmetic(e: Builder, ins: Instruction, nearest: str, other: Callable[..., Any]) -> None:
    """An operation with a rounding modifier; `nearest` is its template for rn, `other(mode, *sources)` computes the
    directed ones."""
    mode = ins.mod("round") or "rn"
    pairs = [e.source(operand, "f", 32) for operand in ins.operands[1:]]
    template = nearest
    if mode != "rn":
        places = ", ".join(f"{{{i}}}" for i in range(len(pairs)))
        template = f"{e.constant(other)}({mode!r}, {places})"
    text, kind = apply(e, ins, [t for t, _ in pairs], [k for _, k in pairs], template)
    e.set(ins.operands[0], kind, "f", text, 32)


def _directed_sum(mode: str, product: Any, addend: Any) -> Any:
    """product + addend of exact f64 values. An exact zero of unlike signs is -0 when rounding down, +0 otherwise."""
    product, addend = np.asarray(product, F8), np.asarray(addend, F8)
    total = odd_sum(product, addend)
    if mode == "rm":
        total = np.where((total == 0) & (np.signbit(product) != np.signbit(addend)), -0.0, total)
    return directed32(total, mode)[()]


def directed_add(mode: str, a: Any, b: Any) -> Any:
    return _directed_sum(mode, a, b)


def directed_sub(mode: str, a: Any, b: Any) -> Any:
    return _directed_sum(mode, a, -np.asarray(b, F8))


def _directed_mul(mode: str, a: Any, b: Any) -> Any:
    return directed32(np.multiply(a, b, dtype=F8), mode)[()]


def directed_fma(mode: str, a: Any, b: Any, c: Any) -> Any:
    return _directed_sum(mode, np.multiply(a, b, dtype=F8), c)


def _directed_div(mode: str, a: Any, b: Any) -> Any:
    """The f64 quotient, nudged to odd by the sign of its exact remainder's f64 value, then rounded."""
    x, y = np.asarray(a, F8), np.asarray(b, F8)
    quotient = np.asarray(x / y)
    high = quotient.astype(F4).astype(F8)
    remainder = np.where(np.isfinite(quotient), x - high * y, 0.0)
    toward = np.where((remainder == 0) | ~np.isfinite(quotient), 0.0, np.where((remainder > 0) == (y > 0), 1.0, -1.0))
    exact = np.where(toward == 0, quotient, np.nextafter(high, np.where(toward > 0, np.inf, -np.inf)))
    return directed32(np.where(np.abs(quotient) < 2.0**-120, quotient, exact), mode)[()]


def _directed_sqrt(mode: str, a: Any) -> Any:
    x = np.asarray(a, F8)
    root = np.asarray(np.sqrt(x))
    near = root.astype(F4).astype(F8)
    error = np.where(np.isfinite(root), x - near * near, 0.0)
    exact = np.where(error == 0, near, np.nextafter(near, np.where(error > 0, np.inf, -np.inf)))
    return directed32(np.where(np.isfinite(root), exact, root), mode)[()]


@instruction("add", f"{ROUND} [ftz] [sat] type=f32", style="emit", operands="2", section="9.7.3.3", outputs=1)
def add(e: Builder, ins: Instruction) -> None:
    _arithmetic(e, ins, "({0} + {1})", directed_add)


@instruction("sub", f"{ROUND} [ftz] [sat] type=f32", style="emit", operands="2", section="9.7.3.4", outputs=1)
def sub(e: Builder, ins: Instruction) -> None:
    _arithmetic(e, ins, "({0} - {1})", directed_sub)


@instruction("mul", f"{ROUND} [ftz] [sat] type=f32", style="emit", operands="2", section="9.7.3.5", outputs=1)
def mul(e: Builder, ins: Instruction) -> None:
    _arithmetic(e, ins, "({0} * {1})", _directed_mul)


@instruction("fma", f"{NEED_ROUND} [ftz] [sat] type=f32", style="emit", operands="3", section="9.7.3.6", outputs=1)
def fma(e: Builder, ins: Instruction) -> None:
    _arithmetic(e, ins, "fma32({0}, {1}, {2})", directed_fma)


@instruction("mad", f"{ROUND} [ftz] [sat] type=f32", style="emit", operands="3", section="9.7.3.7", outputs=1)
def mad(e: Builder, ins: Instruction) -> None:
    _arithmetic(e, ins, "fma32({0}, {1}, {2})", directed_fma)


@instruction("div", f"{NEED_ROUND} [ftz] type=f32", style="emit", operands="2", section="9.7.3.8", outputs=1)
def div(e: Builder, ins: Instruction) -> None:
    _arithmetic(e, ins, "({0} / {1})", _directed_div)


@instruction("div", "approx=approx|full [ftz] type=f32", style="emit", operands="2", section="9.7.3.8", outputs=1)
def div_approx(e: Builder, ins: Instruction) -> None:
    _arithmetic(e, ins, "({0} / {1})", _directed_div)


@instruction("rcp", f"{NEED_ROUND} [ftz] type=f32", style="emit", operands="1", section="9.7.3.13", outputs=1)
def rcp(e: Builder, ins: Instruction) -> None:
    _arithmetic(e, ins, "(F4(1) / {0})", lambda mode, a: _directed_div(mode, F4(1), a))


@instruction("rcp", "approx [ftz] type=f32", style="emit", operands="1", section="9.7.3.13", outputs=1)
def rcp_approx(e: Builder, ins: Instruction) -> None:
    _arithmetic(e, ins, "(F4(1) / {0})", _directed_div)


@instruction("sqrt", f"{NEED_ROUND} [ftz] type=f32", style="emit", operands="1", section="9.7.3.15", outputs=1)
def sqrt(e: Builder, ins: Instruction) -> None:
    _arithmetic(e, ins, "np.sqrt({0})", _directed_sqrt)


@instruction("sqrt", "approx [ftz] type=f32", style="emit", operands="1", section="9.7.3.15", outputs=1)
def sqrt_approx(e: Builder, ins: Instruction) -> None:
    _arithmetic(e, ins, "np.sqrt({0})", _directed_sqrt)


def _function(e: Builder, ins: Instruction, function: Callable[[Any], Any]) -> None:
    """A transcendental function, computed in f64 and rounded once."""
    _arithmetic(e, ins, f"{e.constant(function)}({{0}})", _directed_sqrt)


def _rounded(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def through64(x: Any) -> Any:
        return function(np.asarray(x, F8)).astype(F4)[()]

    return through64


_RSQRT = _rounded(lambda x: 1.0 / np.sqrt(x))
_EX2 = _rounded(np.exp2)
_LG2 = _rounded(np.log2)
_SIN, _COS, _TANH = _rounded(np.sin), _rounded(np.cos), _rounded(np.tanh)


@instruction("rsqrt", "approx [ftz] type=f32", style="emit", operands="1", section="9.7.3.16", outputs=1)
def rsqrt(e: Builder, ins: Instruction) -> None:
    _function(e, ins, _RSQRT)


@instruction("ex2", "approx [ftz] type=f32", style="emit", operands="1", section="9.7.3.21", outputs=1)
def ex2(e: Builder, ins: Instruction) -> None:
    _function(e, ins, _EX2)


@instruction("lg2", "approx [ftz] type=f32", style="emit", operands="1", section="9.7.3.20", outputs=1)
def lg2(e: Builder, ins: Instruction) -> None:
    _function(e, ins, _LG2)


@instruction("sin", "approx [ftz] type=f32", style="emit", operands="1", section="9.7.3.18", outputs=1)
def sin(e: Builder, ins: Instruction) -> None:
    _function(e, ins, _SIN)


@instruction("cos", "approx [ftz] type=f32", style="emit", operands="1", section="9.7.3.19", outputs=1)
def cos(e: Builder, ins: Instruction) -> None:
    _function(e, ins, _COS)


@instruction("tanh", "approx type=f32", style="emit", operands="1", section="9.7.3.22", outputs=1)
def tanh(e: Builder, ins: Instruction) -> None:
    _function(e, ins, _TANH)


def _sign_bits(e: Builder, ins: Instruction, expression: str, flushed: str) -> None:
    """abs and neg work on the sign bit, also of a NaN; with .ftz a subnormal becomes zero."""
    if ins.has("ftz"):
        text, kind = e.source(ins.operands[1], "f", 32)
        e.set(ins.operands[0], kind, "f", f"{flushed}(flush({text}))", 32)
        return
    text, kind = e.source(ins.operands[1], "u", 32)
    e.set(ins.operands[0], kind, "u", expression.format(text), 32)


@instruction("abs", "[ftz] type=f32", style="emit", operands="1", section="9.7.3.9", outputs=1)
def absolute(e: Builder, ins: Instruction) -> None:
    _sign_bits(e, ins, f"({{0}} & {0x7FFF_FFFF})", "np.abs")


@instruction("neg", "[ftz] type=f32", style="emit", operands="1", section="9.7.3.10", outputs=1)
def neg(e: Builder, ins: Instruction) -> None:
    _sign_bits(e, ins, f"({{0}} ^ {0x8000_0000})", "-")


def _extreme(e: Builder, ins: Instruction, function: Callable[..., Any]) -> None:
    bits = _width(ins)
    pairs = [e.source(operand, "f", bits) for operand in ins.operands[1:]]
    name, propagate = e.constant(function), ins.has("NaN")
    texts = [text for text, _ in pairs]
    if ins.has("ftz"):
        texts = [e.assign(f"flush({text})") for text in texts]
    sign = ""
    if ins.has("xorsign"):
        sign = e.assign(f"np.signbit({texts[0]}) ^ np.signbit({texts[1]})")
    if ins.has("abs"):
        texts = [f"np.abs({text})" for text in texts]
    result = texts[0]
    for text in texts[1:]:
        result = f"{name}({result}, {text}, {propagate})"
    if ins.has("xorsign"):
        result = f"np.copysign({e.assign(result)}, where({sign}, -1, 1)).astype(F4)"
    kind = join(*(k for _, k in pairs))
    e.set(ins.operands[0], kind, "f", f"({result})[()]" if kind == "U" else result, bits)


@instruction(
    "min",
    "[ftz] [NaN] [xorsign=xorsign] [abs] type=f32",
    "type=f64",
    style="emit",
    operands="2",
    section="9.7.3.11",
    outputs=1,
)
def minimum(e: Builder, ins: Instruction) -> None:
    _extreme(e, ins, nan_min32)


@instruction(
    "max",
    "[ftz] [NaN] [xorsign=xorsign] [abs] type=f32",
    "type=f64",
    style="emit",
    operands="2",
    section="9.7.3.12",
    outputs=1,
)
def maximum(e: Builder, ins: Instruction) -> None:
    _extreme(e, ins, nan_max32)


@instruction("copysign", "type=f32|f64", style="emit", operands="2", section="9.7.3.2", outputs=1)
def copysign(e: Builder, ins: Instruction) -> None:
    bits = _width(ins)
    sign = 1 << (bits - 1)
    (a, a_kind), (b, b_kind) = e.source(ins.operands[1], "u", bits), e.source(ins.operands[2], "u", bits)
    e.set(ins.operands[0], join(a_kind, b_kind), "u", f"(({a} & {sign}) | ({b} & {sign - 1}))", bits)


@instruction(
    "testp",
    "op=finite|infinite|number|notanumber|normal|subnormal type=f32|f64",
    style="emit",
    operands="1",
    section="9.7.3.1",
    outputs=1,
)
def testp(e: Builder, ins: Instruction) -> None:
    bits = _width(ins)
    text, kind = e.source(ins.operands[1], "f", bits)
    tiny = "2.2250738585072014e-308" if bits == 64 else "1.1754943508222875e-38"
    test = {
        "finite": "np.isfinite({0})",
        "infinite": "np.isinf({0})",
        "number": "({0} == {0})",
        "notanumber": "({0} != {0})",
        "normal": f"(np.isfinite({{0}}) & ((np.abs({{0}}) >= {tiny}) | ({{0}} == 0)))",  # zeros count as normal
        "subnormal": f"((np.abs({{0}}) < {tiny}) & ({{0}} != 0))",
    }[ins.mod("op")].format(text)
    e.set(ins.operands[0], kind, "b", f"bool({test})" if kind == "U" else test, 1)


# --- two f32 in a 64-bit register (9.7.3: add, sub, mul and fma .f32x2, sm_100 and later) ---

PACKED_TARGETS = ("sm_100a", "sm_103a", "sm_120a")


def _packed(e: Builder, ins: Instruction, nearest: str, other: Callable[..., Any]) -> None:
    sources: list[tuple[Value, Value]] = [_pair(e, operand) for operand in ins.operands[1:]]
    mode = ins.mod("round") or "rn"
    template = nearest
    if mode != "rn":
        template = f"{e.constant(other)}({mode!r}, {', '.join(f'{{{i}}}' for i in range(len(sources)))})"
    halves: list[Value] = []
    for half in (0, 1):
        values = [source[half] for source in sources]
        text, kind = apply(e, ins, [e.rep(v, "f") for v in values], [e.kind(v) for v in values], template)
        halves.append(Value(kind, 32, {"f": e.assign(text)}))
    e.put(ins.operands[0], Value("", 64, {}, (halves[0], halves[1])))


def _pair(e: Builder, operand: Operand) -> tuple[Value, Value]:
    return e.halves(operand, 64)


@instruction(
    "add", f"{ROUND} [ftz] f32x2", style="emit", operands="2", section="9.7.3.3", outputs=1, targets=PACKED_TARGETS
)
def add_packed(e: Builder, ins: Instruction) -> None:
    _packed(e, ins, "({0} + {1})", directed_add)


@instruction(
    "sub", f"{ROUND} [ftz] f32x2", style="emit", operands="2", section="9.7.3.4", outputs=1, targets=PACKED_TARGETS
)
def sub_packed(e: Builder, ins: Instruction) -> None:
    _packed(e, ins, "({0} - {1})", directed_sub)


@instruction(
    "mul", f"{ROUND} [ftz] f32x2", style="emit", operands="2", section="9.7.3.5", outputs=1, targets=PACKED_TARGETS
)
def mul_packed(e: Builder, ins: Instruction) -> None:
    _packed(e, ins, "({0} * {1})", _directed_mul)


@instruction(
    "fma", f"{NEED_ROUND} [ftz] f32x2", style="emit", operands="3", section="9.7.3.6", outputs=1, targets=PACKED_TARGETS
)
def fma_packed(e: Builder, ins: Instruction) -> None:
    _packed(e, ins, "fma32({0}, {1}, {2})", directed_fma)
