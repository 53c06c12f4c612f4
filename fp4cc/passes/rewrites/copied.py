"""Rows by number copied by a launch before the product: on sm_90a, where TMA would bring them one by one.

A TMA instruction takes about 48 clocks of an H100 however small its box is, so a tile of 256 rows of 128 bytes would
take ten times as long as its product, and copying them all once takes some percent of it (docs/operands.md). Operands
with block scales become bf16 on the way, as each tile would have made them; their tensor scale stays a factor of sums.
"""

from __future__ import annotations

from dataclasses import replace

from fp4cc.ir.kernel import Arg, Axis, Constraint, Kernel, Store, Value
from fp4cc.ir.verify import verify
from fp4cc.passes.epilogue.decoded import WHOLE, whole_blocks
from fp4cc.passes.rewrites.row_scales import split_row_scales
from fp4cc.passes.rewrites.split import FreshNames, Split
from fp4cc.passes.rewrites.wide import pruned, read_by

_PLAIN = ("bf16", "f16", "e4m3", "e5m2")
_SCALES = ("e4m3", "e8m0")


def copied_rows(kernel: Kernel) -> Split | None:
    """The two kernels of one whose products have rows by number as their left operand; None of others.

    None, too, where products have several such operands, or one that no 16-bit type holds: what then multiplies has a
    word to say.
    """
    kernel = split_row_scales(kernel)
    lefts = {value.operands[0] for value in kernel.values if value.op == "matmul"}
    gathers = [index for index in lefts if kernel.values[index].op == "gather"]
    if len(gathers) != 1:
        return None
    (index,) = gathers
    gather = kernel.values[index]
    arg, numbers = (kernel.arg(str(kernel.values[operand].attrs["name"])) for operand in gather.operands)
    fmt = arg.format
    if arg.dtype not in _PLAIN and (fmt is None or fmt.scale not in _SCALES or not whole_blocks(fmt)):
        return None
    dtype = arg.dtype if isinstance(arg.dtype, str) else "bf16"
    axes = (*numbers.axes, *arg.axes[1:])
    copy = Arg(FreshNames(kernel).new(f"{arg.name}_rows"), "out", dtype, _plain(axes), gather.span)
    first = _first(kernel, arg, numbers, copy, gather)
    second = _second(kernel, index, replace(copy, direction="in", axes=axes, stands_for=fmt))
    verify(first, "copying rows")
    verify(second, "copying rows")
    return Split(first, second, (copy,), f"rows of {arg.name} are copied by their numbers", ())


def _plain(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Axes without groups: all rows are copied alike."""
    return tuple(Axis(axis.name, axis.extent) for axis in axes)


def _first(kernel: Kernel, arg: Arg, numbers: Arg, copy: Arg, gather: Value) -> Kernel:
    """`copy = arg[numbers]`, of block scales with them, without a tensor scale."""
    fmt, constraints = arg.format, kernel.constraints
    if fmt is not None:
        fmt = replace(fmt, tensor_scale=None, each_batch=False)
        whole, k_axis = WHOLE[fmt.bits], arg.axes[-1]
        reason = f"a row of {fmt.name} must start on 16 bytes"
        condition = ("eq", ("mod", k_axis.extent, whole), 0)
        constraints = (*constraints, Constraint(condition, f"{k_axis.name} % {whole} == 0", arg.span, reason))
    source, index = (kernel.values[operand] for operand in gather.operands)
    dtype = source.dtype if fmt is None else fmt
    op = "cast" if fmt is None else "dequantize"
    return replace(
        kernel,
        name=f"{kernel.name}_rows",
        args=(replace(arg, dtype=dtype), replace(numbers, axes=_plain(numbers.axes)), copy),
        values=(
            replace(source, dtype=dtype),
            index,
            replace(gather, operands=(0, 1), dtype=dtype, attrs={}),
            Value(op, (2,), "f32", gather.axes, gather.span),
        ),
        stores=(Store(copy.name, 3, gather.span),),
        constraints=constraints,
        schedules=(),
    )


def _second(kernel: Kernel, gather: int, copy: Arg) -> Kernel:
    """The kernel with the copy in the place of the rows by number, as the left operand of its products."""
    axes = tuple(str(axis.name) for axis in copy.axes)
    values = [Value("arg", (), copy.dtype, axes, copy.span, {"name": copy.name})]
    for value in kernel.values:
        operands = tuple(operand + 1 for operand in value.operands)
        if value.op == "matmul" and value.operands[0] == gather:
            operands = (0, operands[1])
        values.append(replace(value, operands=operands))
    stores = tuple(
        replace(store, value=store.value + 1, at=None if store.at is None else store.at + 1) for store in kernel.stores
    )
    made = pruned(replace(kernel, args=(copy, *kernel.args), values=tuple(values), stores=stores))
    read = read_by(made)
    return replace(made, args=tuple(arg for arg in made.args if arg.direction != "in" or arg.name in read))
