"""Which rows of an argument the warps of a lowered kernel read with ordinary loads, and where their scales lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fp4cc.ir.lowered_epilogue import Half
from fp4num import ScaleLayout


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of rows: the pointer to them, the size that says how many rows there are, and, of those of batches, the
    one that says how many each batch has (None: all have the same)."""

    pointer: str
    there: str
    each: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of its argument an operand has: those from `first` on (a size; None: 0), a half in turns, or those
    with some numbers."""

    first: str | None = None
    half: Half | None = None
    numbers: Numbers | None = None

    @property
    def by_batch(self) -> bool:
        """Whether they depend on the batch."""
        return self.numbers is not None and self.numbers.each is not None


@dataclass(frozen=True, slots=True)
class ScaleReader:
    """Where an operand's scales lie in global memory, and how they are loaded.

    The scale of row r of the operand and block k lies where `layout` has (batch, R // tall, k), R being r's number in
    the argument (`rows_of`); `tall` is None where one scale serves all rows. A load takes `width` scales, from a k that
    is a multiple of it: they lie side by side, on an address that is a multiple of their bytes. `partial`: a load may
    reach past a row's last scale. `param` is the pointer, the other names are sizes of the kernel: how many scales are
    stored along each coordinate (None: the layout does not ask).
    """

    scale: Literal["e4m3", "e8m0", "f32"]
    layout: ScaleLayout
    batched: bool
    tall: int | None
    width: int
    partial: bool
    param: str
    rows_of: Rows
    batches: str | None
    rows: str | None
    blocks: str
