"""`x[rows]`: rows of an input by their numbers, in the place of its first axis."""

from __future__ import annotations

from fp4cc.frontend import ast
from fp4cc.ir.kernel import Arg
from fp4cc.sema.context import Context, Failed
from fp4cc.sema.evaluation import Evaluation, Names
from fp4cc.sema.operands import Operand, Poison, Val, type_text
from fp4cc.source import Span

_HELP = "write `x[rows]` with `in rows : i32[T]`: row `rows[t]` of x for each t"


def gathered(context: Context, node: ast.Subscript, value: Operand, index: Operand) -> Val:
    """The rows of `value` that `index` numbers: [the axes of the index, those of the value but its first]."""
    rows = row_numbers(context, index, node.items[0].span, node.span)
    whole = context.plain(value, node.value.span)
    arg = _argument(context, whole)
    if arg is None or arg.direction != "in" or not arg.axes:
        raise context.fail(
            "FP2043",
            "only an input is indexed",
            node.value.span,
            f"this is {type_text(whole.dtype, whole.axes)}" if arg is None else f"`{arg.name}` is {arg.direction}",
            help="index the inputs that it is computed from: what is done for each row can be done afterwards"
            if arg is None
            else "take it as an `in` argument of its own",
        )
    _check_first_axis(context, arg, node)
    rest = whole.axes[1:]
    common = next((axis for axis in rows.axes if axis in rest), None)
    if common is not None:
        raise context.fail(
            "FP2010",
            f"`{node.span.text}` would have the axis `{common}` twice",
            node.span,
            f"{type_text(whole.dtype, whole.axes)} by {type_text(rows.dtype, rows.axes)}",
            help=f"give one of them a dim of its own: `kernel k({common}, J = {common})`",
        )
    return context.add("gather", (whole, rows), whole.dtype, (*rows.axes, *rest), node.span)


def row_numbers(context: Context, index: Operand, place: Span, whole: Span) -> Val:
    """What an index stands for: an input of row numbers."""
    if not isinstance(index, Val):
        raise context.fail("FP2023", "values are not indexed by numbers", whole, "no index here", help=_HELP)
    arg = _argument(context, index)
    if arg is None or arg.direction != "in" or arg.dtype != "i32" or not arg.axes or "" in index.axes:
        raise context.fail(
            "FP2042",
            "this cannot say which rows are meant",
            place,
            f"this is {type_text(index.dtype, index.axes)}",
            notes=["an index is an input of row numbers, i32, whose axes have names"],
            help=_HELP,
        )
    return index


def stored_rows(
    evaluator: Evaluation, arg: Arg, node: ast.Assignment, names: Names
) -> tuple[tuple[str, ...], Val | None]:
    """The axes of what is assigned to an output, and the numbers of its rows; None where all are assigned."""
    axes = tuple(axis.name or "" for axis in arg.axes)
    if node.at is None:
        return axes, None
    context, first = evaluator.context, arg.axes[0] if arg.axes else None
    if arg.direction != "inout" or first is None or first.by is not None or first.upto is not None:
        raise context.fail(
            "FP2045",
            f"`{arg.name}` is not assigned by rows",
            node.targets[0].span,
            "its rows are in groups" if arg.direction == "inout" else f"`{arg.name}` is {arg.direction}",
            also=[(arg.span, "declared here")],
            notes=["rows that are not listed keep what they have, which an `inout` has before the call"],
            help=f"declare it `inout {arg.name} : ...[S, ..]`",
        )
    index = evaluator.evaluate(ast.Name(node.at.text, node.at.span), names)
    if isinstance(index, Poison):
        raise Failed
    rows = row_numbers(context, index, node.at.span, node.span)
    return (*rows.axes, *axes[1:]), rows


def not_by_rows(context: Context, target: ast.Ident) -> None:
    """Report rows of a local value that are assigned."""
    context.fail(
        "FP2045", f"`{target.text}` is not assigned by rows", target.span, "no argument of the kernel",
        help=f"declare it `inout {target.text} : ...[S, ..]`",
    )  # fmt: skip


def _check_first_axis(context: Context, arg: Arg, node: ast.Subscript) -> None:
    first = arg.axes[0]
    if first.by is not None or first.upto is not None:
        raise context.fail(
            "FP2044",
            f"the rows of `{arg.name}` are in groups: they cannot be indexed",
            node.span,
            "row numbers would be of all groups",
            also=[(arg.span, "declared here")],
            help=f"declare it without groups: `in {arg.name} : ...[S, ..]`, and let the index have them",
        )
    fmt = arg.format
    if fmt is not None and (len(arg.axes) == 1 or (fmt.each_batch and len(arg.axes) > 2)):
        why = "its blocks lie along the axis that is indexed" if len(arg.axes) == 1 else "it has a tensor scale a batch"
        raise context.fail(
            "FP2044",
            f"`{arg.name}` cannot be indexed: {why}",
            node.span,
            f"{fmt.name}",
            also=[(arg.span, "declared here")],
            help="index a tensor whose rows are whole",
        )


def _argument(context: Context, value: Val) -> Arg | None:
    made = context.values.values[value.index]
    return context.args.get(str(made.attrs["name"])) if made.op == "arg" else None
