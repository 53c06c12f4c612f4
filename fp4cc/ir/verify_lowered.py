"""Invariants of the lowered kernel, checked before anything is emitted from it; a broken one is FP9001, our fault."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import FewRows, LoweredKernel, Smem
from fp4cc.ir.lowered_epilogue import COLUMNS_BUFFER, CTA_ROWS, EpilogueProgram
from fp4cc.ir.verify import found_in
from fp4cc.ir.verify_arrivals import EPILOGUE_WARPS
from fp4cc.ir.verify_engines import engine_problems
from fp4cc.ir.verify_rings import ring_problems, tensor_maps
from fp4cc.ir.verify_roles import role_problems

_WARP = 32
#: Threads of a CTA, and registers of an SM (CUDA programming guide, compute capabilities).
_MOST_THREADS, _REGISTERS = 1024, 64 * 1024


def verify_lowered(lowered: LoweredKernel) -> LoweredKernel:
    """The kernel itself, once it, its variants and what is launched with it hold every invariant.

    Raises DiagnosticError (FP9001) naming all that are broken.
    """
    found = [
        found_in(plan.kernel, "lowering", text)
        for each in (lowered, *lowered.variants, *lowered.prepared)
        for plan in (*each.launches, *(() if each.preparation is None else (each.preparation.launch,)))
        for text in problems(plan)
    ]
    if found:
        raise DiagnosticError(found)
    return lowered


def problems(lowered: LoweredKernel) -> Iterator[str]:
    """What is wrong with one plan, in words."""
    yield from _smem(lowered.smem)
    yield from _launch(lowered)
    yield from _epilogue(lowered, lowered.epilogue)
    yield from role_problems(lowered)
    parts = list(_parts(lowered))
    yield from parts or (*ring_problems(lowered), *engine_problems(lowered))


def _parts(lowered: LoweredKernel) -> Iterator[str]:
    """Parts that others need are there."""
    multiplies = lowered.engine is not None and getattr(lowered.engine, "multiplies", True)
    multiplied = (lowered.problem is not None, multiplies, bool(lowered.mainloops))
    if len(set(multiplied)) > 1:
        yield "of a problem, an engine and mainloops there are some and not the others"
    if lowered.pipeline is None and any(mainloop.feeds for mainloop in lowered.mainloops):
        yield "something is multiplied, and nothing brings it"
    products = [product for mainloop in lowered.mainloops for product in mainloop.products]
    if lowered.problem is not None and sorted(map(str, products)) != sorted(map(str, lowered.problem.products)):
        yield "the mainloops make other products than the problem has"
    if lowered.promotion is not None and [loop.tile_k for loop in lowered.mainloops] != [lowered.promotion.step]:
        depths = [loop.tile_k for loop in lowered.mainloops]
        yield f"sums of {depths} along K are promoted every {lowered.promotion.step}"
    if lowered.split is not None and len(lowered.mainloops) != 1:
        yield f"K is shared by CTAs in {len(lowered.mainloops)} mainloops"
    if lowered.split is not None and lowered.split.adds and not all(o.store.adds for o in lowered.epilogue.outputs):
        yield "parts of K that do not meet store an output, where each has to add to it"
    exchange = lowered.exchange
    buffers = {buffer.name: buffer.total for buffer in lowered.smem.buffers}
    rows = exchange.rows if isinstance(exchange, FewRows) else min(lowered.tile.cta_m, CTA_ROWS)
    if exchange is not None and buffers.get(exchange.buffer, 0) < rows * exchange.pitch:
        yield f"a tile's sums do not fit in {exchange.buffer}"


def _smem(smem: Smem) -> Iterator[str]:
    end = 0
    for buffer in smem.buffers:
        if buffer.offset < end:
            yield f"{buffer.name} starts at byte {buffer.offset} of shared memory, and what is before it ends at {end}"
        if buffer.offset % buffer.align:
            yield f"{buffer.name} at byte {buffer.offset} is not on {buffer.align} bytes"
        end = max(end, buffer.offset + buffer.total)
    if end != smem.total or smem.padding < 0 or smem.asked > smem.limit:
        yield f"shared memory ends at byte {end}: {smem.total} are counted, {smem.asked} asked for, {smem.limit} there"
    if len({buffer.name for buffer in smem.buffers}) < len(smem.buffers):
        yield "two buffers of shared memory have one name"


def _launch(lowered: LoweredKernel) -> Iterator[str]:
    launch = lowered.launch
    if not 0 < launch.threads <= _MOST_THREADS or launch.threads % _WARP:
        yield f"{launch.threads} threads"
    if any(count % 8 or not 24 <= count <= 256 for _, count in launch.registers):
        yield f"registers of {[count for _, count in launch.registers]} a thread (setmaxnreg takes 24 to 256 by eights)"
    if sum(count for _, count in launch.registers) * _WARP * EPILOGUE_WARPS > _REGISTERS:
        yield f"more than {_REGISTERS} registers"
    names = [param.name for param in launch.params]
    if len(set(names)) < len(names):
        yield "two parameters have one name"
    maps = [each.name for each in lowered.tensor_maps]
    if sorted(maps) != sorted(str(p.param.source) for p in launch.params if p.param.kind == "tensor_map"):
        yield "a tensor map is no parameter, or two have one name"


def _epilogue(lowered: LoweredKernel, program: EpilogueProgram) -> Iterator[str]:
    """What crosses shared memory has its slots there, and the tensor map that it names."""
    buffers = {buffer.name: buffer for buffer in lowered.smem.buffers}
    maps = tensor_maps(lowered)
    names = {param.name for param in lowered.launch.params}
    for leaf in program.inputs:
        load = leaf.load
        if load is None:
            continue
        slots, barriers = buffers.get(load.buffer), buffers.get(load.barriers)
        if slots is None or (slots.bytes, slots.stages) != (EPILOGUE_WARPS * 32 * load.row_bytes, load.stages):
            yield f"{leaf.name} has no slots of its size"
        if barriers is None or barriers.total != 8 * EPILOGUE_WARPS * load.stages:
            yield f"{leaf.name} has not a barrier for each slot"
        if load.tensor_map not in maps or load.stages & (load.stages - 1):
            yield f"{leaf.name} cannot be loaded ahead"
    for output in program.outputs:
        store = output.store
        if store.via != "direct" and (store.tensor_map not in maps or store.buffer is None):
            yield f"{output.arg} cannot be stored by TMA"
        in_groups = store.flag is None and program.problem.groups is not None  # their ends say how it is stored
        if store.via == "either" and store.flag not in names and not in_groups:
            yield f"{output.arg} has no flag that says how it is stored"
        if store.buffer is not None and store.via != "engine":
            slots = buffers.get(store.buffer)
            if slots is None or (slots.bytes, slots.stages) != (EPILOGUE_WARPS * 32 * store.row_bytes, store.stages):
                yield f"{output.arg} has no slots of its size"
    if program.staged and COLUMNS_BUFFER not in buffers:
        yield "column values have no place in shared memory"
    for part in program.parts:
        for name in part.buffers:
            if name not in buffers:
                yield f"{type(part).__name__} uses {name}, and there is no such buffer"
