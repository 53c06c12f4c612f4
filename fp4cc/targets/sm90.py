"""sm_90a (H100, H200): no block-scaled tensor core, so operands become bf16 or f16 and are multiplied by wgmma.

Sources: PTX ISA 9, wgmma.mma_async; CUDA programming guide for shared memory. The rates are measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.targets.base import Rates

_RATES = Rates.of("sm_90a")


@dataclass(frozen=True, slots=True)
class Hopper:
    """What the converting GEMM takes: plain operands, and scales whose products with small elements bf16 can hold.

    `tile_n`: columns of all accumulators of a tile, which are 128 registers a thread; at least 32 of each.
    """

    name: str = "sm_90a"
    plain: tuple[str, ...] = ("bf16", "f16", "e4m3", "e5m2")
    elements: tuple[str, ...] = ("e2m1", "e3m2", "e2m3", "e4m3", "e5m2")  # of block formats
    blocks: tuple[int, ...] = (16, 32, 64)  # of a scale along K within a step
    tile_m: int = 128
    tile_n: int = 128
    tile_k: int = 64  # a row of bf16 is then one 128-byte swizzle row
    smem_bytes: int = 227 * 1024
    stages_max: int = 8
    flop_per_clock: int = 4096  # of one SM, bf16, dense
    rates: Rates = _RATES


SM90A = Hopper()
