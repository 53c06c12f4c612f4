"""How warps store the tile that they have multiplied, as text."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Call, binds
from fp4cc.codegen.strides import bytes_text, offset, stride_text
from fp4cc.ir.lowered import LoweredKernel


@dataclass(frozen=True, slots=True)
class StoreText:
    """What the template says of a store.

    `values`: the list that a sub-tile's statements make; `pack`: what makes words of them. `slabs`: the buffer with the
    columns of each warpgroup, `slab_bytes` each. `by_tma` stores one; `flag`: the condition under which it may, else
    `copy` stores its 32 rows from `number` on; both None where it always may.
    """

    values: str
    pack: str
    slabs: str
    slab_bytes: int
    by_tma: Call
    flag: str | None
    copy: Call | None


def store_text(lowered: LoweredKernel, epilogue: EpilogueText) -> StoreText:
    """The text of the only output's store."""
    (output,) = lowered.epilogue.outputs
    store, problem = output.store, lowered.epilogue.problem
    buffer = lowered.smem.buffer(str(store.buffer))
    batch = ", batch" if problem.batch_axes else ""
    source = f"{buffer.name}.subview(warpgroup * {buffer.bytes})"
    coordinates = f"(n0 + 64 * warpgroup, m0{batch})"
    where = offset(
        problem,
        batch=(output.batch_stride, "batch"),
        row=(output.row_stride, "m0 + 32 * number"),
        column=(output.column_stride, "n0 + 64 * warpgroup"),
    )
    copy = None
    if store.flag is not None:
        arguments = (
            "slab + 4096 * number",
            f"global_address({output.param_name}, {where}, 2)",
            bytes_text(2, stride_text(problem, output.row_stride)),
            "lane",
            "row_bytes=128",
            "width=2",
            "rows=m_size - m0 - 32 * number",
            "units=n_size - n0 - 64 * warpgroup",
        )
        copy = Call("copy_rows_out", arguments)
    return StoreText(
        values=next(iter(binds(epilogue.subtile[-1:]))),  # the last list is that of what is stored
        pack=f"pack_{output.dtype}",
        slabs=buffer.name,
        slab_bytes=buffer.bytes,
        by_tma=Call(
            "prims.cp_async_bulk_tensor_global_shared_cta", (f"{store.tensor_map}.get_ptr()", source, coordinates)
        ),
        flag=store.flag,
        copy=copy,
    )
