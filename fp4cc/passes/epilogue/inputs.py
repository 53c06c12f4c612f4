"""What an epilogue reads besides accumulators, and how: each leaf of its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Arg, Expr, Kernel, Scalar, Value
from fp4cc.ir.lowered import KernelParam
from fp4cc.ir.lowered_epilogue import EpilogueInput, RowNumbersInput
from fp4cc.ir.sizes import Sizes, mul
from fp4cc.passes.epilogue.memory import ELEMENT_BYTES, element_strides
from fp4cc.passes.problem import halves
from fp4cc.passes.problem.divides import holds_if_divides
from fp4cc.passes.problem.unzip import Frame
from fp4rt.manifest import Param
from fp4rt.ops import OPS


def is_leaf(value: Value) -> bool:
    """Whether the epilogue reads or makes it, or a half of it, rather than computes it from other values."""
    return OPS[value.op].kind == "leaf" or value.op in ("uniform", "unzip", "gather", "pick")


def dim_size(value: Value, sizes: Sizes) -> Expr:
    """The size that a `dim` is."""
    return sizes(_as_expr(value.attrs["expr"]))


class Inputs:
    """Plans how leaves are read; what cannot be read goes to `errors`. `live`: the values that something needs."""

    def __init__(self, frame: Frame, sizes: Sizes, live: Sequence[int]) -> None:
        self.kernel = frame.kernel
        self.problem = frame.problem
        self.sizes = sizes
        self.taken = {arg.name for arg in frame.kernel.args}  # names of inputs
        self.live = live
        self.errors: list[Diagnostic] = []
        self._leaves: dict[int, EpilogueInput] = {}

    def leaf(self, index: int) -> EpilogueInput:
        """How a leaf is read, by what it is: its kind says by which construct."""
        if index not in self._leaves:
            self._leaves[index] = self._leaf(index)
        return self._leaves[index]

    def _leaf(self, index: int) -> EpilogueInput:
        value = self.kernel.values[index]
        if value.op == "unzip":
            return self._half(index)
        if value.op == "gather":
            return self._gathered(index, value)
        if value.op == "pick":
            return self._picked(index, value)
        if value.op == "dim":
            size = dim_size(value, self.sizes)
            name = str(value.attrs["name"]) if isinstance(size, str) else f"size{index}"
            return EpilogueInput(name, f"{name}_value", "dim", "i32", index)
        if value.op == "uniform":
            return self._uniform(index, value)
        if value.op == "tensor_scale":
            arg = str(value.attrs["name"])
            if value.axes:
                whole = self.kernel.arg(arg)
                of_batches = replace(whole, name=f"{arg}_scale", dtype="f32", axes=whole.axes[:-2])
                return self._tensor_input(of_batches, "f32", index)
            return EpilogueInput(f"{arg}_scale", f"{arg}_scale_ptr", "device_scalar", "f32", index)
        return self._argument(self.kernel.arg(str(value.attrs["name"])), index)

    def _argument(self, arg: Arg, index: int) -> EpilogueInput:
        if arg.format is not None:
            leaf = self._tensor_input(replace(arg, dtype="f32"), "f32", index)
            return replace(leaf, kind="codes", param_name=f"{arg.name}_codes_ptr", vector=None)
        dtype = self._readable(arg)
        if arg.direction == "param":
            return EpilogueInput(arg.name, f"{arg.name}_value", "scalar_param", dtype, index)
        if not arg.axes:
            return EpilogueInput(arg.name, f"{arg.name}_ptr", "device_scalar", dtype, index)
        if arg.axes[0].name is None:
            return EpilogueInput(arg.name, f"{arg.name}_ptr", "points", dtype, index)
        return self._tensor_input(arg, dtype, index)

    def _gathered(self, index: int, value: Value) -> EpilogueInput:
        """Rows, or elements, by number."""
        source, picked = (self.kernel.values[operand] for operand in value.operands)
        place = int(cast("int", picked.attrs["index"])) if picked.op == "pick" else None
        whole = self.kernel.values[picked.operands[0]] if picked.op == "pick" else picked
        arg, numbers = self.kernel.arg(str(source.attrs["name"])), self.kernel.arg(str(whole.attrs["name"]))
        strides = element_strides(numbers, self.problem, self.sizes)
        there = self.sizes(arg.axes[0].extent)
        dtype = "f32" if arg.format is not None else self._readable(arg)
        wide = self.sizes(arg.axes[-1].extent) if len(arg.axes) > 1 else 1
        name = self._new_name(f"{arg.name}_of_{numbers.name}" + (f"{place}" if place is not None else ""))
        leaf = EpilogueInput(
            name=name,
            param_name=f"{arg.name}_ptr",
            kind="gathered",
            dtype=dtype,
            value=index,
            row_stride=wide,
            column_stride=1 if len(arg.axes) > 1 else 0,
            vector=self._holds(wide, 16 // ELEMENT_BYTES[dtype]) if len(arg.axes) > 1 else None,
            arg=arg.name,
            numbers=RowNumbersInput(
                numbers.name, arg.name, there, strides.batch, strides.row,
                0 if place is None else place * self._stride(numbers, picked), place,
            ),
        )  # fmt: skip
        if arg.format is None:
            return leaf
        return replace(leaf, kind="codes", param_name=f"{arg.name}_codes_ptr", vector=None)

    def _picked(self, index: int, value: Value) -> EpilogueInput:
        """One index of an axis of an argument: an input without that axis, some elements further on."""
        arg = self.kernel.arg(str(self.kernel.values[value.operands[0]].attrs["name"]))
        left = replace(arg, axes=tuple(axis for axis in arg.axes if axis.name != value.attrs["axis"]))
        leaf, whole = self._argument(left, index), element_strides(arg, self.problem, self.sizes)
        place = int(cast("int", value.attrs["index"]))
        return replace(
            leaf,
            name=self._new_name(f"{arg.name}_at{place}"),
            arg=arg.name,
            batch_stride=whole.batch,
            row_stride=whole.row,
            column_stride=whole.column,
            vector=None,
            offset=place * self._stride(arg, value),
        )

    def _stride(self, arg: Arg, picked: Value) -> int:
        """The elements from one index to the next of the axis that is picked along: a number, where it is last."""
        stride: Expr = 1
        for axis in reversed(arg.axes):
            if axis.name == picked.attrs["axis"]:
                break
            stride = mul(stride, self.sizes(axis.extent))
        if not isinstance(stride, int):
            self.errors.append(
                error("FP4056", f"`{arg.name}` cannot be picked from along `{picked.attrs['axis']}` yet", arg.span,
                      "declared here", help=f"let `{picked.attrs['axis']}` be its last axis, or fix those after it"),
            )  # fmt: skip
            return 0
        return stride

    def _new_name(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _readable(self, arg: Arg) -> Scalar:
        """The type of an argument's elements, where an epilogue reads it."""
        dtype = arg.dtype
        if isinstance(dtype, str) and dtype in ELEMENT_BYTES:
            return dtype
        what = dtype if isinstance(dtype, str) else dtype.name
        self.errors.append(
            error("FP4023", f"an epilogue cannot read {what} yet", arg.span, "declared here",
                  help=f"types it reads: {', '.join(ELEMENT_BYTES)}"),
        )  # fmt: skip
        return "f32"

    def _half(self, index: int) -> EpilogueInput:
        """The half of an argument, read as one of twice as many columns, or of random numbers."""
        value = self.kernel.values[index]
        whole = self.kernel.values[value.operands[0]]
        half = halves.half(halves.Cut.of(value), self.sizes, value)
        if whole.op == "uniform":
            leaf = self._uniform(index, whole)
        else:
            leaf = self._argument(halves.twice(self.kernel.arg(str(whole.attrs["name"])), value), index)
        if leaf.kind == "tile" and leaf.column_stride == 1:  # each half of a row starts on 16 bytes then
            leaf = replace(leaf, vector=self._holds(self.problem.n, 16 // ELEMENT_BYTES[leaf.dtype]))
        name = f"{leaf.name}_{'second' if half.part else 'first'}"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return replace(leaf, name=name, arg=leaf.source, half=half)

    def _uniform(self, index: int, value: Value) -> EpilogueInput:
        rng = str(self.kernel.values[value.operands[0]].attrs["name"])
        stream = value.attrs["stream"]
        name = str(value.attrs.get("name", "random"))
        number = stream if isinstance(stream, int) else 0
        leaf = EpilogueInput(name, f"{rng}_ptr", "uniform", "f32", index, stream=number, arg=rng)
        if value.axes[-1:] == (self.problem.m_axis,):
            return replace(leaf, column_stride=self.problem.m, row_stride=1)
        aligned = True if self._holds(self.problem.n, 4) is True else None
        return replace(leaf, vector=aligned)

    def _tensor_input(self, arg: Arg, dtype: Scalar, index: int) -> EpilogueInput:
        problem = self.problem
        axes = tuple(str(axis.name) for axis in arg.axes)
        batch = tuple(a for a in axes if a in problem.tile_axes)
        rest = [a for a in axes if a not in problem.tile_axes]
        odd = [a for a in rest if a not in (problem.m_axis, problem.n_axis)]
        product = ", ".join((*problem.batch_axes, problem.m_axis, problem.n_axis))
        grouped = [a.name for a in arg.axes if a.by or a.upto]
        if odd or (batch and batch != problem.tile_axes) or (grouped and grouped != [problem.m_axis]):
            self.errors.append(
                error("FP4024", f"`{arg.name}` has axes that the epilogue cannot read yet", arg.span,
                      f"its axes are [{', '.join(axes)}]",
                      notes=[f"the product has the axes [{product}]"],
                      help="an epilogue input has all batch axes, in the product's order, or none"),
            )  # fmt: skip
        m, n = problem.m_axis in axes, problem.n_axis in axes
        strides = element_strides(arg, problem, self.sizes)
        leaf = EpilogueInput(
            name=arg.name,
            param_name=f"{arg.name}_ptr",
            kind="tile" if m and n else "row" if m else "column" if n else "batch",
            dtype=dtype,
            value=index,
            batch_stride=strides.batch,
            row_stride=strides.row,
            column_stride=strides.column,
        )
        if leaf.kind == "tile" and leaf.column_stride == 1:
            leaf = replace(leaf, vector=self._holds(leaf.row_stride, 16 // ELEMENT_BYTES[dtype]))
        return leaf

    def guarded(self, leaf: EpilogueInput) -> EpilogueInput:
        """An inout argument is not read where every factor it is multiplied by is zero."""
        if leaf.kind != "tile" or self.kernel.arg(leaf.source).direction != "inout":
            return leaf
        factors: list[int] = []
        casts = {leaf.value}
        for index in self.live:
            user = self.kernel.values[index]
            if not casts.intersection(user.operands):
                continue
            if user.op == "cast" and user.dtype == "f32":
                casts.add(index)
                continue
            other = [i for i in user.operands if i not in casts]
            if user.op != "mul" or len(other) != 1 or self.kernel.values[other[0]].axes:
                return leaf
            factors.append(other[0])
        if any(store.value in casts for store in self.kernel.stores):
            return leaf
        return replace(leaf, guards=tuple(dict.fromkeys(factors)))

    def _holds(self, expr: Expr, divisor: int) -> Expr | None:
        return holds_if_divides(divisor, expr, self.kernel.constraints, self.sizes)


def numbers_params(leaf: EpilogueInput) -> list[KernelParam]:
    """The parameters that say which rows an input has; none where these are all, as they lie."""
    numbers = leaf.numbers
    if numbers is None:
        return []
    found = [KernelParam(numbers.param_name, Param("pointer", numbers.arg), "i32, numbers of rows")]
    if not isinstance(numbers.there, int):
        found.append(KernelParam(numbers.count_name, Param("i32", numbers.there), f"rows of {leaf.source} in all"))
    return found


def pointer(leaf: EpilogueInput, kernel: Kernel) -> KernelParam:
    """The parameter that points to what an input reads."""
    value = kernel.values[leaf.value]
    if value.op == "tensor_scale":
        source = f"{value.attrs['name']}.tensor_scale"
    else:
        source = kernel.arg(leaf.source).source or leaf.source
    return KernelParam(leaf.param_name, Param("pointer", source), f"{leaf.dtype}, {leaf.kind}")


def _as_expr(attr: object) -> Expr:
    if isinstance(attr, int | str):
        return attr
    if isinstance(attr, Sequence):
        return tuple(_as_expr(part) for part in attr)
    raise TypeError(f"not a size: {attr!r}")
