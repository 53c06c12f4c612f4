"""The built-in functions: elementwise ones of the op table, casts, and the ones that see axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fp4cc.diagnostics import did_you_mean
from fp4cc.frontend import ast
from fp4cc.ir.kernel import Expr
from fp4cc.sema.context import Context, Failed
from fp4cc.sema.operands import POISON, Deferred, Operand, Pair, Poison, Size, Val, dtype_name, type_text
from fp4cc.sema.scope import CAST_TYPES, ELEMENTWISE, REDUCTIONS
from fp4cc.sema.sizes import SizeReader
from fp4cc.source import Span
from fp4num import BlockFormat
from fp4rt.ops import OPS
from fp4rt.sizes import text as size_text

if TYPE_CHECKING:
    from fp4cc.sema.expressions import Evaluator, Names

#: Hadamard sizes: Sylvester matrices that tiles of every target can hold.
HADAMARD_SIZES = (16, 32, 64, 128)

_LARGEST_STREAM = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameters by name in order; the first `needed` must be given; `keywords` can be given by name only."""

    positional: tuple[str, ...]
    needed: int
    keywords: tuple[str, ...] = ()
    shape: str = ""


_SIGNATURES = {
    "quantize": Signature(("x",), 1, ("tensor_scale", "amax", "scale", "rounding", "format"),
                          "quantize(x, tensor_scale = s | amax = a | scale = r, rounding = nearest, format = f)"),
    "dequantize": Signature(("q",), 1, (), "dequantize(q)"),
    "hadamard": Signature(("x",), 1, ("over", "size", "signs"), "hadamard(x, over = K, size = 16, signs = s)"),
    "unzip": Signature(("x",), 1, ("group",), "unzip(x, N -> F, group = 1)"),
    "uniform": Signature(("rng",), 1, ("stream", "like"), "uniform(rng, stream = 0)"),
    "stochastic": Signature(("rng",), 1, ("stream",), "stochastic(rng, stream = 0)"),
}  # fmt: skip


def call(evaluator: Evaluator, name: str, node: ast.Call, names: Names) -> Operand:
    """The operand a call of a built-in function stands for."""
    context = evaluator.context
    reduces = any(isinstance(a, ast.Argument) and a.name is not None and a.name.text == "over" for a in node.arguments)
    if name in REDUCTIONS and (reduces or name not in ELEMENTWISE):
        return _reduce(evaluator, name, node, names)
    if name in ELEMENTWISE:
        arity = OPS[name].arity[0]
        operands = _plain_arguments(context, name, node, arity)
        return context.elementwise(name, [(evaluator.evaluate(o, names), o.span) for o in operands], node.span)
    if name in CAST_TYPES:
        (operand,) = _plain_arguments(context, name, node, 1)
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
    if name == "quantize":
        from fp4cc.sema.quantizing import quantize

        return quantize(evaluator, given, node, names, None)
    if name == "dequantize":
        return _dequantize(evaluator, given["q"], names)
    if name == "hadamard":
        return _hadamard(evaluator, given, node, names)
    return _unzip(evaluator, given, node, names) if name == "unzip" else _uniform(evaluator, given, node, names)


# Arguments.


def bind(context: Context, name: str, node: ast.Call) -> dict[str, ast.Expr]:
    """The arguments of a call by parameter name. Renamings are left to the function."""
    signature = _SIGNATURES[name]
    known = (*signature.positional, *signature.keywords)
    given: dict[str, ast.Expr] = {}
    position = 0
    for argument in node.arguments:
        if isinstance(argument, ast.Renaming):
            if name != "unzip":
                raise _wrong(context, name, argument.span, "`->` is for `unzip` only")
            continue
        if argument.name is None:
            if position >= len(signature.positional):
                raise _wrong(context, name, argument.span, "its further arguments are given by name")
            key = signature.positional[position]
            position += 1
        else:
            key = argument.name.text
        if key not in known:
            raise _wrong(context, name, argument.span, f"it has no parameter `{key}`", did_you_mean(key, known))
        if key in given:
            raise _wrong(context, name, argument.span, f"`{key}` is given already")
        given[key] = argument.value
    for key in signature.positional[: signature.needed]:
        if key not in given:
            raise _wrong(context, name, node.span, f"`{key}` is missing")
    return given


