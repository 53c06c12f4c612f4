"""Invariants of products with weights in registers: arrivals, warpgroups, weight rows, and who stores."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import LoweredKernel, WgmmaRS
from fp4cc.ir.verify_arrivals import EPILOGUE_WARPS, counted


def wgmma_rs_problems(lowered: LoweredKernel) -> Iterator[str]:
    """Weights fill the tile's rows, scales that are read in a stage are brought, and warps come by fours."""
    engine = lowered.engine_as(WgmmaRS)
    multiplying = lowered.role_of("mma").warps // (2 if engine.turns else 1)
    crossing = {} if engine.stores else {"acc_full": multiplying, "acc_empty": EPILOGUE_WARPS}
    yield from counted(lowered.rings, ab_full=1, ab_empty=multiplying, **crossing)
    if engine.stores == any(output.store.via != "engine" for output in lowered.epilogue.outputs):
        yield "the engine stores results, and one is stored by the epilogue, or the other way round"
    if any(role.warps % EPILOGUE_WARPS for role in lowered.roles):
        yield "setmaxnreg is for whole warpgroups, and a role has a part of one"
    if engine.turns and lowered.rings.stages % 2:
        yield f"two warpgroups take {lowered.rings.stages} stages in turns"
    (loop,) = lowered.mainloops
    if loop.tile_k != engine.step_stages * engine.stage_k:
        yield f"a step of {loop.tile_k} along K is not {engine.step_stages} stages of {engine.stage_k}"
    if engine.rows != lowered.tile.m and not (engine.fast and engine.rows < lowered.tile.m):
        yield f"tiles of {lowered.tile.m} rows, of which {engine.rows} are multiplied"
    end = 0
    for each in engine.weights:
        if engine.fast and (each.operand.element != "e2m1" or each.scales is None or each.scales.per_stage != 4):
            yield f"{each.operand.arg} is no e2m1 with a scale for each 32 along K, and is multiplied as FP8"
        if each.first != end or each.rows % 32:
            yield f"{each.operand.arg} has weight rows {each.first} and on, and those before it end at {end}"
        end = each.first + each.rows
        read = each.scales is not None and each.scales.reader is None
        if read and lowered.mainloops[0].feed(each.part.of_scales) is None:
            yield f"scales of {each.operand.arg} are read in a stage, and nobody brings them"
    pitch = 4 * end if lowered.exchange is None else lowered.exchange.pitch
    if end * 4 > pitch or 16 * multiplying < end:
        yield f"{end} weight rows, and rows of {pitch} bytes for {multiplying} warps' sums"
