"""`@` and `.T`: which axis is contracted, what the batch axes are, and how tensor scales apply."""

from __future__ import annotations

from fp4cc.frontend import ast
from fp4cc.ir.kernel import Arg
from fp4cc.sema.context import Context
from fp4cc.sema.groups import Ragged
from fp4cc.sema.operands import Operand, Val, dtype_name, type_text
from fp4cc.source import Span
from fp4num import BlockFormat

#: How the sums of a product are kept: in f32, or as the tensor core for FP8 has them (docs/numerics.md).
ACCUMULATE = ("f32", "fast")
_NARROW = ("e4m3", "e5m2")
_MULTIPLIED = ("f32", "bf16", "f16", "e4m3", "e5m2")


def transpose(context: Context, value: Val, span: Span) -> Val:
    """The value with its last two axes swapped; twice is the value itself."""
    if len(value.axes) < 2:
        raise context.fail(
            "FP2011",
            "`.T` swaps the last two axes, and there are not two",
            span,
            f"this is {type_text(value.dtype, value.axes)}",
        )
    made = context.values.values[value.index]
    if made.op == "arg" and (arg := _argument(context, value)) is not None and arg.direction == "inout":
        raise context.fail(
            "FP2022",
            f"`{arg.name}` is inout: its old value is read only at its own place",
            span,
            "`.T` reads it elsewhere, where the kernel may have written already",
            also=[(arg.span, "declared here")],
            help="take the old value as an `in` argument of its own",
        )
    axes = (*value.axes[:-2], value.axes[-1], value.axes[-2])
    if made.op == "transpose":
        inner = context.values.values[made.operands[0]]
        return Val(made.operands[0], inner.dtype, axes)
    return context.add("transpose", (value,), value.dtype, axes, span)


def matmul(
    context: Context,
    left: tuple[Operand, Span],
    right: tuple[Operand, Span],
    node: ast.Binary | ast.Call,
    *,
    fast: bool = False,
) -> Val:
    """The product of two operands, decoded, with their tensor scales applied. `fast`: its sums may lose bits."""
    a, b = (_operand(context, operand, span) for operand, span in (left, right))
    k = a.axes[-1]
    if k != b.axes[-2] or not k:
        raise _no_fit(context, a, b, left[1], right[1], node)
    for operand, span in ((a, left[1]), (b, right[1])):
        _check_blocks(context, operand, span, k, node)
    m, n = a.axes[-2], b.axes[-1]
    batch = context.merged((a.axes[:-2], b.axes[:-2]))
    attrs: dict[str, object] = {"k": k}
    if fast:
        _check_narrow(context, (a, b), (left[1], right[1]))
        attrs["accumulate"] = "fast"
    ragged = context.ragged.of_axis(a.axes[-2])
    if ragged is not None and ragged.groups in b.axes[:-2] and ragged.groups not in a.axes:
        batch = tuple(x for x in batch if x != ragged.groups)
        attrs.update(ragged=ragged.offsets, groups=ragged.groups)
    within = context.ragged.contracted(k)
    if within is not None:
        _check_contracted(context, (a, b), within, node, fast=fast)
        batch = (within.groups,)
        attrs.update(contracted=within.offsets, groups=within.groups)
    axes = (*batch, m, n)
    for each in context.ragged.together(axes):
        raise context.fail(
            "FP3081",
            f"the product would have the rows `{each.rows} by {each.offsets}` and the axis `{each.groups}`",
            node.span,
            f"{type_text(a.dtype, a.axes)} @ {type_text(b.dtype, b.axes)}",
            notes=["each row is in one group: `@` multiplies ragged rows, on its left, by their group's part"],
            help=f"multiply from the other side: `x[{each.rows}, K] @ w[{each.groups}, N, K].T`",
        )
    if len(set(axes)) < len(axes) or k in axes:
        repeated = next((x for x in axes if axes.count(x) > 1), k)
        raise context.fail(
            "FP2010",
            f"the product would have the axis `{repeated}` twice",
            node.span,
            f"{type_text(a.dtype, a.axes)} @ {type_text(b.dtype, b.axes)}",
            help=f"give one of them a dim of its own: `kernel k({repeated}, J = {repeated})`",
        )
    product = context.add("matmul", (a, b), "f32", axes, node.span, **attrs)
    return _scaled(context, product, a, b, node.span)


