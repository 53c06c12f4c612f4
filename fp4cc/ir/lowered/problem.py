"""The products of a kernel and their operands, whatever multiplies them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fp4cc.ir.kernel import Expr, Scalar
from fp4cc.ir.lowered_epilogue import Groups, Half, Space
from fp4num import BlockFormat
from fp4num.elements import element

Role = Literal["A", "B"]


@dataclass(frozen=True, slots=True)
class Operand:
    """One side of a product; `batched`: it has the batch axes (else it is shared). `rows` is how many the argument has.

    They are M for A and N for B, unless the operand is a `half` of them: those from `first_row` on, or, where halves
    take turns, every other group of rows, the first of them at `first_row`. `source` is the buffer of a plain one.
    `across`: in memory K is the axis before the last, and what are its rows here lie side by side along the last.
    `divided`: K, along the last axis, is in groups, each of which starts at a multiple of 32 elements.
    """

    role: Role
    arg: str
    dtype: Scalar | BlockFormat
    rows: Expr
    batched: bool
    first_row: Expr = 0
    source: str | None = None
    half: Half | None = None
    across: bool = False
    divided: bool = False

    @property
    def title(self) -> str:
        """What it is, in words."""
        return self.arg if self.half is None else f"the {'second' if self.half.part else 'first'} half of {self.arg}"

    @property
    def format(self) -> BlockFormat:
        """The block format. TypeError for a plain operand."""
        if isinstance(self.dtype, str):
            raise TypeError(f"{self.arg} is {self.dtype}, not quantized")
        return self.dtype

    @property
    def scaled(self) -> bool:
        """Whether it has block scales."""
        return not isinstance(self.dtype, str)

    @property
    def name(self) -> str:
        """Its type, as the spec calls it."""
        return self.dtype if isinstance(self.dtype, str) else self.dtype.name

    @property
    def element(self) -> str:
        """The element's type."""
        return self.dtype if isinstance(self.dtype, str) else self.dtype.element

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return element(self.element).bits

    @property
    def codes(self) -> str:
        """What a tensor map of its elements reads."""
        return f"{self.arg}.codes" if self.scaled else self.source or self.arg


@dataclass(frozen=True, slots=True)
class Product:
    """One `@`: the sum over k of A[batch, m, k] * B[batch, n, k], both decoded without tensor scales.

    It is added to accumulator `slot` of the tile.
    """

    a: Operand
    b: Operand
    k: Expr
    k_axis: str
    slot: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem(Space):
    """The products of a kernel, all over the same m, n and batches.

    `accumulators`: for each slot the index in `Kernel.values` of what it ends up with: a matmul, or a sum of several.
    `contracted`: K is in groups, which are the batches: each has its own part of it.
    """

    products: tuple[Product, ...]
    accumulators: tuple[int, ...]
    contracted: Groups | None = None

    @property
    def a(self) -> Operand:
        """A of the first product."""
        return self.products[0].a

    @property
    def b(self) -> Operand:
        """B of the first product."""
        return self.products[0].b

    @property
    def shared_k(self) -> Expr:
        """Among how many results K is divided: the groups of ragged rows that are contracted, else 1."""
        return self.contracted.count if self.contracted is not None and self.contracted.ragged else 1

    @property
    def k(self) -> Expr:
        """K of the first product."""
        return self.products[0].k

    @property
    def k_axis(self) -> str:
        """The axis that the first product contracts."""
        return self.products[0].k_axis
