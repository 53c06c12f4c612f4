"""Instruction descriptors of tcgen05.mma: the 32 bits that name types, shape and scale ids (PTX ISA, "Instruction
descriptor").

Bits, for kinds without block scaling: 0-1 sparsity selector, 2 sparse, 3 saturate, 4-5 type of D, 7-9 type of A, 10-12
type of B, 13 negate A, 14 negate B, 15 transpose A, 16 transpose B, 17-22 N >> 3, 24-28 M >> 4, 30-31 maximum shift
(.ws). With block scaling: 4-5 scale id of B, 23 scale type, 29-30 scale id of A, 31 K dimension (sm_103a).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fp4emu import operands
from fp4emu.errors import Fault
from fp4emu.operands import Element

_F16_TYPES: dict[int, Element] = {0: operands.F16, 1: operands.BF16}
_TF32_TYPES: dict[int, Element] = {2: operands.TF32}
_F8_TYPES: dict[int, Element] = {
    0: operands.E4M3,
    1: operands.E5M2,
    3: operands.E2M3_PADDED,
    4: operands.E3M2_PADDED,
    5: operands.E2M1_PADDED,
}
_I8_TYPES: dict[int, Element] = {0: operands.U8, 1: operands.S8}
_F4_TYPES: dict[int, Element] = {1: operands.E2M1}

_TYPES: dict[str, dict[int, Element]] = {
    "f16": _F16_TYPES,
    "tf32": _TF32_TYPES,
    "f8f6f4": _F8_TYPES,
    "i8": _I8_TYPES,
    "mxf8f6f4": _F8_TYPES,
    "mxf4": _F4_TYPES,
    "mxf4nvf4": _F4_TYPES,
}
_D_TYPES: dict[str, dict[int, str]] = {
    "f16": {0: "f16", 1: "f32"},
    "tf32": {1: "f32"},
    "f8f6f4": {0: "f16", 1: "f32"},
    "i8": {2: "s32"},
}
_K: dict[str, int] = {"f16": 16, "tf32": 8, "f8f6f4": 32, "i8": 32, "mxf8f6f4": 32, "mxf4": 64, "mxf4nvf4": 64}

# Scale vectors: (kind, elements a scale) -> scale types that the hardware takes there.
_SCALES: dict[tuple[str, int], tuple[str, ...]] = {
    ("mxf8f6f4", 32): ("ue8m0",),
    ("mxf4", 32): ("ue8m0",),
    ("mxf4nvf4", 32): ("ue8m0",),
    ("mxf4nvf4", 16): ("ue4m3", "ue8m0"),
}


@dataclass(frozen=True, slots=True)
class MmaShape:
    """A decoded instruction descriptor: D[m, n] += A[m, k] * B[n, k]. `scale` and the fields after it: block scaling
    only."""

    kind: str
    m: int
    n: int
    k: int
    a: Element
    b: Element
    d: str
    negate_a: bool
    negate_b: bool
    transpose_a: bool
    transpose_b: bool
    saturate: bool = False
    scale: str = ""
    block: int = 0
    id_a: int = 0
    id_b: int = 0


@lru_cache(maxsize=1024)
def decode(value: int, kind: str, group: int, block: int, ws: bool = False) -> MmaShape:
    """Decodes and checks a descriptor for `.kind::<kind>.cta_group::<group>`; `block` elements a scale, or 0."""
    what = f"instruction descriptor {value:#010x} for kind::{kind}"
    types = _TYPES[kind]
    # B's type has two bits for the 4-bit kinds; bit 12 is ignored there, and the CuTe DSL does set it.
    code_a, code_b = value >> 7 & 7, value >> 10 & (3 if kind.startswith("mxf4") else 7)
    a, b = types.get(code_a), types.get(code_b)
    if a is None or b is None:
        raise Fault(
            f"{what}: operand type codes {code_a} (A) and {code_b} (B); legal codes are {sorted(types)}",
            hint="the descriptor was built for another kind",
        )
    if value >> 2 & 1 or value & 3:
        raise Fault(f"{what}: sparse matrices are not modelled")
    transpose_a, transpose_b = bool(value >> 15 & 1), bool(value >> 16 & 1)
    for name, transposed, element in (("A", transpose_a, a), ("B", transpose_b, b)):
        if transposed and element.bits < 8:
            raise Fault(f"{what}: {name} is MN-major, which {element.name} elements cannot be")
    m, n = (value >> 24 & 31) << 4, (value >> 17 & 63) << 3
    _check_shape(what, kind, m, n, group, ws)
    k = _K[kind]
    negate_a, negate_b = bool(value >> 13 & 1), bool(value >> 14 & 1)
    if kind == "i8" and (negate_a or negate_b):
        raise Fault(f"{what}: integer operands cannot be negated")
    if not block:
        if value >> 6 & 1 or value >> 23 & 1 or value >> 29 & 1 or (value >> 30 and not ws):
            raise Fault(f"{what}: reserved bits are set")
        if value >> 30:
            raise Fault(f"{what}: a maximum shift is not modelled")
        d = _D_TYPES[kind].get(value >> 4 & 3)
        if d is None:
            raise Fault(f"{what}: type code {value >> 4 & 3} of D; legal codes are {sorted(_D_TYPES[kind])}")
        saturate = bool(value >> 3 & 1)
        if saturate and kind != "i8":
            raise Fault(f"{what}: only integer kinds saturate")
        return MmaShape(kind, m, n, k, a, b, d, negate_a, negate_b, transpose_a, transpose_b, saturate)
    if value >> 3 & 1 or value >> 6 & 1:
        raise Fault(f"{what}: reserved bits are set")
    scales = _SCALES.get((kind, block))
    scale = "ue8m0" if value >> 23 & 1 else "ue4m3"
    if scales is None or scale not in scales:
        raise Fault(
            f"{what}: {scale} scales for blocks of {block}; kind::{kind} takes "
            + " and ".join(f"{'/'.join(s)} for blocks of {size}" for (k_, size), s in _SCALES.items() if k_ == kind),
        )
    if value >> 31 & 1:
        if kind == "mxf8f6f4":
            raise Fault(f"{what}: K = 96 (bit 31) is for the 4-bit kinds")
        k = 96
    id_a, id_b = value >> 29 & 3, value >> 4 & 3
    _check_ids(what, id_a, id_b, k // block, k == 96)
    return MmaShape(
        kind, m, n, k, a, b, "f32", negate_a, negate_b, transpose_a, transpose_b, False, scale, block, id_a, id_b
    )


def _check_ids(what: str, id_a: int, id_b: int, count: int, wide: bool) -> None:
    """A scale id is the byte of the 32-bit word at which an operand's scales of this instruction begin."""
    for name, found in (("A", id_a), ("B", id_b)):
        legal = (
            (0, 2) if wide and count == 6 else (0, 1, 2, 3) if wide or count == 1 else (0, 2) if count == 2 else (0,)
        )
        if found not in legal:
            raise Fault(
                f"{what}: scale id {found} of {name}; with {count} scales a row it is one of {legal}",
                hint="bits 30-31 of the scale address in tensor memory carry the id",
            )