def _operand(context: Context, operand: Operand, span: Span) -> Val:
    value = context.plain(operand, span)
    if len(value.axes) < 2:
        raise context.fail(
            "FP2011", "an operand of `@` has two axes or more", span, f"this is {type_text(value.dtype, value.axes)}"
        )
    if context.values.inouts(value):
        name = min(context.values.inouts(value))
        raise context.fail(
            "FP2022",
            f"`{name}` is inout: its old value is read only at its own place",
            span,
            "a product reads all of it",
            help="take it as an `in` argument of its own",
        )
    if isinstance(value.dtype, BlockFormat):
        if _argument(context, value) is None:
            raise context.fail(
                "FP3014",
                "an operand of `@` that this kernel quantizes",
                span,
                "quantized in this kernel",
                help="output it, and multiply it in a second kernel",
            )
    elif value.dtype not in _MULTIPLIED:
        raise context.fail(
            "FP2018",
            f"`@` does not multiply {dtype_name(value.dtype)}",
            span,
            "not a number type for `@`",
            help="its operands are block formats, f32, bf16, f16, e4m3 or e5m2",
        )
    return value


def _check_contracted(
    context: Context, operands: tuple[Val, Val], within: Ragged, node: ast.Binary | ast.Call, *, fast: bool
) -> None:
    """Rows in groups are contracted between matrices, one of each group, and with sums in f32."""
    others = [axis for operand in operands for axis in operand.axes[:-2] if axis != within.groups]
    ragged = within in context.ragged.axes
    if ragged and any(within.groups in operand.axes[:-2] for operand in operands):
        others.append(within.groups)
    if not others and not fast:
        return
    shown = " @ ".join(type_text(operand.dtype, operand.axes) for operand in operands)
    declared = f"{within.rows} {'by' if ragged else 'upto'} {within.offsets}"
    why = f"beside the axis `{others[0]}`" if others else "with fast sums"
    raise context.fail(
        "FP2036",
        f"the rows `{declared}` cannot be contracted {why}",
        node.span,
        shown,
        notes=[f"a product over rows in groups has a result for each group: [{within.groups}, ..]"],
        help="multiply matrices of rows, and what is there for each group afterwards" if others else "write `@`",
    )


def _check_narrow(context: Context, values: tuple[Val, Val], spans: tuple[Span, Span]) -> None:
    """Sums of fewer bits are for elements of eight bits, and beside these for what they hold as well."""
    elements = [value.dtype.element if isinstance(value.dtype, BlockFormat) else value.dtype for value in values]
    beside = any(element in _NARROW for element in elements)
    for value, element, span in zip(values, elements, spans, strict=True):
        if element in _NARROW or (beside and _held_by_fp8(value)):
            continue
        raise context.fail(
            "FP2041",
            f"`accumulate = fast` of {dtype_name(value.dtype)}",
            span,
            f"its elements are {element}",
            notes=[
                "fast sums are those of a tensor core for e4m3 and e5m2, or for one of them beside e2m1 with e8m0 "
                "scales; for others there are none but f32"
            ],
            help="leave it out",
        )


def _held_by_fp8(value: Val) -> bool:
    """Whether an operand is e2m1 times powers of two, which e5m2 is as well."""
    return isinstance(value.dtype, BlockFormat) and (value.dtype.element, value.dtype.scale) == ("e2m1", "e8m0")


