"""Which 16-bit type holds an operand's values exactly, so that warps can convert it on the way in."""

from __future__ import annotations

from typing import Literal

from fp4cc.ir.lowered import Operand
from fp4num.elements import ElementFormat, element

Wide = Literal["f16", "bf16"]
#: Preferred first: on sm_100a a four-bit pair becomes f16 with one instruction.
WIDE: tuple[Wide, ...] = ("f16", "bf16")
_SMALL = ("e4m3", "e5m2")


def why_not_held(operand: Operand, to: Wide) -> str | None:
    """Why a 16-bit type does not hold every value of an operand (element times block scale); None if it does."""
    if operand.scaled:
        return _scaled(operand, element(to))
    if operand.element == to or operand.element in _SMALL:
        return None
    wide, own = element(to), element(operand.element)
    if own.mantissa_bits > wide.mantissa_bits:
        return f"{own.name} has {own.mantissa_bits + 1} significant bits, and {to} {wide.mantissa_bits + 1}"
    return f"{own.name} reaches {own.max:.2g}, and {to} {wide.max:.5g}"


def _scaled(operand: Operand, wide: ElementFormat) -> str | None:
    fmt, to = operand.format, wide.name
    if fmt.scale is None:
        return None
    own, scale = element(fmt.element), element(fmt.scale)
    if fmt.scale == "f32":
        return f"`{fmt.name}` has f32 scales, and {to} {wide.mantissa_bits + 1} significant bits"
    if fmt.scale == "e8m0":
        # bf16 has the exponents of f32, in which the reference decodes.
        return f"an e8m0 scale reaches 2^127, and {to} {wide.max:.5g}" if wide.exponent_bits < 8 else None
    significant = own.mantissa_bits + scale.mantissa_bits + 2
    if significant > wide.mantissa_bits + 1:
        return f"{own.name} times {scale.name} has {significant} significant bits, and {to} {wide.mantissa_bits + 1}"
    if own.max * scale.max > wide.max:
        return f"{own.name} times {scale.name} reaches {own.max * scale.max:.6g}, and {to} {wide.max:.5g}"
    return None
