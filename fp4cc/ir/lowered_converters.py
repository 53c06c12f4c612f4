"""Converter warps of a lowered GEMM: a second producer into its ring of stages, beside the warp that loads by TMA.

They read what TMA cannot bring in the form that the tensor core reads, with ordinary loads from global memory, and
write it to the stage's shared memory in that form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fp4cc.ir.lowered_epilogue import SUBTILE
from fp4cc.ir.lowered_reading import Rows, ScaleReader
from fp4cc.ir.part import Part

#: Elements that become 16 bytes of 16-bit ones, a chunk of the swizzle: they have one scale.
RUN = 8
#: Elements that a lane loads at once, by their bits: 16 bytes, or 12 of six-bit codes.
UNIT = {4: 32, 6: 16, 8: 16}


@dataclass(frozen=True, slots=True)
class DecodedInput:
    """An input of a kernel without a product that is read as numbers: `value` is its leaf, `arg` its argument.

    32 codes of a row are `loads` loads of `words` words each; `block` of them have one scale (0: all of a row).
    """

    value: int
    arg: str
    element: str
    bits: int
    block: int
    scales: ScaleReader
    clips: bool = True
    buffers: tuple[str, ...] = ()
    takes: tuple[int, ...] = ()

    @property
    def words(self) -> int:
        """Words that a load takes."""
        return 2 if self.bits == 6 else 4

    @property
    def loads(self) -> int:
        """Loads of a run of 32."""
        return self.bits // self.words

    @property
    def run_scales(self) -> int:
        """Scales of a run of 32."""
        return max(1, SUBTILE // self.block) if self.block else 1


@dataclass(frozen=True, slots=True)
class Relaid:
    """Scales that are laid out anew: atoms of 128 rows x 4 scales, as tcgen05.cp and tcgen05.mma read them.

    PTX ISA, tcgen05.mma, scale factor layout. A stage has `atoms` along K for each of `row_atoms` runs of 128 rows.
    `name` is the operand's in the emitted file: the argument's, numbered where there are several of it. `rows` names
    the size with the operand's rows.
    """

    name: str
    arg: str
    part: Part
    scales: ScaleReader
    rows: str
    atoms: int
    row_atoms: int

    @property
    def kind(self) -> str:
        return "relaid"

    @property
    def by(self) -> Literal["convert"]:
        return "convert"

    @property
    def into(self) -> Literal["stage"]:
        return "stage"

    @property
    def how(self) -> str:
        """What becomes of it, in words."""
        return "scales laid out anew"

    @property
    def batched(self) -> bool:
        """Whether what is loaded depends on the batch."""
        return self.scales.batched or self.scales.rows_of.by_batch

    @property
    def role(self) -> Literal["A", "B"]:
        """Its operand's."""
        return self.part.role

    @property
    def buffer(self) -> str:
        """Where it is written."""
        return self.part.buffer

    @property
    def per_row(self) -> int:
        """Scales of a row in a stage."""
        return 4 * self.atoms

    @property
    def stage_bytes(self) -> int:
        """What a CTA reads of it for a stage."""
        return 128 * self.row_atoms * self.per_row

    @property
    def extent(self) -> int:
        """Runs of 128 rows in a stage."""
        return self.row_atoms

    @property
    def whole_atoms(self) -> bool:
        """A tile's scales start where the operand does."""
        return True

    @property
    def words(self) -> int:
        """Words that a lane holds of a stage, if its warp takes all of it."""
        return 4 * self.row_atoms * self.atoms

    @property
    def shares(self) -> int:
        """A lane has four rows of an atom: warps of a team may divide them."""
        return 4


