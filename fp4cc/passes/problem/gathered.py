"""Rows by number: left operands of products whose rows are those of an argument that another one lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Arg, Kernel, Value
from fp4cc.ir.lowered import RowNumbers


def gathers(kernel: Kernel) -> bool:
    """Whether a product has a left operand whose rows are gathered."""
    return any(_gathered(kernel, value) is not None for value in kernel.values if value.op == "matmul")


def row_numbers(kernel: Kernel, product: Value) -> RowNumbers | None:
    """Which rows the left operand of a product has; None where they are all of an argument's, as they lie."""
    gather = _gathered(kernel, product)
    if gather is None:
        return None
    index = kernel.values[gather.operands[1]]
    return RowNumbers(str(index.attrs["name"]), len(index.axes) > 1)


def gather_refusal(kernel: Kernel, gather: Value, product: Value, side: str) -> Diagnostic | None:
    """Why rows by number cannot be an operand, on that side of a product; None where they can."""
    source, index = (kernel.values[operand] for operand in gather.operands)
    batch, rows = product.axes[:-2], product.axes[-2]
    why = help = ""
    if side != "left":
        why, help = "as the right operand", "write them with one kernel, and multiply them in a second one"
    elif "contracted" in product.attrs:
        why, help = "where rows in groups are contracted", "write them with one kernel, and multiply them in a second"
    elif len(source.axes) != 2 or index.axes not in ((rows,), (*batch, rows)):
        why = f"of the axes [{', '.join(source.axes)}] by [{', '.join(index.axes)}]"
        help = f"the operand is x[S, K], and its row numbers are i32[{', '.join((*batch, rows))}] or i32[{rows}]"
    if not why:
        return None
    return error(
        "FP4052", f"rows by number cannot be multiplied {why} yet", gather.span, "rows of an input by their numbers",
        also=[(product.span, "multiplied here")], help=help,
    )  # fmt: skip


def _gathered(kernel: Kernel, product: Value) -> Value | None:
    left = kernel.values[product.operands[0]]
    return left if left.op == "gather" else None


def as_read(kernel: Kernel, args: Sequence[Arg]) -> list[Arg]:
    """Arguments with the axes by which values are read of them: rows by number have those of the numbers, and what is
    picked along an axis lacks it."""
    found: list[Arg] = []
    picked = {value.operands[0]: str(value.attrs["axis"]) for value in kernel.values if value.op == "pick"}
    leaves = {i: str(value.attrs["name"]) for i, value in enumerate(kernel.values) if value.op == "arg"}
    without = {leaves[index]: axis for index, axis in picked.items()}
    gathered = {i for value in kernel.values if value.op == "gather" for i in value.operands[:1]}
    used = {operand for value in kernel.values if value.op != "gather" for operand in value.operands}
    used |= {store.value for store in kernel.stores}
    whole = {leaves[index] for index in leaves if index in used or index not in gathered}
    for arg in args:
        axes = tuple(axis for axis in arg.axes if axis.name != without.get(arg.name))
        if arg.name in whole or arg.name not in leaves.values():
            found.append(replace(arg, axes=axes))
    by_name = {arg.name: arg for arg in found}
    for store in (each for each in kernel.stores if each.at is not None):
        found = [as_stored(kernel, arg) if arg.name == store.arg else arg for arg in found]
    for value in (each for each in kernel.values if each.op == "gather"):
        source, numbers = value.operands
        inner = kernel.values[numbers].operands[0] if kernel.values[numbers].op == "pick" else numbers
        arg = next((each for each in args if each.name == leaves.get(source)), None)
        index = by_name.get(leaves.get(inner, ""))
        if arg is not None and index is not None:
            found.append(replace(arg, axes=(*index.axes, *arg.axes[1:])))
    return found


def as_stored(kernel: Kernel, arg: Arg) -> Arg:
    """An output with the axes of the value that is stored in it: of rows by number those of the numbers."""
    store = next((each for each in kernel.stores if each.arg == arg.name and each.at is not None), None)
    if store is None or store.at is None:
        return arg
    numbers = kernel.arg(str(kernel.values[store.at].attrs["name"]))
    return replace(arg, axes=(*numbers.axes, *arg.axes[1:]))
