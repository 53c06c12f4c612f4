"""The engine of sm_90a: operands become bf16 or f16 in shared memory and are multiplied by wgmma."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, cast

from fp4cc.ir.lowered.feeds import Feed, Mainloop
from fp4cc.ir.lowered.problem import Operand, Role
from fp4cc.ir.lowered_reading import ScaleReader
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


class Slotted(Feed, Protocol):
    """A feed of the multiplying threads: they bring a part of a stage to a slot, where wgmma reads it."""

    @property
    def operand(self) -> Operand: ...

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in a stage, as TMA brings it: without a swizzle, because threads read it by rows."""
        ...

    @property
    def scaled(self) -> bool:
        """Whether block scales are multiplied in on the way."""
        ...

    @property
    def loaded_scales(self) -> Scales | None:
        """The scales of which it reads an atom in the stage, if any."""
        ...

    @property
    def batched(self) -> bool:
        """Whether what threads load for it depends on the batch."""
        ...


@dataclass(frozen=True, slots=True)
class Converted:
    """Rows that the multiplying threads convert, a row each: a stage's `rows` of `row_bytes` become elements `to`.

    Each is its code's value times its block's scale; without `scales` there is none.
    """

    operand: Operand
    part: Part
    to: Wide
    rows: int
    row_bytes: int
    scales: Scales | None

    @property
    def kind(self) -> str:
        return "converted"

    @property
    def by(self) -> Literal["epilogue"]:
        return "epilogue"

    @property
    def into(self) -> Literal["slot"]:
        return "slot"

    @property
    def scaled(self) -> bool:
        """Whether block scales are multiplied in on the way."""
        return self.scales is not None

    @property
    def loaded_scales(self) -> Scales | None:
        """Its scales, where a stage holds an atom of them."""
        return self.scales if self.scales is not None and self.scales.reader is None else None

    @property
    def scale_reader(self) -> ScaleReader | None:
        """How threads read its scales, where they do."""
        return self.scales.reader if self.scales is not None else None

    @property
    def batched(self) -> bool:
        """Whether what threads load for it depends on the batch."""
        return self.operand.batched and self.scale_reader is not None


@dataclass(frozen=True, slots=True)
class Wgmma:
    """Products on wgmma: `wides` has the type that each mainloop multiplies.

    `slots`: operands that threads write, in shared memory; `slot_bytes` of A and as many of all Bs of a loop.
    """

    wides: tuple[Wide, ...]
    slots: int
    slot_bytes: int
    name: str = "wgmma"


def slotted(mainloops: Iterable[Mainloop]) -> tuple[Slotted, ...]:
    """What the multiplying threads write to slots, of all mainloops."""
    return tuple(cast("Slotted", feed) for mainloop in mainloops for feed in mainloop.slotted)


def slot_of(mainloop: Mainloop, part: Part) -> Slotted | None:
    """How a part gets to a slot; None where wgmma reads it where TMA has put it."""
    return next((feed for feed in slotted([mainloop]) if feed.part == part), None)


def slotted_roles(mainloops: Iterable[Mainloop]) -> tuple[Role, ...]:
    """Of A and B those that threads write in some mainloop: each has slots of its own."""
    return tuple(sorted({feed.part.role for feed in slotted(mainloops)}))
