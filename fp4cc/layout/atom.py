"""One atom of a scale layout as a table: the offset of every (row, k), and its inverse."""

from __future__ import annotations

from dataclasses import dataclass

from fp4num import ScaleLayout


@dataclass(frozen=True, slots=True)
class Atom:
    """`offsets[row][k]` of one atom (batch 0 of it), and `owners[offset]` = (row, k)."""

    rows: int
    ks: int
    offsets: tuple[tuple[int, ...], ...]
    owners: dict[int, tuple[int, int]]


def atom_of(layout: ScaleLayout) -> Atom:
    """The atom of a layout. An atom of one element (`linear`) is drawn as a grid of 4 x 4 such atoms."""
    rows, ks = layout.extent("row"), layout.extent("k")
    if layout.atom_size == 1:
        rows, ks = 4, 4
    grid = layout.offsets(layout.extent("batch"), rows, ks)[0]
    offsets = tuple(tuple(int(grid[row, k]) for k in range(ks)) for row in range(rows))
    owners = {offsets[row][k]: (row, k) for row in range(rows) for k in range(ks)}
    return Atom(rows, ks, offsets, owners)
