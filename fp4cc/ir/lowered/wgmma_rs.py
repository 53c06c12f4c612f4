"""An engine of sm_90a: weights become wgmma's A in registers, the rows of the other operand are its B."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fp4cc.ir.lowered.problem import Operand
from fp4cc.ir.lowered_reading import ScaleReader
from fp4cc.ir.part import Part

#: Elements along K of a stage: a row of a 16-bit operand is then one 128-byte swizzle row. Of FP8 it has twice as many.
STAGE_K, FAST_STAGE_K = 64, 128
#: Powers of two of which e5m2 holds each times all e2m1, as normal numbers: 0.5 of the first is 2^-14, 6 of the last
#: 49152.
FAST_RANGE = 27
#: Weight rows of a tile, those of all accumulators together: 64 for each multiplying warpgroup.
WEIGHT_ROWS = 128
WARPGROUP_WARPS = 4
MMA_WARPS = 2 * WARPGROUP_WARPS


@dataclass(frozen=True, slots=True)
class WeightScales:
    """A right operand's block scales: a byte for `block` elements along K (0: all).

    `reader`: lanes read them from global memory a stage ahead, by the layout's function; `rows` names the size with
    the operand's rows. Without it TMA brings atoms of blocked_128x4 with the codes.
    """

    type: Literal["e4m3", "e8m0"]
    block: int
    reader: ScaleReader | None
    rows: str | None
    stage_k: int = STAGE_K

    @property
    def per_stage(self) -> int:
        """Scales of a row in a stage."""
        return max(1, self.stage_k // self.block) if self.block else 1

    @property
    def stages_per_atom(self) -> int:
        """Stages that one scale word of a row serves."""
        return 4 // self.per_stage


@dataclass(frozen=True, slots=True)
class Weights:
    """A right operand: rows `first` to `first + rows - 1` of the tile's weight rows, `row_bytes` of each in a stage."""

    operand: Operand
    part: Part
    first: int
    rows: int
    row_bytes: int
    scales: WeightScales | None


@dataclass(frozen=True, slots=True)
class WgmmaRS:
    """D^T = W x^T: products of weights in registers by rows of x in shared memory, 128 by `rows` of a tile.

    All `weights` have the same elements, and scales alike; one for each accumulator, in order. `stores`: the warps that
    multiply store the result themselves; else sums cross to warps that run the epilogue. `turns`: both warpgroups have
    the same 64 weight rows and take stages in turns; at the end of a tile the first adds the second's sums to its own.

    Where `wide` is an FP8, rows of x are that, weights become e5m2, and the sums of a stage, which have fewer bits, are
    added to those before in f32 (`fast`). `rows` may then be half of a tile's, of which no call has more.
    """

    wide: Literal["bf16", "f16", "e4m3", "e5m2"]
    rows: int
    weights: tuple[Weights, ...]
    stores: bool = False
    turns: bool = False
    name: str = "wgmma_rs"

    @property
    def fast(self) -> bool:
        """Whether it multiplies FP8."""
        return self.wide in ("e4m3", "e5m2")

    @property
    def stage_k(self) -> int:
        """Elements along K of a stage."""
        return FAST_STAGE_K if self.fast else STAGE_K

    @property
    def step_stages(self) -> int:
        """Stages of a step along K: of FP8 each is waited for, of others one is made while another is multiplied."""
        return (1 if self.fast else 2) * (2 if self.turns else 1)

    @property
    def ordered(self) -> bool:
        """Whether warpgroups issue products in turns, so that one multiplies while the other converts and adds."""
        return self.fast and not self.turns

    @property
    def multiplying(self) -> int:
        """Warps that multiply a stage."""
        return WARPGROUP_WARPS if self.turns else MMA_WARPS

    @property
    def like(self) -> Weights:
        """The first of them, for what they have in common."""
        return self.weights[0]
