"""What a kernel cannot do for empty tensors: an empty problem launches nothing."""

from __future__ import annotations

from fp4cc.ir.kernel import Constraint, Kernel
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.ir.sizes import Sizes, fold, mul
from fp4rt.sizes import text


def not_empty(kernel: Kernel, program: EpilogueProgram, sizes: Sizes) -> tuple[Constraint, ...]:
    """An empty tensor launches nothing, so it may not be empty where something is to be written all the same."""
    found: dict[str, Constraint] = {}
    for output in program.outputs:
        reason = f"nothing is launched for an empty tensor, but `{output.arg}` has values to be written even then"
        for axis in output.beyond:
            dim = next((d for d in kernel.dims if d.name == axis), None)
            if dim is not None and sizes(axis) == axis:
                found.setdefault(axis, Constraint(("gt", axis, 0), f"{axis} > 0", dim.span, reason))
    return (*found.values(), *_rows_to_load(kernel, sizes))


def _rows_to_load(kernel: Kernel, sizes: Sizes) -> list[Constraint]:
    """TMA has no map of an argument without rows: none can be numbered where there is a row to be made."""
    found: list[Constraint] = []
    for product in (value for value in kernel.values if value.op == "matmul"):
        left = kernel.values[product.operands[0]]
        if left.op != "gather":
            continue
        arg, index = (kernel.arg(str(kernel.values[operand].attrs["name"])) for operand in left.operands)
        there, rows = sizes(arg.axes[0].extent), mul(*(sizes(axis.extent) for axis in index.axes))
        if fold("gt", there, 0) is not True and rows != 0:
            expr = ("or", ("gt", there, 0), ("eq", rows, 0))
            reason = f"`{arg.name}` has no rows, of which `{index.name}` numbers some"
            found.append(Constraint(expr, f"{text(there)} > 0 or {text(rows)} == 0", arg.span, reason))
    return found
