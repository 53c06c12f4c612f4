"""The lowered kernel: how a kernel runs on a target, with every number decided.

The passes fill this in; codegen only substitutes from it, `explain` prints it, the manifest is made from it. Sizes
that depend on dynamic dims are `Expr`; everything else is a number.

Vocabulary. A *tile* is what one MMA of the kernel makes: tile.m x tile.n of the output, tile.k deep. With `cta_group` 2
a pair of CTAs makes one tile, each CTA 128 of its 256 rows. A *cluster* is a grid of CTAs (cluster.m x cluster.n, rank
= m + n * cluster.m) whose tiles are neighbors; it takes one *cluster tile* at a time, persistently. A *stage* is one
slot of a ring in shared memory. A *sub-tile* is 32 columns of the accumulator: what an epilogue thread holds at once.

What the emitted kernel gives the epilogue (names in scope at its hooks):
    kernel   warp (0..3), lane, thread (0..127), the parameters by name, m_size, n_size
    tile     m0, n0 (this CTA's first row and column), batch, row (this thread's row: m0 + thread), row_valid
    sub-tile column (its first global column), acc (32 Float32 of this thread's row), sub-tile index `subtile`
"""

from __future__ import annotations

from fp4cc.ir.lowered.decode import Decode, Strip
from fp4cc.ir.lowered.feeds import Conversion, Feed, Load, Mainloop
from fp4cc.ir.lowered.kernel import (
    Decision,
    Engine,
    Exchange,
    FewRows,
    LoweredKernel,
    Marked,
    Overlap,
    Preparation,
)
from fp4cc.ir.lowered.problem import Operand, Problem, Product, Role
from fp4cc.ir.lowered.promotion import PromotedScales, Promotion
from fp4cc.ir.lowered.resources import (
    Cluster,
    Grouped,
    KernelParam,
    Launch,
    OneEach,
    Persistent,
    Size,
    Smem,
    SmemBuffer,
    Tile,
    Walk,
)
from fp4cc.ir.lowered.rings import EPILOGUE_BARRIER, Barrier, NamedBarrier, Pipeline, RoleName, WarpRole
from fp4cc.ir.lowered.rows import FoldRows
from fp4cc.ir.lowered.tcgen05 import Mma, MmaKind, Tcgen05, Tmem
from fp4cc.ir.lowered.wgmma import CONSUMERS, TILE_K, Converted, Scales, Slotted, Wgmma, Wide
from fp4cc.ir.lowered.wgmma_fp8 import FP8_TILE_K, WgmmaFp8
from fp4cc.ir.lowered.wgmma_rs import Weights, WeightScales, WgmmaRS
from fp4cc.ir.part import Part

__all__ = [
    "CONSUMERS",
    "EPILOGUE_BARRIER",
    "FP8_TILE_K",
    "TILE_K",
    "Barrier",
    "Cluster",
    "Conversion",
    "Converted",
    "Decision",
    "Decode",
    "Engine",
    "Exchange",
    "Feed",
    "FewRows",
    "FoldRows",
    "Grouped",
    "KernelParam",
    "Launch",
    "Load",
    "LoweredKernel",
    "Mainloop",
    "Marked",
    "Mma",
    "MmaKind",
    "NamedBarrier",
    "OneEach",
    "Operand",
    "Overlap",
    "Part",
    "Persistent",
    "Pipeline",
    "Preparation",
    "Problem",
    "Product",
    "PromotedScales",
    "Promotion",
    "Role",
    "RoleName",
    "Scales",
    "Size",
    "Slotted",
    "Smem",
    "SmemBuffer",
    "Strip",
    "Tcgen05",
    "Tile",
    "Tmem",
    "Walk",
    "WarpRole",
    "WeightScales",
    "Weights",
    "Wgmma",
    "WgmmaFp8",
    "WgmmaRS",
    "Wide",
]