@dataclass(frozen=True, slots=True)
class Dequantized:
    """Rows that become elements `to`, each its code's value times its block's scale: exactly, so that `to` needs none.

    A stage has `stage_rows` of them in a CTA, 64 elements of each: 128 bytes in the 128-byte swizzle. Lanes side by
    side take the units of a row. `block` elements along K have one scale (0: all of K; without `scales` there is none).
    `codes` is the pointer to rows of `pitch` bytes; the names are sizes: the operand's rows, the argument's (None:
    there are no batches), and K.
    """

    name: str
    arg: str
    part: Part
    element: str
    bits: int
    to: Literal["f16", "bf16"]
    stage_rows: int
    block: int
    scales: ScaleReader | None
    codes: str
    rows: str
    rows_of: Rows
    all_rows: str | None
    pitch: str
    depth: str

    @property
    def kind(self) -> str:
        return "dequantized"

    @property
    def by(self) -> Literal["convert"]:
        return "convert"

    @property
    def into(self) -> Literal["stage"]:
        return "stage"

    @property
    def how(self) -> str:
        """What becomes of it, in words."""
        return f"{self.element} to {self.to}"

    @property
    def batched(self) -> bool:
        """Whether what is loaded depends on the batch."""
        return self.all_rows is not None or self.rows_of.by_batch

    @property
    def role(self) -> Literal["A", "B"]:
        """Its operand's."""
        return self.part.role

    @property
    def buffer(self) -> str:
        """Where it is written."""
        return self.part.buffer

    @property
    def unit(self) -> int:
        """Elements that a lane loads at once."""
        return UNIT[self.bits]

    @property
    def lanes(self) -> int:
        """Lanes that share a row."""
        return 64 // self.unit

    @property
    def rows_at_once(self) -> int:
        """Rows that a warp takes at once."""
        return 32 // self.lanes

    @property
    def units(self) -> int:
        """Units of a stage that each lane of one warp would take."""
        return self.stage_rows // self.rows_at_once

    @property
    def unit_words(self) -> int:
        """Words of codes of a unit."""
        return self.unit * self.bits // 32

    @property
    def unit_scales(self) -> int:
        """Scales of a unit."""
        return max(1, self.unit // self.block) if self.block else 1

    @property
    def stage_bytes(self) -> int:
        """What a CTA reads of it for a stage, but that a scale of several units is counted for each."""
        scales = self.unit_scales if self.scales is not None else 0
        return self.units * 32 * (4 * self.unit_words + scales)

    @property
    def extent(self) -> int:
        """Rows in a stage."""
        return self.stage_rows

    @property
    def whole_atoms(self) -> bool:
        """There are no scales in a stage."""
        return False

    @property
    def words(self) -> int:
        """Words that a lane holds of a stage, if its warp takes all of it."""
        return self.units * (self.unit_words + (self.scales is not None))

    @property
    def shares(self) -> int:
        """Units of a stage that each lane of a warp would take: warps of a team may divide them."""
        return self.units


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Rows of codes of 4 or 6 bits as a kind for elements of 8 bits reads them: 16 elements in each 16 bytes, packed.

    What TMA makes of them itself where K is whole runs of 128 (16U4_ALIGN16B): a stage has `stage_rows` rows of 128
    elements in a CTA, in the 128-byte swizzle. Lanes side by side take the units of a row. `codes` is the pointer to
    rows of `pitch` bytes; the names are sizes: the operand's rows, the argument's (None: there are no batches), and K.
    """

    name: str
    arg: str
    part: Part
    element: str
    bits: int
    stage_rows: int
    codes: str
    rows: str
    rows_of: Rows
    all_rows: str | None
    pitch: str
    depth: str

    @property
    def kind(self) -> str:
        return "unpacked"

    @property
    def by(self) -> Literal["convert"]:
        return "convert"

    @property
    def into(self) -> Literal["stage"]:
        return "stage"

    @property
    def how(self) -> str:
        """What becomes of it, in words."""
        return f"{self.element} unpacked"

    @property
    def batched(self) -> bool:
        """Whether what is loaded depends on the batch."""
        return self.all_rows is not None

    @property
    def role(self) -> Literal["A", "B"]:
        """Its operand's."""
        return self.part.role

    @property
    def buffer(self) -> str:
        """Where it is written."""
        return self.part.buffer

    @property
    def unit(self) -> int:
        """Elements that a lane loads at once."""
        return UNIT[self.bits]

    @property
    def lanes(self) -> int:
        """Lanes that share a row."""
        return 128 // self.unit

    @property
    def rows_at_once(self) -> int:
        """Rows that a warp takes at once."""
        return 32 // self.lanes

    @property
    def units(self) -> int:
        """Units of a stage that each lane of one warp would take."""
        return self.stage_rows // self.rows_at_once

    @property
    def unit_words(self) -> int:
        """Words of a unit."""
        return self.unit * self.bits // 32

    @property
    def stage_bytes(self) -> int:
        """What a CTA reads of it for a stage."""
        return self.stage_rows * 128 * self.bits // 8

    @property
    def extent(self) -> int:
        """Rows in a stage."""
        return self.stage_rows

    @property
    def whole_atoms(self) -> bool:
        """There are no scales in it."""
        return False

    @property
    def words(self) -> int:
        """Words that a lane holds of a stage, if its warp takes all of it."""
        return self.units * self.unit_words

    @property
    def shares(self) -> int:
        """Units of a stage that each lane of a warp would take: warps of a team may divide them."""
        return self.units


@dataclass(frozen=True, slots=True)
class Converters:
    """The converter warps of a CTA: `teams` of `members` warps each.

    A team takes every `teams`-th stage of the running sequence over all tiles, and its warps share the rows of a stage.
    They load to registers before they wait for the stage's slot, so `teams` stages are on their way at a time. There
    are at most as many teams as slots: else a team could wait for a phase of a barrier that is not the next one.
    """

    teams: int
    members: int

    @property
    def warps(self) -> int:
        """All of them."""
        return self.teams * self.members
