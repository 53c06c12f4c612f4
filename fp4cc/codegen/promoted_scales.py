"""f32 scales as text, for the kernels that promote partial sums."""

from __future__ import annotations

from fp4cc.codegen.fragments import Function
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.ir.lowered import PromotedScales, Promotion


def factor_address(scales: PromotedScales, row: str) -> list[str]:
    """The arguments of `global_address` for an operand's scale of a row and this step."""
    reader = ReaderText(scales.arg, scales.reader)
    offset = reader.row_offset(row)
    if scales.each_step:
        offset += f" + {reader.block_offset('k_tile')}"
    return [scales.reader.param, offset, "4"]


def factor_functions(promotion: Promotion) -> list[Function]:
    """The functions that find scales."""
    texts: list[Function] = []
    for scales in (promotion.a, promotion.b):
        row, block = ReaderText(scales.arg, scales.reader).functions()
        texts += [row, block] if scales.each_step else [row]
    return texts
