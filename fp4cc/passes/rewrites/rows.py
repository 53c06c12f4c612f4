"""Kernels whose weights are made ready once: e2m1 with e8m0 scales becomes rows of e5m2, and a factor for each row.

`matmul(x, w.T, accumulate = fast)` of FP8 by mxfp4 is then a product of FP8 as it is, times a factor for each column of
the result. e5m2 holds e2m1 times 27 neighboring powers of two exactly, so that the sums are of the same terms
(docs/numerics.md). A row with more between its scales cannot be made ready: who makes it counts such rows, and their
tensor is multiplied as it was (`fp4rt.prepared`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp4cc.ir.kernel import Arg, Axis, Kernel, Store, Value
from fp4cc.ir.verify import verify
from fp4cc.passes.problem.groups import in_groups
from fp4cc.passes.rewrites.row_scales import split_row_scales
from fp4cc.passes.rewrites.split import FreshNames

_LEFT = ("e4m3", "e5m2")
#: The type that rows get, and the columns of a block of the weights.
ROWS, BLOCK = "e5m2", 32


@dataclass(frozen=True, slots=True)
class Rows:
    """`first` makes rows and their factors of the weights `arg`; `second` is the kernel that reads them instead."""

    arg: Arg
    rows: Arg
    factors: Arg
    first: Kernel
    second: Kernel


def why_no_rows(kernel: Kernel) -> str | None:
    """Why no weights of a kernel are made ready once; None where they are."""
    split = split_row_scales(kernel)
    products = [value for value in split.values if value.op == "matmul"]
    if len(products) != 1:
        return "it has not one product"
    (product,) = products
    if product.attrs.get("accumulate") != "fast":
        return "its sums are not fast: write `matmul(x, w.T, accumulate = fast)`"
    if split.values[product.operands[0]].dtype not in _LEFT:
        return "its left operand is not FP8, plain or with a scale for each row"
    arg = _weights(split, product)
    fmt = None if arg is None else arg.format
    if arg is None or fmt is None or arg.direction != "in":
        return "its right operand is not an input with block scales"
    whole = fmt.block == fmt.stored == (1, BLOCK) and fmt.tensor_scale is None
    if fmt.element != "e2m1" or fmt.scale != "e8m0" or not whole:
        return f"{fmt.name} is not e2m1 with an e8m0 scale for each {BLOCK} columns"
    if any(in_groups(axis) for other in kernel.args for axis in other.axes):
        return "its rows are in groups"
    if sum(value.op == "arg" and value.attrs["name"] == arg.name for value in split.values) > 1:
        return f"{arg.name} is not an operand of the product alone"
    return None


def in_rows(kernel: Kernel) -> Rows:
    """The two kernels of one that `why_no_rows` has no word against; the second has the name of it."""
    kernel = split_row_scales(kernel)
    product = next(value for value in kernel.values if value.op == "matmul")
    arg = _weights(kernel, product)
    if arg is None:
        raise TypeError(f"{kernel.name} has no weights to be made ready")
    names, axes = FreshNames(kernel), tuple(Axis(axis.name, axis.extent) for axis in arg.axes)
    rows = Arg(names.new(f"{arg.name}_rows"), "out", ROWS, axes, arg.span)
    factors = Arg(names.new(f"{arg.name}_factors"), "out", "f32", axes[:-1], arg.span)
    second = _second(kernel, arg, replace(rows, direction="in"), replace(factors, direction="in"))
    verify(second, "making weights ready")
    return Rows(arg, rows, factors, _first(kernel, arg, rows, factors), second)


def _weights(kernel: Kernel, product: Value) -> Arg | None:
    """The argument of a right operand."""
    value = kernel.values[product.operands[1]]
    while value.op == "transpose":
        value = kernel.values[value.operands[0]]
    return kernel.arg(str(value.attrs["name"])) if value.op == "arg" else None


def _first(kernel: Kernel, arg: Arg, rows: Arg, factors: Arg) -> Kernel:
    """What makes the rows, as far as a typed kernel says it: each number is its row's factor times its element."""
    axes = tuple(str(axis.name) for axis in arg.axes)
    read = Value("arg", (), arg.dtype, axes, arg.span, {"name": arg.name})
    return replace(
        kernel,
        name=f"{kernel.name}_rows",
        args=(arg, rows, factors),
        values=(read, Value("dequantize", (0,), "f32", axes, arg.span)),
        stores=(Store(rows.name, 1, arg.span),),
        schedules=(),
    )


def _second(kernel: Kernel, arg: Arg, rows: Arg, factors: Arg) -> Kernel:
    """The kernel with rows in the place of the weights, and its sums times the factors."""
    found = [Value("arg", (), "f32", tuple(str(axis.name) for axis in factors.axes), arg.span, {"name": factors.name})]
    new: dict[int, int] = {}
    for index, value in enumerate(kernel.values):
        operands = tuple(new[operand] for operand in value.operands)
        made = replace(value, operands=operands)
        if value.op == "arg" and value.attrs["name"] == arg.name:
            made = replace(made, dtype=ROWS, attrs={**value.attrs, "name": rows.name})
        elif value.op == "transpose" and not isinstance(kernel.values[value.operands[0]].dtype, str):
            made = replace(made, dtype=found[operands[0]].dtype)
        if value.op == "matmul":
            named = {key: attr for key, attr in value.attrs.items() if key == "name"}
            found.append(replace(made, attrs={key: attr for key, attr in value.attrs.items() if key != "name"}))
            made = Value("mul", (len(found) - 1, 0), "f32", value.axes, value.span, named)
        new[index] = len(found)
        found.append(made)
    return replace(
        kernel,
        args=(*(each for each in kernel.args if each.name != arg.name), rows, factors),
        values=tuple(found),
        stores=tuple(
            replace(store, value=new[store.value], at=None if store.at is None else new[store.at])
            for store in kernel.stores
        ),
        schedules=(),
    )
