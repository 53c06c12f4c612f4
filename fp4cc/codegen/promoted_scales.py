"""Promotion as text, whatever the engine: where the factors of partial sums are found."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.fragments import Function
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.ir.lowered import LoweredKernel, PromotedScales


@dataclass(frozen=True, slots=True)
class FactorsText:
    """Where promoted sums find their factors.

    `by_column`: B has one for each of its rows, `bytes` of a step's, `bytes_of_half` of them for half the columns;
    `each_step`: some are of a step, not of all of K.
    """

    a_address: list[str]
    a_valid: str
    b_address: list[str]
    b_valid: str
    by_column: bool
    bytes: int
    bytes_of_half: int
    each_step: bool


def factors_text(lowered: LoweredKernel) -> FactorsText | None:
    """The factors; None where nothing is promoted."""
    if lowered.promotion is None:
        return None
    a, b = lowered.promotion.a, lowered.promotion.b
    first = first_of_b(lowered)
    return FactorsText(
        a_address=_address(a, "row" if a.reader.rows_of.numbers is None else _row_of(a)),
        a_valid=f"row < {a.rows}" if a.reader.rows_of.numbers is None else _there(a),
        b_address=_address(b, f"{first} + thread" if b.each_row else first),
        b_valid=f"{first} + thread < {b.rows}",
        by_column=b.each_row,
        bytes=4 * lowered.tile.n,
        bytes_of_half=4 * lowered.tile.n // 2,
        each_step=a.each_step or b.each_step,
    )


def first_of_b(lowered: LoweredKernel) -> str:
    """A tile's first column of the product; the epilogue counts those of a half where halves are interleaved."""
    return "n0" if lowered.epilogue.group is None else "tile_n * TILE_N"


def factors_by_batch(lowered: LoweredKernel) -> bool:
    """Whether a factor depends on the batch."""
    found = lowered.promotion
    return found is not None and any(each.reader.batched or each.reader.rows_of.by_batch for each in (found.a, found.b))


def factor_functions(lowered: LoweredKernel) -> list[Function]:
    """The functions that find scales; none where nothing is promoted."""
    texts: list[Function] = []
    for scales in (lowered.promotion.a, lowered.promotion.b) if lowered.promotion is not None else ():
        row, block = ReaderText(scales.arg, scales.reader).functions()
        texts += [row, block] if scales.each_step else [row]
    return texts


def _row_of(scales: PromotedScales) -> str:
    """The row of the argument that a row of the product is, by number."""
    pointer, place, _ = _numbers(scales)
    return f"load_b32(global_address({pointer}, {place}, 4), row < {scales.rows})"


def _there(scales: PromotedScales) -> str:
    """Whether there is one."""
    pointer, place, there = _numbers(scales)
    return f"is_row({pointer}, {place}, row < {scales.rows}, {there})"


def _numbers(scales: PromotedScales) -> tuple[str, str, str]:
    numbers = scales.reader.rows_of.numbers
    if numbers is None:
        raise TypeError(f"the rows of {scales.arg} have no numbers")
    place = "row" if numbers.each is None else f"Int64(batch) * {numbers.each} + row"
    return numbers.pointer, place, numbers.there


def _address(scales: PromotedScales, row: str) -> list[str]:
    """The arguments of `global_address` for an operand's scale of a row and this step."""
    reader = ReaderText(scales.arg, scales.reader)
    offset = reader.row_offset(row)
    if scales.each_step:
        offset += f" + {reader.block_offset('k_tile')}"
    return [scales.reader.param, offset, "4"]
