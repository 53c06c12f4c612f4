"""Scale layouts drawn with characters."""

from __future__ import annotations

from collections.abc import Iterable

from fp4cc.layout.atom import Atom, atom_of
from fp4num import ScaleLayout

#: Offsets shown in one line of the memory view: what a 128-bit access takes of one-byte scales.
MEMORY_LINE = 16
#: Atoms with more rows than this are abridged.
_ALL_ROWS = 16


def draw_atom(layout: ScaleLayout, *, full: bool = False) -> list[str]:
    """The logical view: a line a row, a column a k, each cell the offset. Long atoms are abridged unless `full`."""
    atom = atom_of(layout)
    width = max(len(str(max(atom.owners))), 2)
    lines = ["row \\ k" + "".join(f"{k:>{width + 2}}" for k in range(atom.ks))]
    shown = range(atom.rows) if full else _interesting_rows(layout, atom)
    for row in _with_gaps(shown, atom.rows):
        if row is None:
            lines.append("    ...")
        else:
            lines.append(f"{row:>7}" + "".join(f"{offset:>{width + 2}}" for offset in atom.offsets[row]))
    return lines


def draw_memory(layout: ScaleLayout, *, full: bool = False) -> list[str]:
    """The memory view: a line for 16 offsets, each cell the (row, k) that lies there."""
    atom = atom_of(layout)
    size = max(atom.owners) + 1
    cells = [f"{row}.{k}" for row, k in atom.owners.values()]
    width = max(map(len, cells))
    starts = range(0, size, MEMORY_LINE)
    lines = ["offset    row.k"]
    shown = starts if full or len(starts) <= 8 else (*starts[:3], *starts[-2:])
    previous = -MEMORY_LINE
    for start in shown:
        if start != previous + MEMORY_LINE:
            lines.append("   ...")
        owners = (atom.owners.get(offset) for offset in range(start, min(start + MEMORY_LINE, size)))
        lines.append(f"{start:>6}  " + " ".join(f"{'-' if o is None else f'{o[0]}.{o[1]}':>{width}}" for o in owners))
        previous = start
    return lines


def _interesting_rows(layout: ScaleLayout, atom: Atom) -> list[int]:
    """The first rows, and those around every place where a slower mode of the rows advances."""
    if atom.rows <= _ALL_ROWS:
        return list(range(atom.rows))
    keep = {0, 1, 2, atom.rows - 1}
    step = 1
    for size, _stride in layout.modes("row"):
        step *= size
        if step > 4:
            for start in range(0, atom.rows, step):
                keep |= {start, start + 1, start + step - 1}
    return sorted(keep)


def _with_gaps(shown: Iterable[int], rows: int) -> list[int | None]:
    out: list[int | None] = []
    expected = 0
    for row in shown:
        if row != expected:
            out.append(None)
        out.append(row)
        expected = row + 1
    if expected != rows:
        out.append(None)
    return out
