"""How an epilogue's tensors cross shared memory: what its constructs share.

Everything staged must leave room for the mainloop. A plan is tried with less and less staging of results until it fits
(`LEVELS`): first they have one slot a warp, then plain ones leave registers for global memory one by one. What is left
goes to tile inputs, the narrow ones first; those that find no room are loaded by their threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fp4cc.ir.kernel import Arg, Expr, Scalar
from fp4cc.ir.lowered import SmemBuffer
from fp4cc.ir.lowered_epilogue import EPILOGUE_WARPS, LINE, SUBTILE, TRANSPOSE_BUFFER, EpilogueOutput, Space
from fp4cc.ir.sizes import Sizes, mul
from fp4rt.manifest import TensorMap

#: Shared memory that an epilogue may stage its tensors in, in bytes.
STAGING_LIMIT = 96 * 1024
#: Bytes of a plain element in memory.
ELEMENT_BYTES: Mapping[Scalar, int] = {
    "f32": 4, "bf16": 2, "f16": 2, "e4m3": 1, "e5m2": 1, "i32": 4, "u32": 4,
}  # fmt: skip
_MAP_DTYPES = {"f32": "F32", "bf16": "BF16", "f16": "F16", "e4m3": "U8", "e5m2": "U8", "i32": "I32", "u32": "U32"}
#: A sub-tile's row in staging and the swizzle that keeps 16-byte accesses of 32 rows off each other's banks.
SWIZZLE = {128: "128B", 64: "64B", 32: "32B", 16: "none"}


@dataclass(frozen=True, slots=True)
class Level:
    """How results are staged: slots of a result a warp, and whether plain results are staged at all.

    `tma`: whether TMA stores what is staged, where it can; else the warps do.
    """

    stages: int
    stores: bool
    tma: bool = True


LEVELS = (Level(stages=2, stores=True), Level(stages=1, stores=True), Level(stages=1, stores=False))
#: Where threads are asked to store: plain results from their registers, codes from where lines of them are staged.
DIRECT = Level(stages=1, stores=False, tma=False)


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
    last_batch = problem.tile_axes[-1] if problem.tile_axes else ""
    return Strides(found.get(last_batch, 0), found.get(problem.m_axis, 0), found.get(problem.n_axis, 0))


def in_order(arg: Arg, column_stride: Expr, space: Space) -> bool:
    """Whether a tensor lies as the product does: batches (all or none), rows, and columns next to each other."""
    return column_stride == 1 and tuple(str(axis.name) for axis in arg.axes[:-2]) in ((), space.batch_axes)


def subtile_map(
    name: str, source: str, dtype: Scalar, pitches: tuple[Expr, Expr], swizzle: str, when: Expr | None, space: Space
) -> TensorMap:
    """The map of a plain tensor that TMA loads or stores: boxes of 32 x 32 elements. `pitches`: of rows, batches."""
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


def slabs(output: EpilogueOutput) -> list[SmemBuffer]:
    """The slots that an output leaves through, if it does: slot j of warp w is number j * EPILOGUE_WARPS + w."""
    store = output.store
    if store.buffer is None:
        return []
    size, what = EPILOGUE_WARPS * 32 * store.row_bytes, f"sub-tiles of {output.arg} on their way out"
    return [SmemBuffer(store.buffer, 0, size, store.stages, 1024, what)]


def transposition() -> SmemBuffer:
    """The buffer in which each warp transposes a sub-tile: one for all constructs that do."""
    size = EPILOGUE_WARPS * LINE * LINE * 4
    return SmemBuffer(TRANSPOSE_BUFFER, 0, size, 1, 1024, "a sub-tile of each warp, turned around")
