"""Inputs whose rows are read by number, as text: the number of this thread's row, then what that row has."""

from __future__ import annotations

from fp4cc.codegen.epilogue.construct import Construct
from fp4cc.codegen.epilogue.reading import WIDTHS, number_of_row, numbered_row
from fp4cc.codegen.fragments import Block, Fragment, fragment
from fp4cc.codegen.strides import stride_text
from fp4cc.ir.lowered_epilogue import EpilogueInput, RowNumbersInput


class Gathered(Construct):
    """A number is loaded once a tile, but where lanes share rows: there they have another row in each step."""

    name = "gathered"

    def rows(self) -> Fragment:
        if self.program.by_lanes:
            return ()
        found: list[Fragment] = [self._number(leaf) for leaf in self._first()]
        for leaf in self._leaves():
            if leaf.column_stride == 0:
                row, width = self._row(leaf), WIDTHS[leaf.dtype]
                address = f"global_address({leaf.param_name}, {row}, {width})"
                self.printer.known[leaf.value] = self.names.new(leaf.name)
                load = f"{self.printer.known[leaf.value]} = load_{leaf.dtype}({address}, {row}_there)"
                found.append(fragment(load))
        return fragment(*found)

    def lists(self) -> None:
        if self.program.by_lanes:
            self.epilogue.steps += [self._number(leaf) for leaf in self._first()]
        for leaf in self._leaves():
            if leaf.column_stride != 0:
                self.epilogue.steps.append(self._columns(leaf))

    def _leaves(self) -> list[EpilogueInput]:
        return self.epilogue.inputs("gathered")

    def _first(self) -> list[EpilogueInput]:
        """A leaf for each way in which rows are numbered."""
        return list({self._row(leaf): leaf for leaf in self._leaves()}.values())

    def _number(self, leaf: EpilogueInput) -> Fragment:
        return fragment(number_of_row(self.program, self._numbers(leaf), self._row(leaf)))

    def _columns(self, leaf: EpilogueInput) -> Fragment:
        """This thread's columns of the row."""
        row, width, left = self._row(leaf), WIDTHS[leaf.dtype], "n_size - column"
        name = self.epilogue.vectors[leaf.value] = self.names.new(f"{leaf.name}_columns")
        address = self.names.new(f"{leaf.name}_address")
        where = f"Int64({row}) * {stride_text(self.program.problem, leaf.row_stride)} + column"
        found = f"{address} = global_address({leaf.param_name}, {where}, {width})"
        valid, count = f"{row}_there", self.program.subtile
        one_by_one = f"{name} = load_elements(load_{leaf.dtype}, {address}, {width}, {left}, {valid})"
        if leaf.vector is None:
            return fragment(found, one_by_one)
        at_once = f"{name} = load_vectors(unpack_{leaf.dtype}, {address}, {width}, {left}, {valid})"
        if leaf.vector is True:
            return fragment(found, at_once)
        either = Block(f"if {leaf.flag} != 0:", fragment(at_once), fragment(one_by_one))
        return fragment(found, f"{name} = [Float32(0.0)] * {count}", either)

    def _row(self, leaf: EpilogueInput) -> str:
        """The name of a row's number."""
        return numbered_row(self._numbers(leaf))

    def _numbers(self, leaf: EpilogueInput) -> RowNumbersInput:
        if leaf.numbers is None:
            raise TypeError(f"{leaf.name} has no numbers of rows")
        return leaf.numbers
