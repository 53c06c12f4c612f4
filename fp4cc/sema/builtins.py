"""The built-in functions: elementwise ones of the op table, casts, and the ones that see axes."""

from __future__ import annotations

from collections.abc import Mapping

from fp4cc.frontend import ast
from fp4cc.sema import products
from fp4cc.sema.arguments import axes_named, bind, plain_arguments, whole_number, wrong_arguments
from fp4cc.sema.context import Context
from fp4cc.sema.evaluation import Evaluation, Names
from fp4cc.sema.operands import POISON, Deferred, Operand, Pair, Poison, Val, dtype_name, type_text
from fp4cc.sema.quantizing import quantize
from fp4cc.sema.randomness import rng_state, stream_number
from fp4cc.sema.scope import CAST_TYPES, ELEMENTWISE, REDUCTIONS
from fp4cc.source import Span
from fp4num import BlockFormat
from fp4rt.ops import OPS
from fp4rt.sizes import text as size_text

#: Hadamard sizes: Sylvester matrices that tiles of every target can hold.
HADAMARD_SIZES = (16, 32, 64, 128)


def call(evaluator: Evaluation, name: str, node: ast.Call, names: Names) -> Operand:
    """The operand a call of a built-in function stands for."""
    context = evaluator.context
    reduces = any(isinstance(a, ast.Argument) and a.name is not None and a.name.text == "over" for a in node.arguments)
    if name in REDUCTIONS and (reduces or name not in ELEMENTWISE):
        return _reduce(evaluator, name, node, names)
    if name in ELEMENTWISE:
        arity = OPS[name].arity[0]
        operands = plain_arguments(context, name, node, arity)
        return context.elementwise(name, [(evaluator.evaluate(o, names), o.span) for o in operands], node.span)
    if name in CAST_TYPES:
        (operand,) = plain_arguments(context, name, node, 1)
        return _cast(context, evaluator.evaluate(operand, names), name, operand.span, node.span)
    if name == "stochastic":
        raise context.fail(
            "FP2026",
            "`stochastic` is a way of rounding, not a value",
            node.span,
            "not a value",
            help="write `quantize(x, rounding = stochastic(rng, stream = 0))`",
        )
    given = bind(context, name, node)
    if name == "matmul":
        return _matmul(evaluator, given, node, names)
    if name == "quantize":
        return quantize(evaluator, given, node, names, None)
    if name == "dequantize":
        return _dequantize(evaluator, given["q"], names)
    if name == "hadamard":
        return _hadamard(evaluator, given, node, names)
    return _unzip(evaluator, given, node, names) if name == "unzip" else _uniform(evaluator, given, node, names)


def _cast(context: Context, operand: Operand, name: str, place: Span, span: Span) -> Operand:
    if isinstance(operand, Val) and operand.dtype == name:
        return operand
    if name == "f32" and isinstance(operand, Val) and operand.dtype != "bool":
        return context.number(operand, place)
    return context.elementwise("cast", ((operand, place),), span, dtype=name)  # type: ignore[arg-type]


def _reduce(evaluator: Evaluation, name: str, node: ast.Call, names: Names) -> Operand:
    context = evaluator.context
    given: dict[str, ast.Expr] = {}
    for argument in node.arguments:
        key = "x" if isinstance(argument, ast.Argument) and argument.name is None else ""
        if isinstance(argument, ast.Argument) and argument.name is not None:
            key = argument.name.text
        if key not in ("x", "over") or key in given or isinstance(argument, ast.Renaming):
            raise wrong_arguments(context, name, argument.span, f"a reduction is `{name}(x, over = N)`")
        given[key] = argument.value
    if "x" not in given or "over" not in given:
        raise wrong_arguments(context, name, node.span, f"a reduction is `{name}(x, over = N)`")
    value = evaluator.number(given["x"], names)
    over = axes_named(evaluator, given["over"], names, value, "`over`")
    rest = tuple(a for a in value.axes if a not in over)
    masked = {axis.name: axis.upto for arg in context.args.values() if arg is not None for axis in arg.axes}
    for axis in over:
        if masked.get(axis) is not None:
            raise context.fail(
                "FP3082",
                f"`{name}` over the masked axis `{axis} upto {masked[axis]}`",
                given["over"].span,
                "rows past the count would count too",
                help=f"reduce over another axis, or take the rows as ragged: `{axis} by offsets`",
            )
    return context.add("reduce", (value,), "f32", rest, node.span, kind=name, over=over)


def _matmul(evaluator: Evaluation, given: Mapping[str, ast.Expr], node: ast.Call, names: Names) -> Operand:
    """`@` by its name, which may say how its sums are kept: in f32, or in the fewer bits of a tensor core for FP8."""
    written = given.get("accumulate")
    kept = "f32" if written is None else written.text if isinstance(written, ast.Name) else ""
    if written is not None and kept not in products.ACCUMULATE:
        raise evaluator.context.fail(
            "FP2040",
            "unknown way of accumulating",
            written.span,
            "not a way of accumulating",
            help=f"write {' or '.join(f'`{way}`' for way in products.ACCUMULATE)}",
        )
    left, right = (evaluator.evaluate(given[side], names) for side in ("a", "b"))
    if isinstance(left, Poison) or isinstance(right, Poison):
        return POISON
    operands = ((left, given["a"].span), (right, given["b"].span))
    return products.matmul(evaluator.context, *operands, node, fast=kept == "fast")


