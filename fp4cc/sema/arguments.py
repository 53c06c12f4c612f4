"""The arguments of built-in functions: which there are, and what is written for each in a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4cc.diagnostics import did_you_mean
from fp4cc.frontend import ast
from fp4cc.ir.kernel import Expr
from fp4cc.sema.context import Context, Failed
from fp4cc.sema.evaluation import Evaluation, Names
from fp4cc.sema.operands import Size, Val, type_text
from fp4cc.sema.scope import REDUCTIONS
from fp4cc.sema.sizes import SizeReader
from fp4cc.source import Span


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameters by name in order; the first `needed` must be given; `keywords` can be given by name only."""

    positional: tuple[str, ...]
    needed: int
    keywords: tuple[str, ...] = ()
    shape: str = ""


_SIGNATURES = {
    "matmul": Signature(("a", "b"), 2, ("accumulate",), "matmul(a, b, accumulate = f32 | fast)"),
    "quantize": Signature(("x",), 1, ("tensor_scale", "amax", "scale", "rounding", "format"),
                          "quantize(x, tensor_scale = s | amax = a | scale = r, rounding = nearest, format = f)"),
    "dequantize": Signature(("q",), 1, (), "dequantize(q)"),
    "hadamard": Signature(("x",), 1, ("over", "size", "signs"), "hadamard(x, over = K, size = 16, signs = s)"),
    "unzip": Signature(("x",), 1, ("group",), "unzip(x, N -> F, group = 1)"),
    "uniform": Signature(("rng",), 1, ("stream", "like"), "uniform(rng, stream = 0)"),
    "stochastic": Signature(("rng",), 1, ("stream",), "stochastic(rng, stream = 0)"),
}  # fmt: skip


def bind(context: Context, name: str, node: ast.Call) -> dict[str, ast.Expr]:
    """The arguments of a call by parameter name. Renamings are left to the function."""
    signature = _SIGNATURES[name]
    known = (*signature.positional, *signature.keywords)
    given: dict[str, ast.Expr] = {}
    position = 0
    for argument in node.arguments:
        if isinstance(argument, ast.Renaming):
            if name != "unzip":
                raise wrong_arguments(context, name, argument.span, "`->` is for `unzip` only")
            continue
        if argument.name is None:
            if position >= len(signature.positional):
                raise wrong_arguments(context, name, argument.span, "its further arguments are given by name")
            key = signature.positional[position]
            position += 1
        else:
            key = argument.name.text
        if key not in known:
            raise wrong_arguments(
                context, name, argument.span, f"it has no parameter `{key}`", did_you_mean(key, known)
            )
        if key in given:
            raise wrong_arguments(context, name, argument.span, f"`{key}` is given already")
        given[key] = argument.value
    for key in signature.positional[: signature.needed]:
        if key not in given:
            raise wrong_arguments(context, name, node.span, f"`{key}` is missing")
    return given


def plain_arguments(context: Context, name: str, node: ast.Call, arity: int) -> Sequence[ast.Expr]:
    """The arguments of a call that takes `arity` of them, by position."""
    values: list[ast.Expr] = []
    reduction = f"for a reduction say over which axis: `{name}(x, over = N)`" if name in REDUCTIONS else ""
    for argument in node.arguments:
        if isinstance(argument, ast.Renaming) or argument.name is not None:
            raise wrong_arguments(context, name, argument.span, "its arguments are given by position", reduction)
        values.append(argument.value)
    if len(values) != arity:
        count = f"it takes {arity} argument{'s' if arity != 1 else ''}, not {len(values)}"
        raise wrong_arguments(context, name, node.span, count, reduction)
    return values


def wrong_arguments(context: Context, name: str, span: Span, text: str, *help: str) -> Failed:
    """The error for arguments that a function does not take."""
    shape = _SIGNATURES[name].shape if name in _SIGNATURES else ""
    hints = (*help, f"it is `{shape}`") if shape else help
    return context.fail("FP2004", f"wrong arguments to `{name}`", span, text, help=hints)


def axes_named(evaluator: Evaluation, node: ast.Expr, names: Names, value: Val, what: str) -> tuple[str, ...]:
    """The axes of `value` that an `over =` argument names; `all` is all of them."""
    context = evaluator.context
    nodes = node.items if isinstance(node, ast.Tuple) else (node,)
    if len(nodes) == 1 and isinstance(nodes[0], ast.Name) and nodes[0].text == "all" and "all" not in names:
        return value.axes
    found: list[str] = []
    for item in nodes:
        operand = names.get(item.text) if isinstance(item, ast.Name) else None
        axis = operand.expr if isinstance(operand, Size) and isinstance(operand.expr, str) else None
        if axis is None:
            raise context.fail(
                "FP2023",
                f"{what} needs the name of an axis",
                item.span,
                "not an axis",
                help=did_you_mean(item.span.text, value.axes) or "axes are dims of the kernel",
            )
        if axis not in value.axes:
            raise context.fail(
                "FP2011",
                f"the value has no axis `{axis}`",
                item.span,
                f"the value is {type_text(value.dtype, value.axes)}",
                help=did_you_mean(axis, value.axes),
            )
        if axis in found:
            raise context.fail("FP2011", f"the axis `{axis}` is named twice", item.span, "again")
        found.append(axis)
    return tuple(found)


def whole_number(evaluator: Evaluation, node: ast.Expr, names: Names, what: str) -> Expr:
    """An argument that is a size: whole numbers and dims."""
    context = evaluator.context
    if context.calls and isinstance(node, ast.Name) and isinstance(operand := names.get(node.text), Size):
        return operand.expr
    size = SizeReader(context.dims, context.collector, what).size(node)
    if size is None:
        raise Failed
    return size