def _check_shape(what: str, kind: str, m: int, n: int, group: int, ws: bool) -> None:
    scaled = kind.startswith("mx")
    if ws:
        legal = m in (32, 64, 128) and n in (64, 128, 256) and not scaled and group == 1
        rule = "M 32, 64 or 128; N 64, 128 or 256; cta_group::1"
    elif group == 1 and scaled:
        legal, rule = m == 128 and n % 8 == 0 and 8 <= n <= 256, "M 128; N 8, 16, ... 256"
    elif scaled:
        legal, rule = m in (128, 256) and n % 16 == 0 and 16 <= n <= 256, "M 128 or 256; N 16, 32, ... 256"
    elif kind == "i8" and group == 1:
        legal = m in (64, 128) and (n in (8, 24) and m == 64 or n == 8 or n % 16 == 0) and 8 <= n <= 256
        rule = "M 64 or 128; N 8, 16, 32, 48, ... 256"
    elif kind == "i8":
        legal, rule = m in (128, 256) and n % 32 == 0 and 32 <= n <= 256, "M 128 or 256; N 32, 64, ... 256"
    elif group == 1:
        legal = m == 64 and n % 8 == 0 and 8 <= n <= 256 or m == 128 and n % 16 == 0 and 16 <= n <= 256
        rule = "M 64 with N 8, 16, ... 256; M 128 with N 16, 32, ... 256"
    else:
        legal, rule = m in (128, 256) and n % 16 == 0 and 16 <= n <= 256, "M 128 or 256; N 16, 32, ... 256"
    if not legal:
        raise Fault(f"{what}: shape {m} x {n} with cta_group::{group} is illegal", hint=f"legal: {rule}")