def _no_fit(context: Context, a: Val, b: Val, left: Span, right: Span, node: ast.Binary | ast.Call) -> Exception:
    shown = f"{type_text(a.dtype, a.axes)} @ {type_text(b.dtype, b.axes)}"
    written = [((o, s.text), (_swapped(o), _flipped(s.text))) for o, s in ((a, left), (b, right))]
    fitting = [
        (x, y)
        for x, y in ((written[0][i], written[1][j]) for i, j in ((0, 1), (1, 0), (1, 1)))
        if x[0].axes[-1] and x[0].axes[-1] == y[0].axes[-2]
    ]
    # The one whose operands have their scale blocks along the contracted axis, if there is one.
    fitting.sort(key=lambda pair: any(_blocks_across(context, o, pair[0][0].axes[-1]) for o, _ in pair))
    if fitting:
        (_, l_text), (_, r_text) = fitting[0]
        hint = f"write `{l_text} @ {r_text}`" if len(l_text + r_text) < 80 else "write `.T` after one of them"
    else:
        hint = "give the axis to be contracted the same name in both"
    return context.fail(
        "FP2010",
        f"`@` cannot contract `{a.axes[-1] or '_'}` with `{b.axes[-2] or '_'}`",
        node.span,
        shown,
        notes=["`@` contracts the last axis of its left with the second-last of its right: the same name on both"],
        help=hint,
    )


def _swapped(value: Val) -> Val:
    return Val(value.index, value.dtype, (*value.axes[:-2], value.axes[-1], value.axes[-2]))


def _flipped(text: str) -> str:
    """The text of the transposed operand."""
    if text.endswith(".T"):
        return text[:-2]
    bracketed = text[:1] == "(" and text[-1:] == ")" and "(" not in text[1:]
    return f"{text}.T" if text.isidentifier() or bracketed else f"({text}).T"


def _blocks_across(context: Context, value: Val, k: str) -> bool:
    """Whether the value is a quantized argument whose blocks do not lie along `k`."""
    arg = _argument(context, value)
    return arg is not None and arg.format is not None and arg.axes[-1].name != k


def _check_blocks(context: Context, value: Val, span: Span, k: str, node: ast.Binary | ast.Call) -> None:
    """A quantized operand can be contracted only along the axis its scale blocks lie on."""
    arg = _argument(context, value)
    if arg is None or arg.format is None or not _blocks_across(context, value, k):
        return
    fmt, last = arg.format, arg.axes[-1].name or "_"
    swapped = [a.name or "_" for a in arg.axes]
    swapped[-2:] = reversed(swapped[-2:])
    raise context.fail(
        "FP2012",
        f"`{arg.name}` is {fmt.name}: its scale blocks lie along `{last}`, and `@` contracts `{k}`",
        span,
        f"contracted along `{k}`",
        also=[(arg.span, f"blocks of {_block(fmt)} along `{last}`")],
        notes=[
            "scale blocks lie along the last axis of a tensor as it is stored; a product needs one scale for a run "
            "of the contracted axis, so transposing the view does not help"
        ],
        help=f"quantize the transposed tensor instead: `in {arg.name} : {fmt.name}[{', '.join(swapped)}]`",
    )


def _block(fmt: BlockFormat) -> str:
    return " x ".join(str(extent) for extent in fmt.block)


def _argument(context: Context, value: Val) -> Arg | None:
    """The argument that a value is, perhaps transposed, or of which it has rows."""
    made = context.values.values[value.index]
    while made.op in ("transpose", "gather"):
        made = context.values.values[made.operands[0]]
    return context.args.get(str(made.attrs["name"])) if made.op == "arg" else None


def _scaled(context: Context, product: Val, a: Val, b: Val, span: Span) -> Val:
    """Tensor scales that multiply, the left operand's first, as one factor; then those that divide, as another."""
    value = product
    for sense, op in (("multiplies", "mul"), ("divides", "div")):
        factor: Val | None = None
        for operand in (a, b):
            arg = _argument(context, operand)
            if arg is not None and arg.format is not None and arg.format.tensor_scale == sense:
                batches = tuple(axis.name or "" for axis in arg.axes[:-2]) if arg.format.each_batch else ()
                scale = context.add("tensor_scale", (), "f32", batches, span, name=arg.name)
                factor = scale if factor is None else context.combined("mul", factor, scale, span)
        if factor is not None:
            value = context.combined(op, value, factor, span)
    return value
