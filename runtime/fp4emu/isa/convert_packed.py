"""cvt of packed and narrow floats (PTX ISA 9.7.9.21), and cvt.pack (9.7.9.22).

Narrow formats go through `fp4num`, which is the definition of their codecs in this project (and is tested against
ml_dtypes).
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fp4num
from fp4emu.builder import Builder
from fp4emu.instruction import Instruction
from fp4emu.isa.convert import SECTION, saturated
from fp4emu.isa.integer import bits_of
from fp4emu.registry import instruction
from fp4emu.representation import join
from fp4emu.values import F2, F4, U1, U2, U4, Array, bf16_bits, bf16_value, f16_bits

NARROW = "e4m3x2|e5m2x2|e2m1x2|e2m3x2|e3m2x2"


def _relu(x: Array, wanted: bool) -> Array:
    return np.where(x > 0, x, np.where(x == x, F4(0), x)) if wanted else x


@instruction(
    "cvt", "round=rn|rz [relu] [satfinite] to=f16x2|bf16x2 f32", style="emit", operands="2", section=SECTION, outputs=1
)
def pack_halves(e: Builder, ins: Instruction) -> None:
    """The first source becomes the high half."""
    pairs = [e.source(operand, "f", 32) for operand in ins.operands[1:3]]
    kind = join(*(k for _, k in pairs))
    name = e.constant(_pack_bf16 if ins.mod("to") == "bf16x2" else _pack_f16)
    high, low = (text for text, _ in pairs)
    options = f"{ins.mod('round')!r}, {ins.has('satfinite')}, {ins.has('relu')}"
    text = f"{name}({high}, {low}, {options})"
    e.set(ins.operands[0], kind, "u", f"int({text})" if kind == "U" else text, 32)


def _pack_bf16(high: Any, low: Any, mode: str, satfinite: bool, relu: bool) -> Array:
    if mode == "rn" and not satfinite and not relu:
        a, b = np.asarray(high).view(U4), np.asarray(low).view(U4)
        upper = (a + U4(0x7FFF) + ((a >> U4(16)) & U4(1))) & U4(0xFFFF_0000)
        lower = (b + U4(0x7FFF) + ((b >> U4(16)) & U4(1))) >> U4(16)
        if not (np.asarray(high != high).any() or np.asarray(low != low).any()):
            return upper | lower
    codes = [bf16_bits(_relu(np.asarray(x, F4), relu), mode, satfinite).astype(U4) for x in (high, low)]
    return codes[0] << U4(16) | codes[1]


def _pack_f16(high: Any, low: Any, mode: str, satfinite: bool, relu: bool) -> Array:
    codes = [f16_bits(_relu(np.asarray(x, F4), relu), mode, satfinite).astype(U4) for x in (high, low)]
    return codes[0] << U4(16) | codes[1]


def _element(name: str) -> str:
    return name.removeprefix("u").removesuffix("x2").removesuffix("x4")


def encode_pair(high: Array, low: Array, name: str, rounding: Any = "nearest") -> Array:
    """Two f32 arrays as a packed pair of codes, `high` in the upper bits: uint8 for 4-bit codes, else uint16."""
    shape = np.broadcast_shapes(high.shape, low.shape)
    both = np.stack([np.broadcast_to(low, shape), np.broadcast_to(high, shape)])
    codes = fp4num.encode(both, name, rounding).astype(U2)
    if name == "e2m1":
        return (codes[0] | codes[1] << U2(4)).astype(U1)
    return codes[0] | codes[1] << U2(8)


@instruction("cvt", f"rn satfinite [relu] to={NARROW} from=f32", style="lane", section=SECTION, outputs=1)
def narrow_pair(ins: Instruction, high: Array, low: Array) -> Array:
    relu = ins.has("relu")
    return encode_pair(_relu(high.view(F4), relu), _relu(low.view(F4), relu), _element(ins.mod("to")))


@instruction("cvt", "rn satfinite [relu] to=e4m3x2|e5m2x2 from=f16x2|bf16x2", style="lane", section=SECTION, outputs=1)
def narrow_halves(ins: Instruction, pair: Array) -> Array:
    low, high = (widen_half(pair, shift, ins.mod("from")) for shift in (0, 16))
    relu = ins.has("relu")
    return encode_pair(_relu(high, relu), _relu(low, relu), _element(ins.mod("to")))


def widen_half(pair: Array, shift: int, name: str) -> Array:
    """One half of an f16x2 or bf16x2 register as f32."""
    half = (pair >> U4(shift)).astype(U2)
    return bf16_value(half) if name == "bf16x2" else half.view(F2).astype(F4)


@instruction("cvt", f"rn [relu] to=f16x2 from={NARROW}", style="lane", section=SECTION, outputs=1)
def widen_pair(ins: Instruction, codes: Array) -> Array:
    """Exact: every narrow value is an f16."""
    name = _element(ins.mod("from"))
    bits = 4 if name == "e2m1" else 8
    wide = codes.astype(U4)
    low, high = wide & U4((1 << bits) - 1), wide >> U4(bits) & U4((1 << bits) - 1)
    values = [_relu(fp4num.decode(part, name), ins.has("relu")) for part in (high, low)]
    halves = [f16_bits(value).astype(U4) for value in values]
    return halves[0] << U4(16) | halves[1]


@instruction("cvt", "round=rz|rp [satfinite] to=ue8m0x2 from=f32", style="lane", section=SECTION, outputs=1)
def narrow_scales(ins: Instruction, high: Array, low: Array) -> Array:
    rounding = "toward_zero" if ins.mod("round") == "rz" else "up"
    return encode_pair(high.view(F4), low.view(F4), "e8m0", rounding)


@instruction("cvt", "round=rz|rp [satfinite] to=ue8m0x2 from=bf16x2", style="lane", section=SECTION, outputs=1)
def narrow_scale_halves(ins: Instruction, pair: Array) -> Array:
    rounding = "toward_zero" if ins.mod("round") == "rz" else "up"
    return encode_pair(widen_half(pair, 16, "bf16x2"), widen_half(pair, 0, "bf16x2"), "e8m0", rounding)


@instruction("cvt", "rn to=bf16x2 from=ue8m0x2", style="lane", section=SECTION, outputs=1)
def widen_scales(ins: Instruction, codes: Array) -> Array:
    wide = codes.astype(U4)
    halves = [bf16_bits(fp4num.decode(part, "e8m0")).astype(U4) for part in (wide >> U4(8) & U4(255), wide & U4(255))]
    return halves[0] << U4(16) | halves[1]


@instruction(
    "cvt",
    "rs [relu] satfinite to=e2m1x4|e4m3x4|e5m2x4|e3m2x4|e2m3x4 f32",
    style="lane",
    operands="2",
    section=SECTION,
    outputs=1,
    targets=("sm_100a", "sm_103a"),
)
def stochastic(ins: Instruction, a: Array, b: Array, e: Array, f: Array, bits: Array) -> Array:
    """{a, b, e, f}: a in the highest position. Byte i of `bits` rounds the element in position i from the lowest."""
    name = _element(ins.mod("to"))
    shape = np.broadcast_shapes(a.shape, b.shape, e.shape, f.shape, bits.shape)
    result = np.zeros(shape, U4)
    width = 4 if name == "e2m1" else 8
    for position, source in enumerate((f, e, b, a)):
        value = _relu(np.broadcast_to(source.view(F4), shape), ins.has("relu"))
        noise = np.broadcast_to((bits >> U4(8 * position) & U4(255)).astype(U1), shape)
        codes = fp4num.encode(value, name, "stochastic", np.ascontiguousarray(noise))
        result |= codes.astype(U4) << U4(width * position)
    return result.astype(U2) if width == 4 else result


@instruction(
    "cvt",
    "rs [relu] [satfinite] to=f16x2|bf16x2 f32",
    style="lane",
    section=SECTION,
    outputs=1,
    targets=("sm_100a", "sm_103a"),
)
def stochastic_halves(ins: Instruction, high: Array, low: Array, bits: Array) -> Array:
    """The random bits are added below the last kept bit: 16 of them for bf16, 13 for f16, the high half's from the
    upper 16."""
    dropped = 16 if ins.mod("to") == "bf16x2" else 13
    codes: list[Array] = []
    for source, shift in ((high, 16), (low, 0)):
        value = _relu(source.view(F4), ins.has("relu"))
        noise = bits >> U4(shift) & U4((1 << dropped) - 1)
        moved = ((value.view(U4) + noise) & U4(~((1 << dropped) - 1) & 0xFFFF_FFFF)).view(F4)
        moved = np.where(np.isfinite(value), moved, value)
        pack = bf16_bits if dropped == 16 else f16_bits
        codes.append(pack(moved, "rz", ins.has("satfinite")).astype(U4))
    return codes[0] << U4(16) | codes[1]


@instruction("cvt.pack", "sat to=u16|s16 s32", style="lane", section="9.7.9.22", outputs=1)
def pack16(ins: Instruction, high: Array, low: Array) -> Array:
    codes = [saturated(x, "s32", ins.mod("to")).astype(U4) for x in (high, low)]
    return codes[0] << U4(16) | codes[1]


@instruction("cvt.pack", "sat to=u8|s8|u4|s4|u2|s2 s32 b32", style="lane", section="9.7.9.22", outputs=1)
def pack_into(ins: Instruction, high: Array, low: Array, rest: Array) -> Array:
    """The two saturated values become the low part, the low bits of `rest` move up."""
    to = ins.mod("to")
    bits = bits_of(to)
    low_limit, high_limit = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if to[0] == "s" else (0, (1 << bits) - 1)
    codes = [(np.clip(x.view(np.int32), low_limit, high_limit) & ((1 << bits) - 1)).astype(U4) for x in (high, low)]
    return rest << U4(2 * bits) | codes[0] << U4(bits) | codes[1]
