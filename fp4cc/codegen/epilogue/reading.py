"""How an epilogue's inputs are read from memory, as text."""

from __future__ import annotations

from fp4cc.codegen.fragments import Call
from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.strides import bytes_text, offset, stride_text
from fp4cc.ir.lowered_epilogue import EpilogueInput, EpilogueProgram, RowNumbersInput

#: Bytes of an element, and the 32-bit conversion of integers.
WIDTHS = {"f32": 4, "i32": 4, "u32": 4, "bf16": 2, "f16": 2, "e4m3": 1, "e5m2": 1}


def column_text(leaf: EpilogueInput, column: str, step: int) -> str:
    """Where an input has the epilogue's `column`, which is a multiple of `step`."""
    return whole_index(leaf.half, column, "n_size", step)


def offset_text(program: EpilogueProgram, leaf: EpilogueInput, column: str = "column") -> str:
    """The elements before that of this batch and row, and of a column."""
    found = offset(
        program.problem,
        batch=(leaf.batch_stride, "batch"),
        row=(leaf.row_stride, "row"),
        column=(leaf.column_stride, column),
    )
    return f"{found} + {leaf.offset}" if leaf.offset else found


def stride_bytes(program: EpilogueProgram, leaf: EpilogueInput) -> str:
    """The bytes from one column to the next."""
    return bytes_text(WIDTHS[leaf.dtype], stride_text(program.problem, leaf.column_stride))


def load_text(leaf: EpilogueInput, where: str, valid: str) -> str:
    """The load of one element."""
    return f"load_{leaf.dtype}(global_address({leaf.param_name}, {where}, {WIDTHS[leaf.dtype]}), {valid})"


def numbered_row(numbers: RowNumbersInput) -> str:
    """The name of the number of this thread's row."""
    return f"{numbers.arg}_of_{numbers.source}" + (f"{numbers.place}" if numbers.place is not None else "")


def number_of_row(program: EpilogueProgram, numbers: RowNumbersInput, row: str) -> Call:
    """The load of that number, as `row`, and of whether there is such a row, as `row`_there."""
    place = offset(program.problem, batch=(numbers.batch_stride, "batch"), row=(numbers.row_stride, "row"))
    if numbers.offset:
        place += f" + {numbers.offset}"
    there = str(numbers.there) if isinstance(numbers.there, int) else numbers.count_name
    return Call(f"{row}, {row}_there = row_number", (numbers.param_name, place, "row_valid", there))
