"""How an epilogue's tensors cross shared memory: tile inputs that TMA loads ahead, results that TMA stores.

Everything staged must leave room for the mainloop. A plan is tried with less and less staging of results until it fits
(`LEVELS`): first they have one slot a warp, then plain ones leave registers for global memory one by one. What is left
goes to tile inputs, the narrow ones first; those that find no room are loaded by their threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fp4cc.ir.kernel import Arg, Expr, Scalar
from fp4cc.ir.lowered import SmemBuffer
from fp4cc.ir.lowered_epilogue import SUBTILE, EpilogueInput, EpilogueOutput, LoadPlan, Space, StorePlan
from fp4cc.ir.sizes import Sizes, mul
from fp4cc.passes.epilogue import quantize as quantized
from fp4rt.manifest import TensorMap

WARPS = 4
LOAD_STAGES = 2  # a power of two
#: Where there is no product, loads of a whole tile are under way at once as far as this allows for several CTAs an SM.
WHOLE_TILE_LIMIT = 32 * 1024
#: Shared memory that an epilogue may stage its tensors in, in bytes.
STAGING_LIMIT = 96 * 1024
#: Bytes of a plain element in memory.
ELEMENT_BYTES: Mapping[Scalar, int] = {
    "f32": 4, "bf16": 2, "f16": 2, "e4m3": 1, "e5m2": 1, "i32": 4, "u32": 4,
}  # fmt: skip
_MAP_DTYPES = {"f32": "F32", "bf16": "BF16", "f16": "F16", "e4m3": "U8", "e5m2": "U8", "i32": "I32", "u32": "U32"}
#: A sub-tile's row in staging and the swizzle that keeps 16-byte accesses of 32 rows off each other's banks.
_SWIZZLE = {128: "128B", 64: "64B", 32: "32B", 16: "none"}


@dataclass(frozen=True, slots=True)
class Level:
    """How results are staged: slots of a result a warp, and whether plain results are staged at all."""

    stages: int
    stores: bool


LEVELS = (Level(stages=2, stores=True), Level(stages=1, stores=True), Level(stages=1, stores=False))


@dataclass(frozen=True, slots=True)
class Strides:
    """Elements between neighbors along the product's axes; 0 where a tensor has no such axis."""

    batch: Expr
    row: Expr
    column: Expr


def element_strides(arg: Arg, problem: Space, sizes: Sizes) -> Strides:
    """Element strides of the product's axes in a row-major argument; 0 where it has no such axis."""
    stride: Expr = 1
    found: dict[str, Expr] = {}
    for axis in reversed(arg.axes):
        found[str(axis.name)] = stride
        stride = mul(stride, sizes(axis.extent))
    last_batch = problem.batch_axes[-1] if problem.batch_axes else ""
    return Strides(found.get(last_batch, 0), found.get(problem.m_axis, 0), found.get(problem.n_axis, 0))


def in_order(arg: Arg, column_stride: Expr, space: Space) -> bool:
    """Whether a tensor lies as the product does: batches (all or none), rows, and columns next to each other."""
    return column_stride == 1 and tuple(str(axis.name) for axis in arg.axes[:-2]) in ((), space.batch_axes)


def plan_store(arg: Arg, dtype: Scalar, legal: Expr | None, ordered: bool, level: Level) -> StorePlan:
    """How a plain result is stored. `legal`: its rows start on 16 bytes (True, a condition, or None: never)."""
    row_bytes = SUBTILE * ELEMENT_BYTES[dtype]
    if not ordered or not level.stores:
        return StorePlan("direct")
    if legal is None:
        return StorePlan("direct", buffer=f"{arg.name}_slabs", stages=1, row_bytes=row_bytes)
    return StorePlan(
        via="tma" if legal is True else "either",
        tensor_map=f"{arg.name}_store",
        flag=None if legal is True else f"{arg.name}_by_tma",
        buffer=f"{arg.name}_slabs",
        stages=level.stages,
        row_bytes=row_bytes,
        swizzle=_SWIZZLE[row_bytes],
    )


def plan_load(leaf: EpilogueInput, ordered: bool, stages: int = LOAD_STAGES) -> LoadPlan | None:
    """How TMA can load a tile input ahead; None where it cannot."""
    if leaf.kind != "tile" or leaf.vector is None or not ordered or (leaf.half and not leaf.half.adjacent):
        return None
    row_bytes = SUBTILE * ELEMENT_BYTES[leaf.dtype]
    return LoadPlan(
        tensor_map=f"{leaf.source}_load",  # one for both halves
        buffer=f"{leaf.name}_tiles",
        barriers=f"{leaf.name}_full",
        stages=stages,
        row_bytes=row_bytes,
        swizzle=_SWIZZLE[row_bytes],
    )


