"""Scale layouts as text: functions of an emitted kernel that say where the scale of a block lies.

An offset is a sum of parts, one for each coordinate (`fp4num.ScaleLayout`): the atoms before its own along the
coordinate, and its place inside its atom. So what depends on the row can be computed once for all its blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4cc.codegen.fragments import Function, fragment
from fp4num import ScaleLayout

#: The parameter with the number of stored scales along a coordinate.
COUNTS = {"batch": "batches", "row": "rows", "k": "blocks"}


@dataclass(frozen=True, slots=True)
class LayoutText:
    """A layout's function of `batch`, `row` and `k`; where the tensor has no batches (`batched`), of the last two.

    `counts` are the parameters for the extents of the grid that the function takes: those that some offset depends on.
    """

    layout: ScaleLayout
    batched: bool

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The coordinates that it takes."""
        return ("batch", "row", "k") if self.batched else ("row", "k")

    @property
    def counts(self) -> tuple[str, ...]:
        """See above."""
        return self._counts(self.coordinates)

    def offset_function(self, name: str) -> Function:
        """A function `name` with the offset of one scale."""
        doc = f"Where layout {self.layout.name} has the scale of block k of a row."
        return self._function(name, doc, self.coordinates)

    def row_function(self, name: str) -> Function:
        """A function `name` with the part of the offset that does not depend on k."""
        coordinates = tuple(c for c in self.coordinates if c != "k")
        return self._function(name, f"Where layout {self.layout.name} has the first scale of a row.", coordinates)

    def block_function(self, name: str) -> Function:
        """A function `name` with the part of the offset that depends on k."""
        return self._function(name, "How far from a row's first scale that of block k lies.", ("k",))

    def row_counts(self) -> tuple[str, ...]:
        """The counts that the row function takes."""
        return self._counts(tuple(c for c in self.coordinates if c != "k"))

    def block_counts(self) -> tuple[str, ...]:
        """The counts that the block function takes."""
        return self._counts(("k",))

    def _function(self, name: str, doc: str, coordinates: Sequence[str]) -> Function:
        counts = self._counts(coordinates)
        # Multiplied from the left, so that every product has 64 bits.
        atoms = [" * ".join([f"Int64({divided(c, self.layout.extent(c))})", *self._stride(c)]) for c in coordinates]
        inside = [term for c in coordinates for term in _inside(self.layout, c)]
        lines = [
            f"{self._atoms(c)} = {rounded_up(COUNTS[c], self.layout.extent(c))}"
            for c in COUNTS
            if COUNTS[c] in counts and self.layout.extent(c) > 1
        ]
        if inside:
            lines.append(f"atom = {' + '.join(atoms)}")
            atoms = ["atom"]
        body = fragment(*lines, f"return {' + '.join([*atoms, *inside])}")
        return Function(name, (*coordinates, *counts), doc, body)

    def _stride(self, coordinate: str) -> list[str]:
        """The factors of the distance between atoms that are neighbors along a coordinate."""
        size = [] if self.layout.atom_size == 1 else [str(self.layout.atom_size)]
        return [*size, *(self._atoms(c) for c in self.layout.nearer(coordinate) if c in self.coordinates)]

    def _atoms(self, coordinate: str) -> str:
        """The name of the number of atoms along a coordinate."""
        return COUNTS[coordinate] if self.layout.extent(coordinate) == 1 else f"atoms_{coordinate}"

    def _counts(self, coordinates: Sequence[str]) -> tuple[str, ...]:
        used = {factor for c in coordinates for factor in self._stride(c)}
        return tuple(count for c, count in COUNTS.items() if self._atoms(c) in used)


def _inside(layout: ScaleLayout, coordinate: str) -> list[str]:
    """The offset inside the atom along a coordinate, a term a mode."""
    terms: list[str] = []
    below = 1
    for extent, stride in layout.modes(coordinate):
        if extent > 1 and stride:
            index = f"({remainder(divided(coordinate, below), extent)})"
            terms.append(f"{index} * {stride}" if stride != 1 else index)
        below *= extent
    return terms


def rounded_up(count: str, divisor: int) -> str:
    """A count divided and rounded up, as text."""
    return count if divisor == 1 else divided(f"({count} + {divisor - 1})", divisor)


def divided(text: str, divisor: int) -> str:
    """A number that is not negative, divided, as text: a shift where the divisor is a power of two."""
    if divisor == 1:
        return text
    return f"{text} >> {divisor.bit_length() - 1}" if divisor & (divisor - 1) == 0 else f"{text} // {divisor}"


def remainder(text: str, divisor: int) -> str:
    """Its remainder, as text."""
    return f"{text} & {divisor - 1}" if divisor & (divisor - 1) == 0 else f"({text}) % {divisor}"
