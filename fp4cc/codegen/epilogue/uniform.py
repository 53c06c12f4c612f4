"""Random numbers of an epilogue: made by logical index, the same whatever the tiles are."""

from __future__ import annotations

from fp4cc.codegen.epilogue.construct import Construct
from fp4cc.codegen.epilogue.reading import column_text
from fp4cc.codegen.fragments import Fragment, fragment
from fp4cc.ir.lowered_epilogue import EpilogueInput


class Uniform(Construct):
    """The random numbers of the spec, 32 columns at a time."""

    name = "uniform"

    def lists(self) -> None:
        both: dict[int, str] = {}  # the names of 64 columns that hold two halves
        for leaf in self.epilogue.inputs("uniform"):
            half, name = leaf.half, f"{leaf.name}_columns"
            if half is None or half.adjacent:
                first = column_text(leaf, "column", self.program.subtile)
                name = self.epilogue.vectors[leaf.value] = self.names.new(name)
                self.epilogue.steps.append(fragment(f"{name} = {self._random(leaf, first)}"))
                continue
            whole = self.kernel.values[leaf.value].operands[0]
            if whole not in both:
                both[whole] = self.names.new(f"{leaf.source}_both")
                self.epilogue.steps.append(self._both(leaf, both[whole]))
            name = self.epilogue.vectors[leaf.value] = self.names.new(name)
            self.epilogue.steps.append(fragment(f"{name} = half_of({both[whole]}, {half.group}, {half.part})"))

    def _both(self, leaf: EpilogueInput, name: str) -> Fragment:
        """The 64 columns that hold 32 of each half."""
        first, second = self._random(leaf, "2 * column"), self._random(leaf, "2 * column + 32")
        return fragment(f"{name} = {first}", f"{name} += {second}")

    def _random(self, leaf: EpilogueInput, first: str) -> str:
        """32 random numbers of this row, the first of them of column `first`."""
        if leaf.row_stride == 1:  # drawn for the transposed axes: an element's neighbors are in other rows
            batch = "Int64(batch) * n_size + " if self.program.problem.batch_axes else "Int64(0) + "
            index = f"({batch}{first}) * m_size + row"
            return f"uniform_across({leaf.param_name}_words, {leaf.stream}, {index}, m_size)"
        batch = "Int64(batch) * m_size + row" if self.program.problem.batch_axes else "Int64(row)"
        index = f"({batch}) * {'n_size' if leaf.half is None else '2 * n_size'} + {first}"
        return f"uniform_columns({leaf.param_name}_words, {leaf.stream}, {index}, {leaf.vector is True})"
