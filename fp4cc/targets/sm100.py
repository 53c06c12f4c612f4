"""sm_100a (B200, GB200): tcgen05.mma with and without block scaling.

Sources: PTX ISA 9, sections on tcgen05.mma (kinds, shapes, scale vectors), instruction descriptors and tensor memory;
CUDA programming guide for shared memory and cluster limits. The rates are measurements others published.
"""

from __future__ import annotations

from fp4cc.targets.base import Kind, Rates, Target

SM100A = Target(
    name="sm_100a",
    kinds=(
        Kind("mxf4nvf4", {"e2m1": 1}, {16: ("e4m3", "e8m0")}, k=64, padded=False, flop_per_clock=32768),
        Kind("mxf4", {"e2m1": 1}, {32: ("e8m0",)}, k=64, padded=False, flop_per_clock=32768),
        Kind(
            "mxf8f6f4",
            {"e4m3": 0, "e5m2": 1, "e2m3": 3, "e3m2": 4, "e2m1": 5},
            {32: ("e8m0",)},
            k=32,
            padded=True,
            flop_per_clock=16384,
        ),
    ),
    plain_kinds=(
        Kind("f16", {"f16": 0, "bf16": 1}, {}, k=16, padded=False, flop_per_clock=8192),
        Kind("f8f6f4", {"e4m3": 0, "e5m2": 1}, {}, k=32, padded=False, flop_per_clock=16384),
    ),
    scale_formats={"e4m3": 0, "e8m0": 1},
    smem_bytes=227 * 1024,
    smem_sm_bytes=228 * 1024,
    smem_reserved_bytes=1024,
    sm_threads=2048,
    tmem_columns=512,
    cta_rows=128,
    # A scale atom covers 128 rows of B. An MMA can start at its second half, by a column offset, but not at a quarter:
    # so tiles along N are multiples of 64.
    tile_n=(64, 128, 192, 256),
    # The tensor core takes N in steps of 8 or 16, the epilogue in sub-tiles of 32 columns. Scales of these come by
    # converter warps, where there are any and they are not those of a lone tile.
    narrow_n=(32, 96, 160, 224),
    tile_k_bytes=128,
    cluster_max=16,
    cluster_shapes=((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2), (2, 4), (4, 4)),
    stages_max=12,
    rates=Rates.of("sm_100a"),
)
