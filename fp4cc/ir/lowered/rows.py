"""Weights that are made ready once, for plans that read them so: what makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fp4cc.ir.lowered_reading import ScaleReader


@dataclass(frozen=True, slots=True)
class FoldRows:
    """A warp makes a row of e5m2 and its factor, and counts the row where that cannot be done.

    The names are those of parameters: of codes in, of rows, factors and the count out.
    """

    scales: ScaleReader
    arg: str
    codes: str
    rows: str
    factors: str
    unfit: str
    name: str = "rows"
    multiplies: ClassVar[bool] = False  # so that it has no mainloop
