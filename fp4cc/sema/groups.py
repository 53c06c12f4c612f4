"""The ragged axes of a kernel: which axis numbers the groups of which rows.

Rows and groups never stand in one value: where they meet, what is there for each group is taken for each of its rows.
A product that contracts rows in groups has a result for each group: it has the groups' axis, and no longer the rows'.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fp4cc.ir.kernel import Arg


@dataclass(frozen=True, slots=True)
class Ragged:
    """An axis of rows in groups (`rows by offsets`), and the axis that numbers these groups."""

    rows: str
    offsets: str
    groups: str


@dataclass(frozen=True, slots=True)
class Groups:
    """All of a kernel. `masked`: the axes `rows upto counts`, whose groups are batches; `offsets` are then counts."""

    axes: tuple[Ragged, ...]
    masked: tuple[Ragged, ...] = ()

    @classmethod
    def of(cls, args: Iterable[Arg | None]) -> Groups:
        """Those that the arguments declare, `M by offsets` with `offsets : i32[E + 1]`."""
        known = {arg.name: arg for arg in args if arg is not None}
        found: dict[str, Ragged] = {}
        masked: dict[str, Ragged] = {}
        for arg in known.values():
            for axis in arg.axes:
                counts = known.get(axis.upto or "")
                if axis.name is not None and axis.upto is not None and counts is not None and counts.axes:
                    masked[axis.name] = Ragged(axis.name, axis.upto, counts.axes[0].name or "")
                offsets = known.get(axis.by or "")
                extent = offsets.axes[0].extent if offsets is not None and offsets.axes else None
                if axis.name is not None and axis.by is not None and isinstance(extent, tuple):
                    groups = extent[1]
                    if isinstance(groups, str):
                        found[axis.name] = Ragged(axis.name, axis.by, groups)
        return cls(tuple(found.values()), tuple(masked.values()))

    def contracted(self, rows: str) -> Ragged | None:
        """The ragged or masked axis of that name, whose groups are summed apart where a product contracts it."""
        return next((each for each in (*self.axes, *self.masked) if each.rows == rows), None)

    def of_axis(self, rows: str) -> Ragged | None:
        """The ragged axis of that name."""
        return next((ragged for ragged in self.axes if ragged.rows == rows), None)

    def together(self, axes: Iterable[str]) -> tuple[Ragged, ...]:
        """Those whose rows and whose groups are both among `axes`."""
        if not self.axes:
            return ()
        present = set(axes)
        return tuple(ragged for ragged in self.axes if {ragged.rows, ragged.groups} <= present)

    def axes_of_rows(self, axes: tuple[str, ...], rows: Iterable[Ragged]) -> tuple[str, ...]:
        """The axes with the rows in the place of their groups."""
        names = {ragged.groups: ragged.rows for ragged in rows}
        return tuple(dict.fromkeys(names.get(axis, axis) for axis in axes))
