"""The engine of sm_90a: operands become bf16 or f16 in shared memory and are multiplied by wgmma."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fp4cc.ir.lowered.problem import Operand, Role
from fp4cc.ir.lowered_converters import ScaleReader
from fp4cc.ir.part import Part

#: What wgmma multiplies here: both operands of an instruction are of one of these types.
Wide = Literal["bf16", "f16"]

TILE_K = 64  # elements: a row of a wide operand is then one 128-byte swizzle row
#: Warps that convert, multiply and run the epilogue.
CONSUMERS = 4


@dataclass(frozen=True, slots=True)
class Scales:
    """An operand's block scales: a byte for `block` elements along K (0: all).

    `reader`: threads read them from global memory, a step ahead, where the layout's function says; `rows` names the
    size with the operand's rows. Without it TMA brings blocked_128x4's atoms with the codes; a row's word of one serves
    `steps_per_atom` steps.
    """

    type: Literal["e4m3", "e8m0"]
    block: int
    reader: ScaleReader | None
    rows: str | None

    @property
    def per_step(self) -> int:
        """Scales of a row in a step."""
        return max(1, TILE_K // self.block) if self.block else 1

    @property
    def steps_per_atom(self) -> int:
        """Steps that one scale word of a row serves."""
        return 4 // self.per_step


@dataclass(frozen=True, slots=True)
class Side:
    """An operand of a mainloop: `rows` rows of `row_bytes` in a stage, whose `part` has its codes.

    Elements other than `wide` are converted to it by the threads, a row each, into a slot that wgmma reads; the others
    are where TMA has put them, swizzled as wgmma reads them.
    """

    operand: Operand
    wide: Wide
    part: Part
    rows: int
    row_bytes: int
    scales: Scales | None

    @property
    def buffer(self) -> str:
        """Where its codes are."""
        return self.part.buffer

    @property
    def converted(self) -> bool:
        """Whether threads convert it."""
        return self.operand.element != self.wide

    @property
    def loaded_scales(self) -> Scales | None:
        """Its scales, where a stage holds an atom of them."""
        return self.scales if self.scales is not None and self.scales.reader is None else None

    @property
    def scale_reader(self) -> ScaleReader | None:
        """How threads read its scales, where they do."""
        return self.scales.reader if self.scales is not None else None


@dataclass(frozen=True, slots=True)
class WgmmaLoop:
    """What becomes of the operands of a mainloop, in stages of TILE_K. B number i is that of product number i."""

    a: Side
    bs: tuple[Side, ...]

    @property
    def sides(self) -> tuple[Side, ...]:
        """A, then the Bs."""
        return (self.a, *self.bs)

    @property
    def wide(self) -> Wide:
        """The type wgmma multiplies."""
        return self.a.wide

    @property
    def converts(self) -> bool:
        """Whether threads convert an operand of it."""
        return any(side.converted for side in self.sides)

    @property
    def direct(self) -> bool:
        """Whether wgmma reads an operand where TMA has put it, so that a stage is free only after its product."""
        return not all(side.converted for side in self.sides)


@dataclass(frozen=True, slots=True)
class Wgmma:
    """Products on wgmma. `loops` has what each mainloop needs beyond its loads.

    `slots`: converted operands in shared memory, `slot_bytes` of A and as many of all Bs of a loop.
    """

    loops: tuple[WgmmaLoop, ...]
    slots: int
    slot_bytes: int
    name: str = "wgmma"

    @property
    def sides(self) -> tuple[Side, ...]:
        """The operands of all mainloops."""
        return tuple(side for loop in self.loops for side in loop.sides)

    @property
    def converts(self) -> bool:
        """Whether threads convert an operand."""
        return any(loop.converts for loop in self.loops)

    @property
    def direct(self) -> bool:
        """Whether wgmma reads an operand where TMA has put it."""
        return any(loop.direct for loop in self.loops)

    @property
    def converted_roles(self) -> tuple[Role, ...]:
        """Of A and B those that some mainloop converts: each has slots of its own."""
        return tuple(sorted({side.operand.role for side in self.sides if side.converted}))
