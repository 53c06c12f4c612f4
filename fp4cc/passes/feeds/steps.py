"""A mainloop before it is known what loads it."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.ir.lowered import Conversion, Mma, Operand, Product


@dataclass(frozen=True, slots=True)
class Steps:
    """A mainloop without its loads: products that share A, their instructions, and K's elements in a stage.

    What `conversions` has is not loaded: converter warps bring it.
    """

    products: tuple[Product, ...]
    mmas: tuple[Mma, ...]
    tile_k: int
    conversions: tuple[Conversion, ...] = ()


def converted(operand: Operand, to: str) -> bool:
    """Whether an operand is not multiplied as it is, by an instruction without scales that reads elements `to`."""
    return operand.scaled or operand.element != to
