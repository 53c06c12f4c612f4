"""Values of a column: each computed by the thread that stages it in shared memory, as f32, and read by all rows."""

from __future__ import annotations

from fp4cc.codegen.epilogue.construct import Construct
from fp4cc.codegen.epilogue.meeting import meet
from fp4cc.codegen.epilogue.reading import column_text, load_text, offset_text
from fp4cc.codegen.epilogue.values import ValuePrinter
from fp4cc.codegen.fragments import Block, Fragment, fragment
from fp4cc.ir.lowered_epilogue import COLUMNS_BUFFER, EPILOGUE_WARPS, EpilogueProgram

_THREADS = 32 * EPILOGUE_WARPS


class StagedColumns(Construct):
    """The column values that elements use."""

    name = "staged_columns"

    def per_tile(self) -> Fragment:
        if not self.program.staged:
            return ()
        inner = self.printer.child()
        lines = self._column_values(inner)
        columns = self.epilogue.statements("column")
        lines += inner.lines(columns, self.epilogue.named, self.program.staged, self.names)
        return self._staging(inner, lines)

    def lists(self) -> None:
        for value in self.program.staged:
            name = self.epilogue.vectors[value] = self.names.new(f"{self.epilogue.title(value)}_columns")
            address = staged_address(self.program, value, "column - n0")
            self.epilogue.steps.append(fragment(f"{name} = shared_load_32_f32({address})"))

    def _column_values(self, printer: ValuePrinter) -> list[str]:
        """Values of one column, for the thread that stages it."""
        lines: list[str] = []
        for leaf in self.epilogue.inputs("column"):
            column = column_text(leaf, "n0 + staged_column", 1)
            if leaf.half is not None and leaf.half.group is not None:
                name = self.names.new(f"{leaf.name}_column")
                lines.append(f"{name} = {column}")
                column = name
            text = load_text(leaf, offset_text(self.program, leaf, column), "in_range")
            printer.known[leaf.value] = self.names.new(leaf.name)
            lines.append(f"{printer.known[leaf.value]} = {text}")
        return lines

    def _staging(self, printer: ValuePrinter, values: list[str]) -> Fragment:
        """All columns of the tile staged by all threads, between barriers of the epilogue warps."""
        steps = -(-self.program.tile_n // _THREADS)
        # Where a tile's sums cross shared memory between them, the warps have met since.
        met = self.lowered.exchange is not None and self.lowered.exchange.between
        barrier = meet(self.lowered)
        each = [f"staged_column = thread + {_THREADS} * i", "in_range = n0 + staged_column < n_size", *values]
        for value in self.program.staged:
            address = staged_address(self.program, value, "staged_column")
            each.append(f"shared_store_f32({address}, {printer.known[printer.resolve(value)]})")
        return fragment(
            *([] if met else [f"{barrier}  # the last tile's columns have been read"]),
            Block(f"for i in cutlass.range_constexpr({steps}):", fragment(*each)),
            barrier,
        )


def staged_address(program: EpilogueProgram, value: int, column: str) -> str:
    """Where a staged value of a column of the tile is in shared memory."""
    first = program.staged.index(value) * (-(-program.tile_n // _THREADS) * _THREADS)
    place = f"({first} + {column})" if first else column if column.isidentifier() else f"({column})"
    return f"shared_address({COLUMNS_BUFFER}) + 4 * {place}"
