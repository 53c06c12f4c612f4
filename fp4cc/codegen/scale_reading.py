"""Reading an operand's scales from global memory, as text: the layout's functions, and how they are called."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.fragments import Function
from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.scale_layout import LayoutText, divided
from fp4cc.ir.lowered_reading import Rows, ScaleReader


@dataclass(frozen=True, slots=True)
class ReaderText:
    """A reader as text. `name` is the operand's in the emitted file."""

    name: str
    reader: ScaleReader

    @property
    def names(self) -> tuple[str, str]:
        """The functions that it defines."""
        return f"{self.name}_row_offset", f"{self.name}_block_offset"

    def functions(self) -> list[Function]:
        """Where a row's scales lie, and how far from there that of a block."""
        layout = self._layout
        return [layout.row_function(self.names[0]), layout.block_function(self.names[1])]

    @property
    def arguments(self) -> list[str]:
        """What the calls below need in their scope, by these names: the pointer, the batch, sizes."""
        reader = self.reader
        wanted = (*names_of(reader.rows_of), reader.batches, reader.rows, reader.blocks)
        names = [*(["batch"] if reader.batched else []), *(name for name in wanted if name is not None)]
        return list(dict.fromkeys(names))

    def row_offset(self, row: str) -> str:
        """The offset of a row's scales. `row` is a name, or a sum."""
        reader = self.reader
        row = whole_row(reader.rows_of, row)
        if reader.tall is None:
            row = "0"
        elif reader.tall > 1:
            row = divided(row if row.isidentifier() else f"({row})", reader.tall)
        batch = ["batch"] if reader.batched else []
        return f"{self.names[0]}({', '.join([*batch, row, *self._sizes(self._layout.row_counts())])})"

    def block_offset(self, k: str) -> str:
        """How far further on the scale of block k lies."""
        return f"{self.names[1]}({', '.join([k, *self._sizes(self._layout.block_counts())])})"

    @property
    def _layout(self) -> LayoutText:
        return LayoutText(self.reader.layout, self.reader.batched)

    def _sizes(self, counts: tuple[str, ...]) -> list[str]:
        sizes = {"batches": self.reader.batches, "rows": self.reader.rows, "blocks": self.reader.blocks}
        return [str(sizes[count]) for count in counts]


def names_of(rows: Rows) -> list[str]:
    """What finding a row takes of the kernel, by its names there."""
    numbers = rows.numbers
    if numbers is None:
        return [] if rows.first is None else [rows.first]
    return [*(["batch", numbers.each] if numbers.each is not None else []), numbers.pointer, numbers.there]


def row_lines(rows: Rows, valid: str) -> list[str]:
    """What makes `row`, one of the operand's, that of the argument, and `inside`, whether there is one."""
    numbers = rows.numbers
    if numbers is None:
        return [f"inside = {valid}"]
    place = "row" if numbers.each is None else f"Int64(batch) * {numbers.each} + row"
    return [f"row, inside = row_number({numbers.pointer}, {place}, {valid}, {numbers.there})"]


def whole_row(rows: Rows, row: str) -> str:
    """The number in its argument of an operand's row."""
    if rows.half is not None:
        return whole_index(rows.half, row, "", step=1)
    return row if rows.first is None else f"{row} + {rows.first}"
