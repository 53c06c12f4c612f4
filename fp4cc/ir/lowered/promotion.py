"""Promotion: partial sums of a step along K are scaled and added in f32 registers, whatever has made them."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.ir.lowered_reading import ScaleReader


@dataclass(frozen=True, slots=True)
class PromotedScales:
    """The f32 scales of an operand: for each row, or each 128 of them, one a step along K, or one for all of K.

    `rows` names the size with the operand's rows.
    """

    arg: str
    reader: ScaleReader
    each_step: bool
    rows: str

    @property
    def each_row(self) -> bool:
        """Whether each row has its own."""
        return self.reader.tall == 1


@dataclass(frozen=True, slots=True)
class Promotion:
    """The partial sum of every `step` elements along K is scaled by the product of the scales, and added in f32.

    DeepSeek-AI 2024, section 3.3.2.
    """

    a: PromotedScales
    b: PromotedScales
    step: int
