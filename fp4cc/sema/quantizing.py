"""`quantize`: which format, which scale it is given, how it rounds, and what it must not depend on."""

from __future__ import annotations

from collections.abc import Mapping

from fp4cc.diagnostics import did_you_mean
from fp4cc.frontend import ast
from fp4cc.sema.arguments import bind
from fp4cc.sema.context import Context, Failed
from fp4cc.sema.evaluation import Evaluation, Names
from fp4cc.sema.operands import Operand, Val, type_text
from fp4cc.sema.randomness import rng_state, stream_number
from fp4cc.source import Span
from fp4num import BlockFormat

_SCALES = ("tensor_scale", "amax", "scale")


def quantize(
    evaluator: Evaluation,
    given: Mapping[str, ast.Expr],
    node: ast.Call,
    names: Names,
    destination: BlockFormat | None,
    axes: tuple[str, ...] = (),
) -> Operand:
    """A quantized value. `destination` is the format of the output it is assigned to, `axes` are that output's."""
    context = evaluator.context
    fmt = _format(context, given, node, destination)
    operand = evaluator.evaluate(given["x"], names)
    value = context.number(context.settled(operand, axes), given["x"].span)
    if not value.axes:
        raise context.fail(
            "FP2011", "a number cannot be quantized: it has no axis for blocks to lie on", given["x"].span, "no axes"
        )
    operands = [value]
    mode = _mode(context, fmt, given, node)
    if mode != "none":
        operands.append(_scale(evaluator, mode, fmt, given[mode], names, value))
    attrs: dict[str, object] = {"mode": mode, "rounding": "nearest"}
    if "rounding" in given:
        rng = _rounding(evaluator, given["rounding"], names, attrs)
        if rng is not None:
            operands.append(rng)
    _refuse_batches(context, fmt, value, node, attrs["rounding"])
    for operand_value, place in zip(operands, (given["x"].span, given.get(mode, node).span), strict=False):
        _refuse_reduction(context, operand_value, place)
    if isinstance(columns := fmt.block[1], int):
        context.require(
            ("eq", ("mod", value.axes[-1], columns), 0),
            node.span,
            f"{fmt.name} has one scale for {fmt.block[0]} x {columns}: its last axis is whole blocks",
        )
    return context.add("quantize", operands, fmt, value.axes, node.span, **attrs)


def _format(
    context: Context, given: Mapping[str, ast.Expr], node: ast.Call, destination: BlockFormat | None
) -> BlockFormat:
    if "format" not in given:
        if destination is None:
            raise context.fail(
                "FP3014",
                "`quantize` does not know its format",
                node.span,
                "not assigned to a quantized output",
                help="assign it to an output such as `out q : nvfp4[M, N]`, or give `format = nvfp4`",
            )
        return destination
    written = given["format"]
    formats = context.scope.formats
    if context.scope.partial and isinstance(written, ast.Name) and written.text not in formats:
        raise Failed
    if not isinstance(written, ast.Name) or written.text not in formats:
        text = written.text if isinstance(written, ast.Name) else ""
        raise context.fail(
            "FP2019",
            f"no format is called `{written.span.text}`",
            written.span,
            "unknown format",
            help=did_you_mean(text, formats),
        )
    fmt = formats[written.text]
    if fmt is None:
        raise Failed
    return fmt


def _mode(context: Context, fmt: BlockFormat, given: Mapping[str, ast.Expr], node: ast.Call) -> str:
    chosen = [key for key in _SCALES if key in given]
    if len(chosen) > 1:
        raise context.fail(
            "FP2004",
            "wrong arguments to `quantize`",
            given[chosen[1]].span,
            f"`{chosen[0]}` is given already",
            help="give one of tensor_scale, amax and scale",
        )
    mode = chosen[0] if chosen else "none"
    if mode == "scale" and fmt.scale != "f32":
        raise context.fail(
            "FP3012",
            f"{fmt.name} computes its own block scales",
            given[mode].span,
            f"its scales are {fmt.scale}",
            help="`scale =` gives the scales of a format with f32 scales, such as fp8_token",
        )
    if mode in ("tensor_scale", "amax") and fmt.tensor_scale is None:
        raise context.fail(
            "FP3012",
            f"{fmt.name} has no tensor scale",
            given[mode].span,
            f"`{mode}` has no use here",
            help="leave it out",
        )
    if mode == "none" and fmt.tensor_scale is not None:
        raise context.fail(
            "FP3011",
            f"{fmt.name} has a tensor scale, and none is given",
            node.span,
            "needs `tensor_scale =` or `amax =`",
            notes=["the tensor scale must be known before the first block is written: it cannot come from this kernel"],
            help="declare `in ts : f32[]` and write `quantize(x, tensor_scale = ts)`, or `amax = a` with the tensor's "
            "largest magnitude",
        )
    return mode


