"""Outputs with a plain element for each of the product: stored by TMA from shared memory, or by the threads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Arg, Expr, Scalar, Value
from fp4cc.ir.lowered import KernelParam, SmemBuffer
from fp4cc.ir.lowered_epilogue import SUBTILE, EpilogueOutput, RowNumbersInput, Space, StorePlan
from fp4cc.passes.epilogue.construct import Construct, Planning
from fp4cc.passes.epilogue.memory import ELEMENT_BYTES, SWIZZLE, Level, element_strides, in_order, slabs, subtile_map
from fp4cc.passes.problem.divides import holds_if_divides
from fp4cc.passes.problem.gathered import as_stored
from fp4cc.passes.problem.unzip import Frame
from fp4num import BlockFormat
from fp4rt.manifest import Param, TensorMap

STORED = ("f32", "bf16", "f16", "e4m3", "e5m2")


class Stores(Construct):
    """Plain outputs; and the slots in shared memory of all outputs that leave through some."""

    name = "stores"
    writes = ("plain",)

    def stores(self, arg: Arg, value: Value, frame: Frame) -> bool:
        return arg.format is None and value.op != "reduce"

    def output_refusals(self, arg: Arg, value: Value, frame: Frame) -> Iterable[Diagnostic]:
        problem, axes = frame.problem, tuple(axis.name for axis in as_stored(frame.kernel, arg).axes)
        scattered = any(store.arg == arg.name and store.at is not None for store in frame.kernel.stores)
        product = (*problem.batch_axes, problem.m_axis, problem.n_axis)
        if arg.dtype not in STORED:
            yield error("FP4021", f"an epilogue cannot store {arg.dtype} yet", arg.span, "declared here",
                        help=f"types it stores: {', '.join(STORED)}")  # fmt: skip
        elif sorted(map(str, axes)) != sorted(product):
            of = "of the product" if frame.accumulators else f"[{', '.join(product)}] that this kernel works on"
            yield error("FP4022", f"`{arg.name}` does not have the axes {of}", arg.span,
                        f"its axes are [{', '.join(map(str, axes))}]",
                        help=f"an output of this kernel has the axes {', '.join(product)} (in any order), or is a bare "
                        f"reduction; compute `{arg.name}` in a kernel of its own")  # fmt: skip

        elif scattered and axes not in ((*product,), product[-2:]):
            yield error("FP4059", f"rows of `{arg.name}` cannot be stored by these numbers yet", arg.span,
                        f"numbered, its axes are [{', '.join(map(str, axes))}]",
                        help=f"numbers are i32[{', '.join(product[:-1])}] of rows [S, {product[-1]}]")  # fmt: skip

    def output(self, arg: Arg, index: int, planning: Planning) -> EpilogueOutput:
        numbers = row_numbers(arg, planning)
        if numbers is not None:
            return _by_number(arg, index, numbers, planning)
        dtype, sizes = _plain(arg.dtype), planning.sizes
        strides = element_strides(arg, planning.space, sizes)
        row_legal = holds_if_divides(16 // ELEMENT_BYTES[dtype], strides.row, planning.kernel.constraints, sizes)
        ordered = in_order(arg, strides.column, planning.space)
        adds = planning.frame.adds
        store = plan_store(arg, dtype, None if adds else row_legal, ordered, planning.level, planning.space)
        return EpilogueOutput(
            arg=arg.name,
            param_name=f"{arg.name}_ptr",
            kind="plain",
            dtype=dtype,
            value=index,
            batch_stride=strides.batch,
            row_stride=strides.row,
            column_stride=strides.column,
            store=replace(store, adds=adds),
        )

    def output_params(self, output: EpilogueOutput) -> Sequence[KernelParam]:
        found: list[KernelParam] = []
        if output.store.via != "tma":
            found.append(KernelParam(output.param_name, Param("pointer", output.arg), f"{output.dtype}"))
        if output.numbers is not None:
            numbers = output.numbers
            found.append(KernelParam(numbers.param_name, Param("pointer", numbers.arg), "i32, numbers of rows"))
            if not isinstance(numbers.there, int):
                what = f"rows of {output.arg} in all"
                found.append(KernelParam(numbers.count_name, Param("i32", numbers.there), what))
        if output.store.flag is not None:
            found.append(KernelParam(output.store.flag, Param("i32", legal(output)), "rows start on 16 bytes"))
        return found

    def output_maps(self, output: EpilogueOutput, space: Space) -> Sequence[TensorMap]:
        store = output.store
        if store.tensor_map is None:
            return []
        when = legal(output) if store.flag is not None else None
        pitches = (output.row_stride, output.batch_stride)
        return [subtile_map(store.tensor_map, output.arg, _plain(output.dtype), pitches, store.swizzle, when, space)]

    def output_buffers(self, output: EpilogueOutput) -> Sequence[SmemBuffer]:
        return slabs(output)


def row_numbers(arg: Arg, planning: Planning) -> RowNumbersInput | None:
    """Where the numbers of the rows that are stored are; None where all are, as they lie."""
    kernel, sizes = planning.kernel, planning.sizes
    store = next((each for each in kernel.stores if each.arg == arg.name and each.at is not None), None)
    if store is None or store.at is None:
        return None
    numbers = kernel.arg(str(kernel.values[store.at].attrs["name"]))
    strides = element_strides(numbers, planning.space, sizes)
    return RowNumbersInput(numbers.name, arg.name, sizes(arg.axes[0].extent), strides.batch, strides.row)


def _by_number(arg: Arg, index: int, numbers: RowNumbersInput, planning: Planning) -> EpilogueOutput:
    """An output whose rows are stored by number: by a warp from shared memory, or by threads."""
    dtype, wide = _plain(arg.dtype), planning.sizes(arg.axes[-1].extent)
    row_bytes = SUBTILE * ELEMENT_BYTES[dtype]
    staged = StorePlan("direct", buffer=f"{arg.name}_slabs", stages=1, row_bytes=row_bytes)
    return EpilogueOutput(
        arg=arg.name,
        param_name=f"{arg.name}_ptr",
        kind="plain",
        dtype=dtype,
        value=index,
        batch_stride=0,
        row_stride=wide,
        column_stride=1,
        store=staged if planning.level.stores else StorePlan("direct"),
        numbers=numbers,
    )


def plan_store(arg: Arg, dtype: Scalar, legal: Expr | None, ordered: bool, level: Level, space: Space) -> StorePlan:
    """How a plain result is stored. `legal`: its rows start on 16 bytes (True, a condition, or None: never).

    TMA clips at the end of a tensor: of rows in groups it stores those runs of 32 that are all of one group.
    """
    row_bytes = SUBTILE * ELEMENT_BYTES[dtype]
    if not ordered or not level.stores:
        return StorePlan("direct")
    if legal is None:
        return StorePlan("direct", buffer=f"{arg.name}_slabs", stages=1, row_bytes=row_bytes)
    return StorePlan(
        via="tma" if legal is True and space.groups is None else "either",
        tensor_map=f"{arg.name}_store",
        flag=None if legal is True else f"{arg.name}_by_tma",
        buffer=f"{arg.name}_slabs",
        stages=level.stages,
        row_bytes=row_bytes,
        swizzle=SWIZZLE[row_bytes],
    )


def legal(output: EpilogueOutput) -> Expr:
    """The condition on a call's sizes under which TMA may store a plain output."""
    return ("eq", ("mod", output.row_stride, 16 // ELEMENT_BYTES[_plain(output.dtype)]), 0)


def _plain(dtype: Scalar | BlockFormat) -> Scalar:
    if not isinstance(dtype, str):
        raise TypeError(f"{dtype.name} is no plain type")
    return dtype
