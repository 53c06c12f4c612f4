"""cvt (PTX ISA 9.7.9.21) and cvt.pack (9.7.9.22).

Narrow formats go through `fp4num`, which is the definition of their codecs in this project (and is tested against
ml_dtypes).
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fp4num
from fp4emu.builder import Builder
from fp4emu.instruction import Instruction, Operand, Register
from fp4emu.isa.integer import bits_of
from fp4emu.registry import instruction
from fp4emu.representation import SIGNED, UNSIGNED, join, width_of
from fp4emu.values import F2, F4, F8, U1, U2, U4, Array, bf16_bits, bf16_value, directed32, f16_bits

SECTION = "9.7.9.21"
INTS = "u8|u16|u32|u64|s8|s16|s32|s64"
FP = "f16|f32|f64|bf16"
INT_ROUND = "round=rni|rzi|rmi|rpi"
NARROW = "e4m3x2|e5m2x2|e2m1x2|e2m3x2|e3m2x2"


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


@instruction("cvt", f"[sat] to=u8|u16|u32|u64|s8|s16|s32|s64 from={INTS}", style="emit", section=SECTION, outputs=1)
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
        text = e.assign(f"{e.constant(_saturated)}({array}, {frm!r}, {to!r})")
        if kind == "U":
            text = e.assign(f"int({text}[0, 0])")
    else:
        text = e.assign(resize(e, text, kind, source_bits, target_bits, frm[0] == "s"))
    out = _register_bits(e, ins.operands[0])
    e.set(ins.operands[0], kind, "u", resize(e, text, kind, target_bits, out, to[0] == "s"), out)


def _saturated(x: Array, frm: str, to: str) -> Array:
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


@instruction("cvt", f"{INT_ROUND} [ftz] [sat] to={INTS} from={FP}", style="emit", section=SECTION, outputs=1)
def float_to_integer(e: Builder, ins: Instruction) -> None:
    """Out of range values clamp to the destination's range; a NaN gives 0."""
    to = ins.mod("to")
    text, kind = _float_source(e, ins.operands[1], ins.mod("from"))
    if ins.has("ftz"):
        text = e.assign(f"flush({text})")
    result = e.assign(f"{e.constant(_to_integer)}({text}, {ins.mod('round')!r}, {to!r})")
    if kind == "U":
        result = e.assign(f"int({result}[()])")
    bits, out = bits_of(to), _register_bits(e, ins.operands[0])
    e.set(ins.operands[0], kind, "u", resize(e, result, kind, bits, out, to[0] == "s"), out)


def _to_integer(x: Any, mode: str, to: str) -> Array:
    whole = _INTEGRAL[mode](np.asarray(x).astype(F8))
    bits = bits_of(to)
    signed = to[0] == "s"
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1)) if signed else (0.0, 2.0**bits)
    over, under = whole >= high, whole < low
    safe = np.where(over | under | (whole != whole), 0.0, whole)
    kind = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    top = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    result = np.where(over, kind.type(top), np.where(under, kind.type(int(low)), safe.astype(kind)))
    return result.view(f"u{bits // 8}")


@instruction("cvt", f"round=rn|rz|rm|rp [ftz] [sat] to={FP} from={INTS}", style="emit", section=SECTION, outputs=1)
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
    if to == "f64":
        return typed.astype(F8)
    wide = typed.astype(F8)
    if typed.dtype.itemsize == 8:
        # Keep what f64 drops as a sticky bit, so that the next rounding is exact.
        back = np.where(np.abs(wide) < 2.0**63, wide, 0.0).astype(np.int64)
        rest = typed.astype(np.int64) - back
        wide = np.where(
            (rest != 0) & (np.abs(wide) < 2.0**63), np.nextafter(wide, np.where(rest > 0, np.inf, -np.inf)), wide
        )
    if to == "f32":
        return directed32(wide, mode)
    return f16_bits(wide, mode).view(F2) if to == "f16" else bf16_bits(wide.astype(F4), mode)


def _put_float(e: Builder, operand: Operand, text: str, kind: str, to: str) -> None:
    """Stores a float result (bf16: its codes) that a helper computed on arrays."""
    bits = 16 if to == "bf16" else bits_of(to)
    rep = "u" if to == "bf16" else "f"
    if kind == "U":
        text = f"int({text}[0, 0])" if rep == "u" else f"{text}[0, 0]"
    e.set(operand, kind, rep, text, bits)


@instruction(
    "cvt",
    "[round=rn|rz|rm|rp|rna|rni|rzi|rmi|rpi] [ftz] [relu] [satfinite] [sat] to=f16|f32|f64|bf16|tf32 "
    "from=f16|f32|f64|bf16",
    style="emit",
    section=SECTION,
    outputs=1,
)
def float_to_float(e: Builder, ins: Instruction) -> None:
    to, frm, mode = ins.mod("to"), ins.mod("from"), ins.mod("round")
    text, kind = _float_source(e, ins.operands[1], frm)
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
        return bf16_bits(x, mode, satfinite)
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
    if satfinite:
        over = (code & U4(0x7FFF_FFFF)) >= U4(0x7F80_0000)
        code = np.where(over, (code & U4(0x8000_0000)) | U4(0x7F7F_E000), code)
    return np.where(x == x, code, U4(0x7FFF_FFFF))


# --- packed formats ---


def _relu(x: Array, wanted: bool) -> Array:
    return np.where(x > 0, x, np.where(x == x, F4(0), x)) if wanted else x


@instruction("cvt", "round=rn|rz [relu] [satfinite] to=f16x2|bf16x2 f32", style="emit", section=SECTION, outputs=1)
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
    codes = [_saturated(x, "s32", ins.mod("to")).astype(U4) for x in (high, low)]
    return codes[0] << U4(16) | codes[1]


@instruction("cvt.pack", "sat to=u8|s8|u4|s4|u2|s2 s32 b32", style="lane", section="9.7.9.22", outputs=1)
def pack_into(ins: Instruction, high: Array, low: Array, rest: Array) -> Array:
    """The two saturated values become the low part, the low bits of `rest` move up."""
    to = ins.mod("to")
    bits = bits_of(to)
    low_limit, high_limit = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if to[0] == "s" else (0, (1 << bits) - 1)
    codes = [(np.clip(x.view(np.int32), low_limit, high_limit) & ((1 << bits) - 1)).astype(U4) for x in (high, low)]
    return rest << U4(2 * bits) | codes[0] << U4(bits) | codes[1]
