"""Converter warps of a lowered GEMM: a second producer into its ring of stages, beside the warp that loads by TMA.

They read what TMA cannot bring in the form that the tensor core reads, with ordinary loads from global memory, and
write it to the stage's shared memory in that form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from fp4cc.ir.kernel import Expr
from fp4num import ScaleLayout


@dataclass(frozen=True, slots=True)
class ScaleReader:
    """Where an operand's scales lie in global memory, and how they are loaded.

    The scale of row r of the operand and block k lies where `layout` has (batch, (first_row + r) // tall, k); `tall`
    is None where one scale serves all rows. A load takes `width` scales, from a k that is a multiple of it: they lie
    side by side, on an address that is a multiple of their bytes. `partial`: a load may reach past a row's last scale.
    `param` is the pointer, the other names are sizes of the kernel: the operand's first row in its argument (None: 0),
    and how many scales are stored along each coordinate (None: the layout does not ask).
    """

    layout: ScaleLayout
    batched: bool
    tall: int | None
    width: int
    partial: bool
    param: str
    first_row: str | None
    batches: str | None
    rows: str | None
    blocks: str


@dataclass(frozen=True, slots=True)
class Relaid:
    """Scales that are laid out anew: atoms of 128 rows x 4 scales, as tcgen05.cp and tcgen05.mma read them.

    PTX ISA, tcgen05.mma, scale factor layout. A stage has `atoms` along K for each of `row_atoms` runs of 128 rows.
    `name` is the operand's in the emitted file: the argument's, numbered where there are several of it. `rows` names
    the size with the operand's rows.
    """

    name: str
    arg: str
    role: Literal["A", "B"]
    buffer: str
    scales: ScaleReader
    rows: str
    atoms: int
    row_atoms: int

    @property
    def per_row(self) -> int:
        """Scales of a row in a stage."""
        return 4 * self.atoms

    @property
    def stage_bytes(self) -> int:
        """What a CTA reads of it for a stage."""
        return 128 * self.row_atoms * self.per_row


Conversion: TypeAlias = Relaid


@dataclass(frozen=True, slots=True)
class Converters:
    """The converter warps of a CTA: `teams` of `members` warps each.

    A team takes every `teams`-th stage of the running sequence over all tiles, and its warps share the rows of a stage.
    They load to registers before they wait for the stage's slot, so `teams` stages are on their way at a time. There
    are at most as many teams as slots: else a team could wait for a phase of a barrier that is not the next one.
    `pointers` (name, source, meaning) and `sizes` (name, value, meaning) are what they need of the kernel's parameters.
    """

    teams: int
    members: int
    pointers: tuple[tuple[str, str, str], ...]
    sizes: tuple[tuple[str, Expr, str], ...]

    @property
    def warps(self) -> int:
        """All of them."""
        return self.teams * self.members
