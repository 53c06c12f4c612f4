"""Paths: the lanes of a group that are at one block."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fp4emu.generate import Specialised
from fp4emu.registry import Wait
from fp4emu.shapes import Mask


@dataclass(slots=True, eq=False)
class Path:
    """Lanes of a group at one block. `mask` None: all lanes of all rows. `waits`: what its rows wait for, by row.
    `age`: how many turns it has used up. `spun`: it has slept in a loop before."""

    block: int
    mask: Mask | None
    code: Specialised | None = None
    waits: dict[int, Wait] = field(default_factory=dict[int, Wait])
    age: int = 0
    spun: bool = False

    @property
    def key(self) -> tuple[int, int]:
        return self.age, self.block

    def meet(self, other: Path, live: Mask | None) -> None:
        """Takes in the lanes of another path at the same block; with them, it may be every lane of its group."""
        assert other.mask is not None and self.mask is not None
        mask = np.logical_or(self.mask, other.mask)
        self.mask = whole(mask, live)
        self.age = max(self.age, other.age)


def whole(mask: Mask, live: Mask | None) -> Mask | None:
    """None if a mask is every lane of a group."""
    return None if live is None and mask.all() else mask
