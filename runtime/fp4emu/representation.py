"""What generated code knows of a value: how it varies over lanes, and the expressions that hold it.

A value may be known in several representations: "u" unsigned bits, "s" signed, "f" the float of its width, "b" a
predicate. Each is converted once in a block (`fp4emu.builder`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

ORDER = {"U": 0, "W": 1, "V": 2}
WIDTHS = {
    "pred": 1,
    "b8": 8,
    "u8": 8,
    "s8": 8,
    "f16": 16,
    "bf16": 16,
    "f16x2": 32,
    "bf16x2": 32,
    "f32": 32,
    "f64": 64,
    "b128": 128,
}
UNSIGNED = {8: "U1", 16: "U2", 32: "U4", 64: "U8"}
SIGNED = {16: "S2", 32: "S4", 64: "S8"}
FLOATS = {16: "F2", 32: "F4", 64: "F8"}


def width_of(register_type: str) -> int:
    """Bits of a register type."""
    return WIDTHS.get(register_type) or int(register_type[1:])


@dataclass(slots=True)
class Value:
    """What a register holds in the block being built: `reps` maps a representation to the Python expression (a name
    or a literal)."""

    kind: str
    bits: int
    reps: dict[str, str] = field(default_factory=dict[str, str])
    parts: tuple[Value, Value] | None = None
    elect: str = ""


def computed(value: Value) -> bool:
    """Whether a value may be held as a float alone: the result of arithmetic, or a constant that is no NaN. Any other
    float may be a NaN with a payload, which only its bits keep."""
    if "f" not in value.reps or value.parts:
        return False
    bits = value.reps.get("u")
    if bits is None:
        return True
    exponent = {16: 0x7C00, 32: 0x7F80_0000, 64: 0x7FF0_0000_0000_0000}.get(value.bits)
    return exponent is not None and bits.isdigit() and int(bits) & exponent != exponent


def join(*kinds: str) -> str:
    """The least kind that holds all."""
    return max(kinds, key=ORDER.__getitem__) if kinds else "U"


@dataclass(frozen=True, slots=True)
class Context:
    """What a block is specialised for besides its registers.

    `mask` is "F" (all live lanes), "E" (lane 0 of each warp) or "D" (the array `g.mask`); `keep` the bit set of
    registers that other paths of the group read.
    """

    single_row: bool
    single_cta: bool
    single_rank: bool
    mask: str
    keep: int
