"""Kernels in two launches because their left operand is converted once a call, not by each tile that needs it.

`x @ w.T` of two operands with block scales becomes `xw = dequantize(x)`, without its tensor scale, in bf16 in the
workspace, and `xw @ w.T`. What bf16 holds is what a tile would have made of it (docs/operands.md), so that the sums are
of the same terms; the tensor scale stays where it was, a factor of the sums. So does a left operand of FP8 beside
weights with block scales: its elements are bf16 as they are, and a scale for each row stays a factor of the sums.
"""

from __future__ import annotations

from dataclasses import replace

from fp4cc.ir.kernel import Arg, Axis, Constraint, Kernel, Store, Value
from fp4cc.ir.sizes import Sizes, fold
from fp4cc.ir.verify import verify
from fp4cc.passes.epilogue.decoded import WHOLE, whole_blocks
from fp4cc.passes.problem.groups import in_groups
from fp4cc.passes.rewrites.row_scales import split_row_scales
from fp4cc.passes.rewrites.split import FreshNames, Split
from fp4cc.passes.rewrites.wide import pruned, read_by
from fp4num import BlockFormat

_WIDE = "bf16"
_SCALES = ("e4m3", "e8m0")
_PLAIN = ("e4m3", "e5m2")
#: Elements of fewer bits than these bf16 holds times any block scale, also where it may not lose a bit.
_FEWER_BITS = 8
#: Columns that a lane of the first launch has.
_RUN = 32


def why_not_converted(kernel: Kernel) -> str | None:
    """Why no left operand can be converted by a launch of its own; None where one can."""
    kernel = split_row_scales(kernel)
    products = [value for value in kernel.values if value.op == "matmul"]
    lefts = {index for value in products for index in value.operands[:1]}
    args = {str(kernel.values[i].attrs["name"]) for i in lefts if kernel.values[i].op == "arg"}
    if any(kernel.values[i].op != "arg" for i in lefts):
        return "its left operand is computed"
    if not products or len(args) > 1:
        return "its products have several left operands" if products else "there is no product in it"
    arg = kernel.arg(args.pop())
    fmt, rights = arg.format, [_right(kernel, value) for value in products]
    plain = arg.dtype in _PLAIN and all(right is not None and right.bits < _FEWER_BITS for right in rights)
    scaled = fmt is not None and fmt.scale in _SCALES
    if not (plain or scaled) or any(right is None or right.scale not in _SCALES for right in rights):
        return (
            "only a left operand with block scales, or of FP8, is converted once, beside right ones with block scales"
        )
    if any(in_groups(axis) for other in kernel.args for axis in other.axes):
        return f"rows of {arg.name} are in groups"
    if fmt is None:
        return None
    if not whole_blocks(fmt):
        return f"blocks of {fmt.stored[1]} columns are no parts of runs of 32"
    k = Sizes.of(kernel.dims)(arg.axes[-1].extent)
    if fold("eq", fold("mod", k, WHOLE[fmt.bits]), 0) is False:
        return f"{k} columns of {fmt.name} are not whole loads"
    return None


def can_turn(kernel: Kernel) -> bool:
    """Whether the columns can lie in the order of `fp4cc.ir.turned`: whole runs of 32, each of one scale of weights.

    That is of use to weights of eight bits, of which there are most to read. `why_not_converted` has no word against
    the kernel.
    """
    products = [value for value in kernel.values if value.op == "matmul"]
    left = kernel.arg(str(kernel.values[products[0].operands[0]].attrs["name"])).format  # None: FP8
    rights = [_right(kernel, value) for value in products]
    whole = left is not None and (WHOLE[left.bits] % _RUN == 0 or _long(left.block[1]))
    return whole and all(right is not None and right.bits == 8 and _long(right.stored[1]) for right in rights)


def _long(columns: int | str) -> bool:
    """Whether blocks are whole runs."""
    return columns == "all" or (isinstance(columns, int) and columns % _RUN == 0)


def converted(kernel: Kernel, *, turned: bool = False) -> Split:
    """The two kernels of one that `why_not_converted` has no word against; the second has the name of it."""
    kernel = split_row_scales(kernel)
    left = next(kernel.values[value.operands[0]] for value in kernel.values if value.op == "matmul")
    arg = kernel.arg(str(left.attrs["name"]))
    axes = tuple(Axis(axis.name, axis.extent) for axis in arg.axes)
    wide = Arg(FreshNames(kernel).new(f"{arg.name}_{_WIDE}"), "out", _WIDE, axes, arg.span, turned=turned)
    first = _first(kernel, arg, wide, left)
    second = _second(kernel, arg, replace(wide, direction="in", stands_for=arg.format))
    verify(first, "converting an operand")
    verify(second, "converting an operand")
    return Split(first, second, (wide,), f"{arg.name} is converted once a call", ())


def _right(kernel: Kernel, product: Value) -> BlockFormat | None:
    """The format of a right operand's argument."""
    value = kernel.values[product.operands[1]]
    while value.operands:
        value = kernel.values[value.operands[0]]
    return kernel.arg(str(value.attrs["name"])).format if value.op == "arg" else None


def _first(kernel: Kernel, arg: Arg, wide: Arg, left: Value) -> Kernel:
    """`wide = dequantize(arg)`, without a tensor scale, or what a plain one is."""
    name = f"{kernel.name}_{_WIDE}{'_turned' if wide.turned else ''}"
    if arg.format is None:
        values = (left, Value("cast", (0,), "f32", left.axes, left.span))
        stores = (Store(wide.name, 1, arg.span),)
        return replace(kernel, name=name, args=(arg, wide), values=values, stores=stores, schedules=())
    fmt = replace(arg.format, tensor_scale=None, each_batch=False)
    whole, k_axis = WHOLE[fmt.bits], arg.axes[-1]
    reason = f"a row of {arg.format.name} must start on 16 bytes"
    condition = Constraint(("eq", ("mod", k_axis.extent, whole), 0), f"{k_axis.name} % {whole} == 0", arg.span, reason)
    return replace(
        kernel,
        name=name,
        args=(replace(arg, dtype=fmt), wide),
        values=(replace(left, dtype=fmt), Value("dequantize", (0,), "f32", left.axes, left.span)),
        stores=(Store(wide.name, 1, arg.span),),
        constraints=(*kernel.constraints, condition),
        schedules=(),
    )


def _second(kernel: Kernel, arg: Arg, wide: Arg) -> Kernel:
    """The kernel with the converted operand in the place of the quantized one, of which a tensor scale may be left."""
    axes = tuple(str(axis.name) for axis in arg.axes)
    values = [Value("arg", (), _WIDE, axes, arg.span, {"name": wide.name})]
    for value in kernel.values:
        operands = tuple(operand + 1 for operand in value.operands)
        if value.op == "matmul":
            operands = (0, operands[1])
        values.append(replace(value, operands=operands))
    stores = tuple(
        replace(store, value=store.value + 1, at=None if store.at is None else store.at + 1) for store in kernel.stores
    )
    made = pruned(replace(kernel, args=(wide, *kernel.args), values=tuple(values), stores=stores))
    left = arg.direction != "in" or arg.name in read_by(made)
    return made if left else replace(made, args=tuple(other for other in made.args if other.name != arg.name))
