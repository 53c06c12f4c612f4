"""How much of a scale buffer no block owns: layouts of atoms fill whole atoms, for each batch anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4num import BlockFormat
from fp4num.formats import Grid

#: From this share on the padding is worth a remark: more of the buffer is padding than scales.
_MUCH = 0.5


@dataclass(frozen=True, slots=True)
class Padding:
    """The places of a scale buffer and those that no block owns, for a tensor of `grid` stored blocks."""

    fmt: BlockFormat
    grid: Grid
    size: int
    padding: int

    @classmethod
    def of(cls, fmt: BlockFormat, shape: Sequence[int]) -> Padding:
        """The padding of a tensor. Raises fp4num.DataError for a shape that the format cannot have."""
        grid = fmt.scale_grid(shape)
        return cls(fmt, grid, fmt.layout.size(*grid), fmt.layout.padding(*grid))

    @property
    def share(self) -> float:
        """The part of the buffer that is padding."""
        return self.padding / self.size if self.size else 0.0

    def __str__(self) -> str:
        return f"{self.padding} of {self.size} scales, {self.share:.0%} of the buffer"

    @property
    def remark(self) -> str:
        """Why there is so much of it, and what has less; empty where there is not much."""
        if self.share <= _MUCH:
            return ""
        layout, grid = self.fmt.layout, self.grid
        rows, columns = layout.extent("row"), layout.extent("k")
        which = "each batch has" if grid.batches > 1 else "the tensor has"
        text = f"{layout.name} fills whole atoms of {rows} x {columns} blocks, and {which} {grid.rows} x {grid.columns}"
        if grid.batches > 1 and grid.rows < rows:
            return f"{text}; batches as rows of one matrix, {grid.batches * grid.rows} of them, share atoms"
        return text
