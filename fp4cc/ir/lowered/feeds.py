"""How what a stage holds gets there, and from there to what multiplies: feeds, each a dataclass of its own.

By TMA (`Load`); by converter warps, which lay scales out anew (`Relaid`) or make the elements that are multiplied
(`Dequantized`); or by the multiplying threads, which convert a stage's rows to slots of their own (`Converted`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, cast

from fp4cc.ir.lowered.problem import Operand, Product
from fp4cc.ir.lowered.rings import RoleName
from fp4cc.ir.part import Part


class Feed(Protocol):
    """How a part of a stage gets to what multiplies: a frozen dataclass of its own.

    Its plan (`fp4cc.passes.feeds`) and its text (`fp4cc.codegen.feeds`) are found by its `kind`.
    """

    @property
    def kind(self) -> str: ...

    @property
    def part(self) -> Part: ...

    @property
    def by(self) -> RoleName:
        """The warps that bring it, or have TMA bring it."""
        ...

    @property
    def into(self) -> Literal["stage", "slot"]:
        """Where it is written: a stage of the ring, or a slot beside it, from the stage."""
        ...


class Conversion(Feed, Protocol):
    """A feed of converter warps, which write to a stage what they have loaded from global memory, in another form."""

    @property
    def name(self) -> str:
        """Its operand's in the emitted file: the argument's, numbered where there are several of it."""
        ...

    @property
    def how(self) -> str:
        """What becomes of it, in words."""
        ...

    @property
    def buffer(self) -> str:
        """Where it is written."""
        ...

    @property
    def batched(self) -> bool:
        """Whether what is loaded depends on the batch."""
        ...

    @property
    def stage_bytes(self) -> int:
        """What a CTA reads of it for a stage by ordinary loads."""
        ...

    @property
    def extent(self) -> int:
        """Rows of codes in a stage, or runs of 128 rows of scales: by these its cost grows."""
        ...

    @property
    def whole_atoms(self) -> bool:
        """Whether a tile's scales start at its own first row, not where those of the argument's rows do."""
        ...

    @property
    def words(self) -> int:
        """Words that a lane holds of a stage, if its warp takes all of it."""
        ...

    @property
    def shares(self) -> int:
        """Into how many equal parts the warps of a team may divide a stage."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """One TMA load of a stage: tensor map, box and who issues it.

    The tile part a CTA needs is cut into `slices`; each CTA of the multicast group issues one (or, with 1 slice, the
    group's first CTA issues all), and it lands in all of them. `masks[rank]` is the multicast mask of what `rank`
    issues (0: it issues nothing); `slice_bytes` is what one slice writes, `tx_bytes` what the barrier counts for it.
    Of an operand that lies across a slice is several boxes, of 128 bytes along its rows each; of one whose rows are
    gathered it is a box for each row.
    """

    tensor_map: str
    part: Part
    slices: int
    slice_bytes: int
    tx_bytes: int
    masks: tuple[int, ...]
    boxes: int = 1

    @property
    def kind(self) -> str:
        return "tma"

    @property
    def by(self) -> RoleName:
        return "load"

    @property
    def into(self) -> Literal["stage", "slot"]:
        return "stage"

    @property
    def buffer(self) -> str:
        """Where it lands."""
        return self.part.buffer

    @property
    def multicast(self) -> bool:
        """Whether it lands in more than one CTA."""
        return any(mask & (mask - 1) for mask in self.masks)


@dataclass(frozen=True, slots=True)
class Mainloop:
    """Steps along K that bring an A and the Bs of one or several products, and multiply A by each of them.

    The products have A and K in common. `tile_k` elements of K make a step; the barrier of a stage counts `tx_bytes`,
    those of both CTAs of a pair.
    """

    products: tuple[Product, ...]
    tile_k: int
    feeds: tuple[Feed, ...]
    tx_bytes: int

    @property
    def loads(self) -> tuple[Load, ...]:
        """What TMA brings."""
        return tuple(feed for feed in self.feeds if isinstance(feed, Load))

    @property
    def conversions(self) -> tuple[Conversion, ...]:
        """What converter warps bring."""
        return tuple(cast("Conversion", feed) for feed in self.feeds if feed.by == "convert")

    def conversion(self, part: Part) -> Conversion | None:
        """How converter warps bring a part; None where they do not."""
        return next((conversion for conversion in self.conversions if conversion.part == part), None)

    @property
    def slotted(self) -> tuple[Feed, ...]:
        """What the multiplying threads bring from a stage to slots of their own."""
        return tuple(feed for feed in self.feeds if feed.into == "slot")

    @property
    def direct(self) -> bool:
        """Whether an operand is multiplied as a stage has it, so that the stage is free only after the product."""
        return not {part for part, _ in self.operands} <= {feed.part for feed in self.slotted}

    @property
    def operands(self) -> tuple[tuple[Part, Operand], ...]:
        """A, then the Bs, each with the part of a stage that has its codes."""
        bs = ((Part("B", place), product.b) for place, product in enumerate(self.products))
        return ((Part("A"), self.products[0].a), *bs)

    def operand(self, part: Part) -> Operand:
        """The operand of which a part holds the codes or scales."""
        return self.products[0].a if part.role == "A" else self.products[part.place].b

    def feed(self, part: Part) -> Feed | None:
        """How a part gets into a stage; None where it has no such part."""
        return next((feed for feed in self.feeds if (feed.part, feed.into) == (part, "stage")), None)
