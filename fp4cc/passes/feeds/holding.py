"""Which 16-bit type holds an operand's values exactly, so that warps can convert it on the way in."""

from __future__ import annotations

from typing import Literal

from fp4cc.ir.lowered import Operand
from fp4num import BlockFormat
from fp4num.elements import ElementFormat, element

Wide = Literal["f16", "bf16"]
#: Preferred first: on sm_100a a four-bit pair becomes f16 with one instruction.
WIDE: tuple[Wide, ...] = ("f16", "bf16")
_SMALL = ("e4m3", "e5m2")


def why_not_held(operand: Operand, to: Wide) -> str | None:
    """Why a 16-bit type does not hold every value of an operand (element times block scale); None if it does."""
    if operand.scaled:
        return why_not_dequantized(operand.format, to)
    if operand.element == to or operand.element in _SMALL:
        return None
    wide, own = element(to), element(operand.element)
    if own.mantissa_bits > wide.mantissa_bits:
        return f"{own.name} has {own.mantissa_bits + 1} significant bits, and {to} {wide.mantissa_bits + 1}"
    return f"{own.name} reaches {own.max:.2g}, and {to} {wide.max:.5g}"


def why_not_dequantized(fmt: BlockFormat, to: Wide) -> str | None:
    """Why a 16-bit type does not hold every element of a format times every scale; None if it does.

    What reaches 2^128 is infinite in bf16 as it is in f32, in which an operand beside a plain one is decoded.
    """
    if fmt.scale is None:
        return None
    wide, own, scale = element(to), element(fmt.element), element(fmt.scale)
    if fmt.scale == "f32":
        return f"`{fmt.name}` has f32 scales, and {to} {wide.mantissa_bits + 1} significant bits"
    significant = own.mantissa_bits + scale.mantissa_bits + (2 if scale.mantissa_bits else 1)
    if significant > wide.mantissa_bits + 1:
        return f"{own.name} times {scale.name} has {significant} significant bits, and {to} {wide.mantissa_bits + 1}"
    f32 = element("f32")
    if own.max * scale.max > wide.max and wide.exponent_bits < f32.exponent_bits:
        return f"{own.name} times {scale.name} reaches {own.max * scale.max:.6g}, and {to} {wide.max:.5g}"
    step, least = _least(own) + _least(scale), _least(wide)
    if step < least:
        return f"{own.name} times {scale.name} has steps of 2^{step}, and {to} of 2^{least} at the least"
    return None


def _least(e: ElementFormat) -> int:
    """The exponent of a format's smallest number, of which all others are multiples."""
    return -e.bias if e.name == "e8m0" else 1 - e.bias - e.mantissa_bits
