"""The engine of sm_100a: tcgen05.mma, with accumulators and scales in tensor memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MmaKind = Literal["mxf4nvf4", "mxf4", "mxf8f6f4", "f16", "f8f6f4"]


@dataclass(frozen=True, slots=True)
class Mma:
    """A tcgen05.mma in use. One instruction takes `k` elements of K and `scales_per_instruction` scales a row.

    `a` and `b` are the types of elements it reads, which converter warps may have made. Of plain operands `scale` is
    None, and there are no atoms. Else a scale atom's word holds 4 scales of a row, so it serves `instructions_per_atom`
    instructions; the scale id (the first byte used in the word) of instruction i is (i % instructions_per_atom) *
    scales_per_instruction. `across`: whether A, and whether B, is read with its rows side by side (MN-major).
    """

    kind: MmaKind
    block: int
    scale: Literal["e4m3", "e8m0"] | None
    cta_group: Literal[1, 2]
    m: int
    n: int
    k: int
    a: str
    b: str
    a_format: int
    b_format: int
    scale_format: int
    scales_per_instruction: int
    instructions_per_atom: int
    instructions_per_tile_k: int
    across: tuple[bool, bool] = (False, False)

    @property
    def descriptor(self) -> int:
        """The instruction descriptor (PTX ISA, tcgen05 instruction descriptor); with block scaling, scale ids are 0."""
        formats = self.a_format << 7 | self.b_format << 10 | (self.n // 8) << 17
        if self.scale is None:
            turned = self.across[0] << 15 | self.across[1] << 16
            return formats | turned | _F32_ACCUMULATOR | (self.m // 16) << 24
        return formats | self.scale_format << 23 | (self.m // 128) << 27

    @property
    def atoms(self) -> int:
        """Scale atoms along K in one stage."""
        return self.instructions_per_tile_k // self.instructions_per_atom if self.scale else 0


#: D is f32: bits 4 and 5 of the descriptor of the kinds without block scaling.
_F32_ACCUMULATOR = 1 << 4


@dataclass(frozen=True, slots=True)
class Tmem:
    """The tensor memory columns of a CTA (of 512, each 128 lanes x 32 bit).

    Buffer i of `acc_buffers` starts at column i * `acc_stride`; a tile's accumulators lie side by side in it, tile.n
    columns each. Scales of the B of product j of a mainloop start at `sfb` + j * `sfb_stride`. Where
    acc_stride < tile.n the two overlap: the epilogue reads the shared columns first and frees them after
    `release_after` sub-tiles (32 columns, or as many of both halves), walking tile 0's from the right.
    """

    columns: int
    acc_buffers: int
    acc_stride: int
    release_after: int
    sfa: int
    sfb: int
    sfa_columns: int  # of one scale atom along K
    sfb_columns: int
    sfb_stride: int
    end: int  # the first column not in use

    def overlapped(self, tile_n: int) -> bool:
        """Whether the two accumulators share columns."""
        return self.acc_buffers == 2 and self.acc_stride < tile_n


@dataclass(frozen=True, slots=True)
class Tcgen05:
    """Products on tcgen05.mma. `mmas` has, for each mainloop, one instruction a product.

    Those of a mainloop differ in B's format at most.
    """

    mmas: tuple[tuple[Mma, ...], ...]
    tmem: Tmem
    name: str = "tcgen05"

    @property
    def mma(self) -> Mma:
        """The first instruction: all have its CTAs and its shape, and those of a mainloop its kind."""
        return self.mmas[0][0]

    @property
    def scaled(self) -> bool:
        """Whether an instruction takes block scales."""
        return any(mmas[0].scale is not None for mmas in self.mmas)
