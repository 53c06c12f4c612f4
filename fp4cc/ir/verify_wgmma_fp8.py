"""Invariants of products of FP8: arrivals, whole warpgroups, who has which rows, and what is multiplied."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import FP8_TILE_K, LoweredKernel, WgmmaFp8
from fp4cc.ir.part import Part
from fp4cc.ir.verify_arrivals import EPILOGUE_WARPS, counted

_ELEMENTS = ("e4m3", "e5m2")


def wgmma_fp8_problems(lowered: LoweredKernel) -> Iterator[str]:
    """What is wrong with a kernel of this engine."""
    engine, multiplying = lowered.engine_as(WgmmaFp8), lowered.role_of("mma").warps
    yield from counted(
        lowered.rings,
        ab_full=1,
        ab_empty=multiplying * lowered.cluster.size,
        acc_full=multiplying,
        acc_empty=EPILOGUE_WARPS,
    )
    if any(role.warps % EPILOGUE_WARPS for role in lowered.roles):
        yield "setmaxnreg is for whole warpgroups, and a role has a part of one"
    if len(lowered.mainloops) > 1 or [loop.tile_k for loop in lowered.mainloops] != [FP8_TILE_K]:
        yield f"FP8 is multiplied in one mainloop, and its sums are added every {FP8_TILE_K} along K"
    for loop in lowered.mainloops:
        for _, operand in loop.operands:
            if operand.element not in _ELEMENTS:
                yield f"{operand.arg} is multiplied as the FP8 that it is, and it is {operand.element}"
    if engine.columns(lowered.tile.n) % 8:
        yield f"instructions of {engine.columns(lowered.tile.n)} columns do not make a tile of {lowered.tile.n}"
    a = lowered.load(Part("A"))
    room = next((buffer.bytes for buffer in lowered.smem.buffers if buffer.name == a.buffer), 0)
    if a.slice_bytes != engine.rows * FP8_TILE_K or room != engine.stage_rows * FP8_TILE_K:
        yield f"{engine.stage_rows} rows of A are read in a stage of {room} bytes, of which {a.slice_bytes} are loaded"
    if engine.few and lowered.cluster.size > 1:
        yield f"CTAs share loads of B for more than {engine.rows} rows of A"
