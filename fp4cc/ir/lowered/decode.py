"""The engine for few rows on sm_90a: lanes load weights straight into the fragments of mma.sync, warps share K.

The weights are the tensor core's left operand (16 rows of it are 16 columns of the product), x its right one (8 columns
of it are 8 rows of the product). PTX ISA, mma.sync, fragments of m16n8k16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fp4cc.ir.lowered.problem import Operand
from fp4cc.ir.lowered_reading import Rows, ScaleReader

#: Rows of x that one instruction multiplies.
ROWS = 8
#: Lanes that share a row: each has a run of its elements.
LANES = 4


@dataclass(frozen=True, slots=True)
class Strip:
    """An operand as lanes read it: of each step along K a run of its row, a lane's own, as `wide` elements.

    `pointer` has its codes, in rows of `row_bytes`; `rows` are in use, of the argument's `all_rows` a batch (None: it
    has no batches). The names are parameters and sizes. `block` elements along K have one scale (0: all of K).
    """

    operand: Operand
    wide: Literal["bf16", "f16"]
    pointer: str
    row_bytes: str
    rows: str
    rows_of: Rows
    all_rows: str | None
    scales: ScaleReader | None
    block: int


@dataclass(frozen=True, slots=True)
class Decode:
    """Products of at most `groups` x 8 rows. `pairs` has x and the weights of each product.

    A warp makes `columns` of an accumulator, of one of `shares` of K. A lane takes `run` elements of a row at each
    step, of which `ahead` are being loaded. An SM holds `ctas`: so many registers a thread has.
    """

    pairs: tuple[tuple[Strip, Strip], ...]
    groups: int
    columns: int
    shares: int
    run: int
    ahead: int
    ctas: int
    name: str = "decode"

    @property
    def step(self) -> int:
        """Elements along K of a warp's step."""
        return LANES * self.run

    @property
    def lane_rows(self) -> int:
        """Rows of weights that a lane reads: 8 apart."""
        return self.columns // 8

    @property
    def rows(self) -> int:
        """Rows of the product that are made."""
        return ROWS * self.groups

    @property
    def turns(self) -> bool:
        """Whether words have elements i and i + 4 of eight, as e2m1 comes apart; else neighbors."""
        return any(strip.operand.element == "e2m1" for pair in self.pairs for strip in pair)
