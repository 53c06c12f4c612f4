"""The lowered GEMM of Hopper: operands become bf16 or f16 in shared memory and are multiplied by wgmma."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fp4cc.ir.lowered import Load, LoweredKernel, Operand, Pipeline, Problem, Product, Role
from fp4cc.ir.lowered_converters import ScaleReader
from fp4cc.ir.lowered_promoted import PromotedScales

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
    """An operand of a mainloop: `rows` rows of `row_bytes` in a stage of `buffer`.

    Elements other than `wide` are converted to it by the threads, a row each, into a slot that wgmma reads; the others
    are where TMA has put them, swizzled as wgmma reads them.
    """

    operand: Operand
    wide: Wide
    buffer: str
    rows: int
    row_bytes: int
    scales: Scales | None

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
    """Steps along K that load an A and the Bs of one or several products, and multiply A by each of them.

    B number i is that of product number i. A stage's barrier counts `tx_bytes`. A step is of `tile_k` elements, in
    stages of TILE_K.
    """

    products: tuple[Product, ...]
    a: Side
    bs: tuple[Side, ...]
    loads: tuple[Load, ...]
    tx_bytes: int
    tile_k: int = TILE_K

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


def converted_roles(loops: Sequence[WgmmaLoop]) -> tuple[Role, ...]:
    """Of A and B those that some of the mainloops converts."""
    return tuple(sorted({side.operand.role for loop in loops for side in loop.sides if side.converted}))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredWgmma(LoweredKernel):
    """Products on wgmma. Warps 0-3 convert, multiply and run the epilogue; warp 4 loads by TMA.

    A tile's `loops` run one after the other through the same ring of stages. `tile.n` are the columns of each of its
    accumulators. `slots`: converted operands in shared memory, `slot_bytes` of A and as many of all Bs of a loop.
    `exchange_pitch`: bytes between the rows of a tile's sums on their way to the epilogue.

    `promoted`: the one mainloop's partial sums of two stages each are scaled and added to the sums in registers.
    """

    problem: Problem
    loops: tuple[WgmmaLoop, ...]
    pipeline: Pipeline
    slots: int
    slot_bytes: int
    exchange_pitch: int
    promoted: tuple[PromotedScales, PromotedScales] | None = None

    @property
    def converted_roles(self) -> tuple[Role, ...]:
        """Of A and B those that some mainloop converts: each has slots of its own."""
        return converted_roles(self.loops)

    @property
    def accumulators(self) -> int:
        """Of a tile."""
        return len(self.problem.accumulators)