def _dequantize(evaluator: Evaluation, node: ast.Expr, names: Names) -> Operand:
    value = evaluator.value(node, names)
    if not isinstance(value.dtype, BlockFormat):
        raise evaluator.context.fail(
            "FP3014",
            f"this is {dtype_name(value.dtype)}: nothing to dequantize",
            node.span,
            "not quantized",
            help="use it as it is",
        )
    return evaluator.context.dequantized(value, node.span)


def _hadamard(evaluator: Evaluation, given: Mapping[str, ast.Expr], node: ast.Call, names: Names) -> Operand:
    context = evaluator.context
    for key in ("over", "size"):
        if key not in given:
            raise wrong_arguments(context, "hadamard", node.span, f"`{key}` is missing")
    value = evaluator.number(given["x"], names)
    axes = axes_named(evaluator, given["over"], names, value, "`over`")
    if len(axes) != 1:
        raise context.fail("FP2028", "a Hadamard transform runs along one axis", given["over"].span, "not one axis")
    size = whole_number(evaluator, given["size"], names, "the size of a Hadamard transform")
    if not isinstance(size, int) or size not in HADAMARD_SIZES:
        raise context.fail(
            "FP2028", "a Hadamard transform has 16, 32, 64 or 128 points", given["size"].span, "not one of them"
        )
    operands = [value]
    if "signs" in given:
        signs = evaluator.value(given["signs"], names)
        arg = context.args.get(str(context.values.values[signs.index].attrs.get("name")))
        if signs.dtype != "f32" or signs.axes != ("",) or arg is None or arg.axes[0].extent != size:
            extents = [size_text(a.extent) for a in arg.axes] if arg is not None else signs.axes
            raise context.fail(
                "FP2028",
                f"the signs of {size} points are f32[{size}]",
                given["signs"].span,
                f"this is {type_text(signs.dtype, tuple(extents))}",
                help=f"declare them as `in signs : f32[{size}]`, each 1 or -1",
            )
        operands.append(signs)
    context.require(
        ("eq", ("mod", axes[0], size), 0), node.span, f"a Hadamard transform of {size} points needs whole runs"
    )
    return context.add("hadamard", operands, "f32", value.axes, node.span, axis=axes[0], size=size)


def _unzip(evaluator: Evaluation, given: Mapping[str, ast.Expr], node: ast.Call, names: Names) -> Operand:
    context = evaluator.context
    renamings = [a for a in node.arguments if isinstance(a, ast.Renaming)]
    if len(renamings) != 1:
        raise wrong_arguments(context, "unzip", node.span, "it needs one `N -> F`: the axis, and the dim of each half")
    value = evaluator.number(given["x"], names)
    axis, into = (
        axes_named(evaluator, ast.Name(i.text, i.span), {**names}, Val(value.index, value.dtype, allowed), "`->`")[0]
        for i, allowed in ((renamings[0].source, value.axes), (renamings[0].target, tuple(context.dims)))
    )
    if into in value.axes:
        raise context.fail(
            "FP2024",
            f"the value has an axis `{into}` already",
            renamings[0].target.span,
            "taken",
            help=f"name the halves with a dim of their own: `F = {axis} / 2`",
        )
    group = whole_number(evaluator, given["group"], names, "a group") if "group" in given else 1
    if isinstance(group, int) and group < 1:
        raise context.fail("FP2024", "a group is at least 1", given["group"].span, f"this is {group}")
    if context.derived.get(into) != ("div", axis, 2):
        context.require(("eq", axis, ("mul", 2, into)), renamings[0].span, f"unzip makes two halves of `{axis}`")
    if group not in (1, into):
        context.require(("eq", ("mod", into, group), 0), node.span, "unzip takes whole groups")
    axes = tuple(into if a == axis else a for a in value.axes)
    halves = [
        context.add("unzip", (value,), "f32", axes, node.span, axis=axis, into=into, group=group, part=part)
        for part in (0, 1)
    ]
    return Pair(*halves)


def _uniform(evaluator: Evaluation, given: Mapping[str, ast.Expr], node: ast.Call, names: Names) -> Operand:
    context = evaluator.context
    rng = rng_state(evaluator, given["rng"], names)
    stream = stream_number(evaluator, given, names)
    span = node.span

    def build(axes: tuple[str, ...]) -> Val:
        return context.add("uniform", (rng,), "f32", axes, span, stream=stream)

    if "like" in given:
        like = evaluator.evaluate(given["like"], names)
        if isinstance(like, Poison):
            return POISON
        return build(context.number(like, given["like"].span).axes)
    return Deferred("f32", (), build, span)