def load_bytes(load: LoadPlan) -> int:
    """The shared memory that loading an input ahead takes, without its barriers."""
    return WARPS * 32 * load.row_bytes * load.stages


def legal(output: EpilogueOutput) -> Expr:
    """The condition on a call's sizes under which TMA may store an output."""
    if output.quantize is not None:
        return quantized.legal(output)
    return ("eq", ("mod", output.row_stride, 16 // _bytes(output)), 0)


def tensor_maps(
    inputs: Sequence[EpilogueInput], outputs: Sequence[EpilogueOutput], space: Space
) -> tuple[TensorMap, ...]:
    """The maps of what TMA loads and stores: boxes of 32 x 32 elements."""
    maps: list[TensorMap] = []
    for leaf in inputs:
        if leaf.load is not None:
            when = None if leaf.vector is True else leaf.vector
            name, swizzle = leaf.load.tensor_map, leaf.load.swizzle
            pitches = (leaf.row_stride, leaf.batch_stride)
            whole = space if leaf.half is None else replace(space, n=mul(space.n, 2))
            maps.append(_map(name, leaf.source, leaf.dtype, pitches, swizzle, when, whole))
    for output in outputs:
        store = output.store
        if store.tensor_map is None:
            continue
        if output.quantize is not None:
            maps.append(quantized.tensor_map(output, space))
        elif isinstance(output.dtype, str):
            when = legal(output) if store.via == "either" else None
            pitches = (output.row_stride, output.batch_stride)
            maps.append(_map(store.tensor_map, output.arg, output.dtype, pitches, store.swizzle, when, space))
    return tuple({each.name: each for each in maps}.values())


def _map(
    name: str, source: str, dtype: Scalar, pitches: tuple[Expr, Expr], swizzle: str, when: Expr | None, space: Space
) -> TensorMap:
    width = ELEMENT_BYTES[dtype]
    row, batch = pitches
    batched = batch != 0
    return TensorMap(
        name=name,
        source=source,
        dtype=_MAP_DTYPES[dtype],
        dims=(space.n, space.m, *((space.batch,) if batched else ())),
        strides=(mul(row, width), *((mul(batch, width),) if batched else ())),
        box=(SUBTILE, 32, *((1,) if batched else ())),
        element_strides=(1, 1, *((1,) if batched else ())),
        swizzle=swizzle,
        when=when,
    )


def staging(
    inputs: Sequence[EpilogueInput], outputs: Sequence[EpilogueOutput], staged: int, tile_n: int, panel: int
) -> tuple[SmemBuffer, ...]:
    """The shared memory of it all: slot j of warp w of a buffer is at (j * WARPS + w) slots."""
    buffers: list[SmemBuffer] = []
    for leaf in inputs:
        if leaf.load is not None:
            load = leaf.load
            size, what = WARPS * 32 * load.row_bytes, f"sub-tiles of {leaf.name} on their way in"
            buffers.append(SmemBuffer(load.buffer, 0, size, load.stages, 1024, what))
            what = f"barriers: a sub-tile of {leaf.name} is there"
            buffers.append(SmemBuffer(load.barriers, 0, 8 * WARPS, load.stages, 8, what))
    for output in outputs:
        if output.store.buffer is not None:
            store = output.store
            size, what = WARPS * 32 * store.row_bytes, f"sub-tiles of {output.arg} on their way out"
            buffers.append(SmemBuffer(str(store.buffer), 0, size, store.stages, 1024, what))
    buffers.extend(quantized.transposition(tuple(outputs), WARPS))
    buffers.extend(quantized.measuring(tuple(outputs), WARPS, panel))
    if staged:
        stride = -(-tile_n // (32 * WARPS)) * 32 * WARPS
        buffers.append(SmemBuffer("columns_smem", 0, 4 * stride * staged, 1, 16, "column values of a tile, f32"))
    return tuple(buffers)


def _bytes(output: EpilogueOutput) -> int:
    if not isinstance(output.dtype, str):
        raise TypeError(f"{output.arg} is quantized")
    return ELEMENT_BYTES[output.dtype]
