"""The constants and buffers of a GEMM on tcgen05: the plan's numbers by name."""

from __future__ import annotations

from fp4cc.codegen.context import BufferText, Constant, named_barriers
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.parts import bytes_name
from fp4cc.ir.lowered import LoweredKernel, Mainloop, Mma, SmemBuffer, Tcgen05
from fp4cc.ir.part import Part

_QUARTERS = "the first ones: each reads its quarter of the tensor memory lanes"


def constants(lowered: LoweredKernel) -> list[list[Constant]]:
    """Groups of constants: the tile, the ring of stages, tensor memory, the warps."""
    return [_shape(lowered), _ring(lowered), _columns(lowered), _warps(lowered)]


def _shape(lowered: LoweredKernel) -> list[Constant]:
    tile, cluster = lowered.tile, lowered.cluster
    pair = "rows of a tile: made by a pair of CTAs, each with half of its rows" if tile.ctas == 2 else ""
    covered = "what a scale covers" if lowered.promotion is not None else ""
    shape = [Constant("TILE_M", tile.m, pair), Constant("TILE_N", tile.n), Constant("TILE_K", tile.k, covered)]
    if cluster.size > 1:
        shape.append(Constant("CLUSTER_M", cluster.m, "CTAs of a cluster, by tile"))
        shape.append(Constant("CLUSTER_N", cluster.n))
        shape.append(Constant("CLUSTER_SIZE", cluster.size))
    if lowered.walk.band > 1:
        shape.append(Constant("BAND", lowered.walk.band, "cluster tiles side by side before the next row of them"))
    for i, mainloop in enumerate(lowered.mainloops[1:], 1):
        shape.append(Constant(f"TILE_K{numbered(i)}", mainloop.tile_k, "of the next mainloop"))
    return shape


def _ring(lowered: LoweredKernel) -> list[Constant]:
    smem = lowered.smem
    ring = [
        Constant("STAGES", lowered.rings.stages),
        Constant("A_BYTES", smem.buffer(Part("A").buffer).bytes, "of one stage"),
        Constant("B_BYTES", smem.buffer(Part("B").buffer).bytes),
    ]
    if count_of_bs(lowered, scaled=True):
        ring.append(Constant("SFA_BYTES", smem.buffer(Part("A", scales=True).buffer).bytes))
        ring.append(Constant("SFB_BYTES", smem.buffer(Part("B", scales=True).buffer).bytes))
    for i, (mainloop, mmas) in enumerate(zip(lowered.mainloops, lowered.engine_as(Tcgen05).mmas, strict=True)):
        if mainloop.loads:
            ring.append(Constant(f"STAGE_TX_BYTES{numbered(i)}", mainloop.tx_bytes, _tx_note(mainloop, mmas[0])))
    return ring


def _columns(lowered: LoweredKernel) -> list[Constant]:
    """Tensor memory and the instructions; and where sums cross shared memory."""
    engine, tile = lowered.engine_as(Tcgen05), lowered.tile
    tmem, accumulators = engine.tmem, len(lowered.products.accumulators)
    partial = "partial sums" if lowered.promotion is not None else ""
    columns = [
        Constant("TMEM_COLUMNS", tmem.columns),
        Constant("ACC_STAGES", lowered.rings.barrier("acc_full").stages, partial),
    ]
    if tmem.overlapped(tile.n):
        columns.append(Constant("ACC_STRIDE", tmem.acc_stride, "two accumulators that share columns"))
    if accumulators > 1:
        columns.append(Constant("ACC_COLUMNS", accumulators * tile.n, "of a tile's accumulators, side by side"))
    if count_of_bs(lowered, scaled=True):
        columns.append(Constant("SFA_COLUMN", tmem.sfa))
        for i in range(count_of_bs(lowered, scaled=True)):
            columns.append(Constant(f"SFB{numbered(i)}_COLUMN", tmem.sfb + i * tmem.sfb_stride))
    for number, each in enumerate(mma for mmas in engine.mmas for mma in mmas):
        columns.append(Constant(f"INSTRUCTION{numbered(number)}", f"0x{each.descriptor:08X}", _instruction_note(each)))
    if lowered.exchange is not None:
        note = "bytes of a row of sums, padded against bank conflicts"
        columns.append(Constant("EXCHANGE_PITCH", lowered.exchange.pitch, note))
    return columns


def _warps(lowered: LoweredKernel) -> list[Constant]:
    warps = [
        Constant("EPILOGUE_WARPS", lowered.role_of("epilogue").warps, _QUARTERS),
        Constant("LOAD_WARP", lowered.role_of("load").first),
        Constant("MMA_WARP", lowered.role_of("mma").first),
        *named_barriers(lowered),
    ]
    converters = lowered.converters
    if converters is not None:
        warps.append(Constant("FIRST_CONVERTER", lowered.role_of("convert").first))
        if converters.members == 1:
            warps.append(Constant("CONVERTERS", converters.warps, "warps: steps along K are theirs in turn"))
        else:
            warps.append(Constant("TEAMS", converters.teams, "of converter warps: steps along K are theirs in turn"))
            warps.append(Constant("TEAM_WARPS", converters.members, "that share the rows of a step"))
    return warps


def count_of_bs(lowered: LoweredKernel, scaled: bool = False) -> int:
    """The Bs of a stage, of any mainloop or of those with block scales."""
    engine = lowered.engine_as(Tcgen05)
    return max((len(mmas) for mmas in engine.mmas if mmas[0].scale or not scaled), default=0)


def _tx_note(mainloop: Mainloop, mma: Mma) -> str:
    padded = [o.arg for _, o in mainloop.operands if mma.kind == "mxf8f6f4" and o.bits < 8]
    notes = ["of both CTAs"] if mma.cta_group == 2 else []
    if padded:
        notes.append(f"TMA counts the packed bytes of {' and '.join(padded)}")
    return "; ".join(notes)


def _instruction_note(mma: Mma) -> str:
    note = f"M = {mma.m}, N = {mma.n}, {mma.a} x {mma.b}"
    return f"{note}, {'UE8M0' if mma.scale == 'e8m0' else 'UE4M3'} scales" if mma.scale else note


def buffer_text(lowered: LoweredKernel, buffer: SmemBuffer) -> BufferText:
    """A buffer's allocation: element type and count, by name where there is one."""
    if lowered.exchange is not None and buffer.name == lowered.exchange.buffer:
        return BufferText(buffer.name, "cutlass.Int8", "TILE_M * EXCHANGE_PITCH", buffer.align)
    if buffer.part is not None:
        return BufferText(buffer.name, "cutlass.Int8", f"STAGES * {bytes_name(buffer.part)}", buffer.align)
    if buffer.name in ("ab_full", "ab_empty"):
        return BufferText(buffer.name, "cutlass.Int64", "STAGES", 8)
    if buffer.name in ("acc_full", "acc_empty"):
        return BufferText(buffer.name, "cutlass.Int64", "ACC_STAGES", 8)
    if buffer.name == "tmem_address":
        return BufferText(buffer.name, "cutlass.Int32", 1, 4)
    return BufferText.of_bytes(buffer)