def _refuse_batches(context: Context, fmt: BlockFormat, value: Val, node: ast.Call, rounding: object) -> None:
    if fmt.each_batch and len(value.axes) > 2 and rounding != "nearest":
        raise context.fail(
            "FP3020",
            f"{fmt.name} has a tensor scale for each batch, and is not rounded stochastically yet",
            node.span,
            f"batches of {type_text(value.dtype, value.axes)}: [{', '.join(value.axes[:-2])}]",
            help="round to nearest, or give all of them one tensor scale: a format with `tensor_scale f32 multiplies`, "
            "without `per batch`",
        )


def _scale(evaluator: Evaluation, mode: str, fmt: BlockFormat, node: ast.Expr, names: Names, value: Val) -> Val:
    context = evaluator.context
    scale = evaluator.number(node, names)
    if mode != "scale":
        batches = value.axes[:-2] if fmt.each_batch else ()
        if batches and scale.axes != batches:
            raise context.fail(
                "FP2018",
                f"`{mode}` of {fmt.name} is one number for each batch: f32[{', '.join(batches)}]",
                node.span,
                f"this is {type_text(scale.dtype, scale.axes)}",
                help=f"declare it so: `in ts : f32[{', '.join(batches)}]`",
            )
        if scale.axes and not batches:
            raise context.fail(
                "FP2018",
                f"`{mode}` is one number for the tensor",
                node.span,
                f"this is {type_text(scale.dtype, scale.axes)}",
                help="declare it as a device scalar: `in ts : f32[]`",
            )
        return scale
    rows, columns = fmt.block
    wanted = tuple(
        a
        for i, a in enumerate(value.axes)
        if not (i == len(value.axes) - 1 and columns == "all") and not (i == len(value.axes) - 2 and rows == "all")
    )
    if (rows not in (1, "all")) or columns != "all":
        raise context.fail(
            "FP3012",
            f"the scales of {fmt.name} have no axes to name: they are one for {rows} x {columns}",
            node.span,
            "`scale =` gives one scale a row",
            help="leave `scale` out: the kernel computes them",
        )
    if scale.axes not in ((), wanted):
        raise context.fail(
            "FP2013",
            f"the scales of {fmt.name}[{', '.join(value.axes)}] are f32[{', '.join(wanted)}]",
            node.span,
            f"this is {type_text(scale.dtype, scale.axes)}",
        )
    return scale


def _rounding(evaluator: Evaluation, node: ast.Expr, names: Names, attrs: dict[str, object]) -> Val | None:
    context = evaluator.context
    if isinstance(node, ast.Name) and node.text == "nearest":
        return None
    if isinstance(node, ast.Call) and isinstance(node.function, ast.Name) and node.function.text == "stochastic":
        given = bind(context, "stochastic", node)
        attrs.update(rounding="stochastic", stream=stream_number(evaluator, given, names))
        return rng_state(evaluator, given["rng"], names)
    raise context.fail(
        "FP2026",
        "unknown rounding",
        node.span,
        "not a way of rounding",
        help="write `nearest` or `stochastic(rng, stream = 0)`",
    )


def _refuse_reduction(context: Context, value: Val, span: Span) -> None:
    reduction = context.values.reduction_below(value)
    if reduction is None:
        return
    raise context.fail(
        "FP3013",
        "a quantized output depends on a reduction of the same kernel",
        span,
        "needs the finished reduction",
        also=[(reduction.span, "reduced here")],
        notes=["no block can be quantized before the reduction has seen every element: that takes two launches"],
        help=f"output the bare reduction (`out r : f32[{', '.join(reduction.axes)}]`, "
        f"`r = {reduction.attrs['kind']}(...)`) beside what is to be quantized (`out y : bf16[...]`); a second kernel "
        "takes both, and quantizes",
    )