def _plain_arguments(context: Context, name: str, node: ast.Call, arity: int) -> Sequence[ast.Expr]:
    values: list[ast.Expr] = []
    reduction = f"for a reduction say over which axis: `{name}(x, over = N)`" if name in REDUCTIONS else ""
    for argument in node.arguments:
        if isinstance(argument, ast.Renaming) or argument.name is not None:
            raise _wrong(context, name, argument.span, "its arguments are given by position", reduction)
        values.append(argument.value)
    if len(values) != arity:
        count = f"it takes {arity} argument{'s' if arity != 1 else ''}, not {len(values)}"
        raise _wrong(context, name, node.span, count, reduction)
    return values


def _wrong(context: Context, name: str, span: Span, text: str, *help: str) -> Failed:
    shape = _SIGNATURES[name].shape if name in _SIGNATURES else ""
    hints = (*help, f"it is `{shape}`") if shape else help
    return context.fail("FP2004", f"wrong arguments to `{name}`", span, text, help=hints)


def axes_named(evaluator: Evaluator, node: ast.Expr, names: Names, value: Val, what: str) -> tuple[str, ...]:
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


def whole_number(evaluator: Evaluator, node: ast.Expr, names: Names, what: str) -> Expr:
    """An argument that is a size: whole numbers and dims."""
    context = evaluator.context
    if context.calls and isinstance(node, ast.Name) and isinstance(operand := names.get(node.text), Size):
        return operand.expr
    size = SizeReader(context.dims, context.collector, what).size(node)
    if size is None:
        raise Failed
    return size


def rng_state(evaluator: Evaluator, node: ast.Expr, names: Names) -> Val:
    """A random-number state: an input of type u64[2]."""
    context = evaluator.context
    operand = evaluator.evaluate(node, names)
    if isinstance(operand, Poison):
        raise Failed
    if not isinstance(operand, Val) or operand.dtype != "u64" or operand.axes != ("",):
        shown = type_text(operand.dtype, operand.axes) if isinstance(operand, Val) else "a number"
        raise context.fail(
            "FP2026",
            "a random-number state is needed",
            node.span,
            f"this is {shown}",
            help="declare it as `in rng : u64[2]`: a seed and an offset on the device",
        )
    return operand


def stream_number(evaluator: Evaluator, given: Mapping[str, ast.Expr], names: Names) -> int:
    """The `stream =` of a random function; 0 if it is not given."""
    if "stream" not in given:
        return 0
    node = given["stream"]
    size = whole_number(evaluator, node, names, "a stream")
    if not isinstance(size, int) or not 0 <= size <= _LARGEST_STREAM:
        raise evaluator.context.fail(
            "FP2026",
            "a stream is a whole number below 2^32",
            node.span,
            "not one",
            help="give each use of random numbers a stream of its own: 0, 1, 2, ...",
        )
    return size


# Functions.


def _cast(context: Context, operand: Operand, name: str, place: Span, span: Span) -> Operand:
    if isinstance(operand, Val) and operand.dtype == name:
        return operand
    if name == "f32" and isinstance(operand, Val) and operand.dtype != "bool":
        return context.number(operand, place)
    return context.elementwise("cast", ((operand, place),), span, dtype=name)  # type: ignore[arg-type]


def _reduce(evaluator: Evaluator, name: str, node: ast.Call, names: Names) -> Operand:
    context = evaluator.context
    given: dict[str, ast.Expr] = {}
    for argument in node.arguments:
        key = "x" if isinstance(argument, ast.Argument) and argument.name is None else ""
        if isinstance(argument, ast.Argument) and argument.name is not None:
            key = argument.name.text
        if key not in ("x", "over") or key in given or isinstance(argument, ast.Renaming):
            raise _wrong(context, name, argument.span, f"a reduction is `{name}(x, over = N)`")
        given[key] = argument.value
    if "x" not in given or "over" not in given:
        raise _wrong(context, name, node.span, f"a reduction is `{name}(x, over = N)`")
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


def _dequantize(evaluator: Evaluator, node: ast.Expr, names: Names) -> Operand:
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


def _hadamard(evaluator: Evaluator, given: Mapping[str, ast.Expr], node: ast.Call, names: Names) -> Operand:
    context = evaluator.context
    for key in ("over", "size"):
        if key not in given:
            raise _wrong(context, "hadamard", node.span, f"`{key}` is missing")
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


def _unzip(evaluator: Evaluator, given: Mapping[str, ast.Expr], node: ast.Call, names: Names) -> Operand:
    context = evaluator.context
    renamings = [a for a in node.arguments if isinstance(a, ast.Renaming)]
    if len(renamings) != 1:
        raise _wrong(context, "unzip", node.span, "it needs one `N -> F`: the axis, and the dim of each half")
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


def _uniform(evaluator: Evaluator, given: Mapping[str, ast.Expr], node: ast.Call, names: Names) -> Operand:
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
