"""The proof that a scale layout is a bijection.

An atom maps n coordinates to offsets by a sum of (index * stride) over its modes. That sum is a bijection onto
0 .. n-1 exactly when, with the modes of extent 1 left out and the others sorted by stride, the first stride is 1 and
each next stride is the stride before it times its extent (mixed radix). Necessary: offset 1 is reached only by a mode
of stride 1 and extent s; the sums of the other modes must then tile 0 .. n-1 with runs of length s, so all are
multiples of s, and the argument repeats on strides / s. The atoms lie side by side, also in mixed radix, so a bijective
atom makes the whole layout one, whatever the grid; what the grid leaves of its last atoms is padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fp4num import cute
from fp4num.cute import Tree
from fp4num.errors import LayoutError

#: Above this many elements an atom is refused: a counterexample is searched for by enumeration.
MAX_ATOM = 1 << 20


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved: the modes (extent, stride) from the fastest stride on, each a whole number of the one before."""

    layout: str
    atom_size: int
    modes: tuple[tuple[int, int], ...]

    def lines(self) -> list[str]:
        """The proof in words, for `fp4cc layout`."""
        steps: list[str] = []
        reach = 1
        for extent, stride in self.modes:
            steps.append(f"stride {stride} = {reach}: the modes so far fill 0..{extent * stride - 1}")
            reach = extent * stride
        return [
            f"{self.layout}: an atom has {self.atom_size} elements",
            *steps,
            "so an atom is a bijection onto its elements, and atoms lie side by side: no two blocks share an element,",
            "no offset is out of bounds, and the padding is what the last atom along each coordinate leaves free",
        ]


def prove(name: str, coords: tuple[tuple[str, int], ...], shape: Tree, stride: Tree) -> Proof:
    """The proof for an atom; `LayoutError` carries two coordinates that collide, or one that is out of bounds."""
    size = cute.size(shape)
    if size > MAX_ATOM:
        raise LayoutError(f"layout {name}: an atom of {size} elements; at most {MAX_ATOM} can be proved")
    modes = sorted(((extent, step) for extent, step in cute.leaves(shape, stride) if extent > 1), key=lambda m: m[1])
    reach = 1
    for extent, step in modes:
        if step != reach:
            raise _counterexample(name, coords, shape, stride)
        reach *= extent
    return Proof(name, size, tuple(modes))


def _counterexample(name: str, coords: tuple[tuple[str, int], ...], shape: Tree, stride: Tree) -> LayoutError:
    size = cute.size(shape)
    offsets = np.zeros(1, np.int64)
    for extent, step in cute.leaves(shape, stride):  # leftmost fastest: each further mode is slower than all before
        offsets = (offsets[None, :] + (np.arange(extent, dtype=np.int64) * step)[:, None]).reshape(-1)
    order = np.argsort(offsets, kind="stable")
    same = np.flatnonzero(offsets[order][1:] == offsets[order][:-1])
    if same.size:
        # The pair whose first coordinate comes first, so that the message does not depend on the sort.
        i = int(same[np.argmin(order[same])])
        first, second = (_coordinate(coords, int(order[j])) for j in (i, i + 1))
        offset = int(offsets[order[i]])
        return LayoutError(
            f"layout {name}: {_show(first)} and {_show(second)} both lie at offset {offset}",
            first=first,
            second=second,
            offset=offset,
        )
    linear = int(np.flatnonzero(offsets >= size)[0])
    where, offset = _coordinate(coords, linear), int(offsets[linear])
    return LayoutError(
        f"layout {name}: {_show(where)} lies at offset {offset}, outside its atom of {size} elements",
        first=where,
        offset=offset,
    )


def _coordinate(coords: tuple[tuple[str, int], ...], linear: int) -> dict[str, int]:
    out: dict[str, int] = {}
    for name, extent in coords:
        out[name] = linear % extent
        linear //= extent
    return out


def _show(coordinate: dict[str, int]) -> str:
    return "(" + ", ".join(f"{name} {value}" for name, value in coordinate.items()) + ")"
