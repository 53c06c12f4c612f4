"""How what a stage holds gets there: for each operand's codes, and scales where it has any, one feed.

By TMA (`Load`), or by converter warps, which lay scales out anew (`Relaid`) or make the elements that are multiplied
(`Dequantized`). What the multiplying threads do with a stage themselves is the engine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fp4cc.ir.lowered.problem import Operand, Product
from fp4cc.ir.lowered_converters import Conversion, Dequantized, Relaid
from fp4cc.ir.part import Part


@dataclass(frozen=True, slots=True)
class Load:
    """One TMA load of a stage: tensor map, box and who issues it.

    The tile part a CTA needs is cut into `slices`; each CTA of the multicast group issues one (or, with 1 slice, the
    group's first CTA issues all), and it lands in all of them. `masks[rank]` is the multicast mask of what `rank`
    issues (0: it issues nothing); `slice_bytes` is what one slice writes, `tx_bytes` what the barrier counts for it.
    """

    tensor_map: str
    part: Part
    slices: int
    slice_bytes: int
    tx_bytes: int
    masks: tuple[int, ...]

    @property
    def buffer(self) -> str:
        """Where it lands."""
        return self.part.buffer

    @property
    def multicast(self) -> bool:
        """Whether it lands in more than one CTA."""
        return any(mask & (mask - 1) for mask in self.masks)


Feed: TypeAlias = Load | Relaid | Dequantized


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
        return tuple(feed for feed in self.feeds if not isinstance(feed, Load))

    @property
    def operands(self) -> tuple[tuple[Part, Operand], ...]:
        """A, then the Bs, each with the part of a stage that has its codes."""
        bs = ((Part("B", place), product.b) for place, product in enumerate(self.products))
        return ((Part("A"), self.products[0].a), *bs)

    def operand(self, part: Part) -> Operand:
        """The operand of which a part holds the codes or scales."""
        return self.products[0].a if part.role == "A" else self.products[part.place].b

    def feed(self, part: Part) -> Feed | None:
        """How a part gets there; None where a stage has no such part."""
        return next((feed for feed in self.feeds if feed.part == part), None)
