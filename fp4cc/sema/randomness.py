"""Random numbers in a kernel: the state that they come from, and the stream of each use."""

from __future__ import annotations

from collections.abc import Mapping

from fp4cc.frontend import ast
from fp4cc.sema.arguments import whole_number
from fp4cc.sema.context import Failed
from fp4cc.sema.evaluation import Evaluation, Names
from fp4cc.sema.operands import Poison, Val, type_text

_LARGEST_STREAM = 2**32 - 1


def rng_state(evaluator: Evaluation, node: ast.Expr, names: Names) -> Val:
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


def stream_number(evaluator: Evaluation, given: Mapping[str, ast.Expr], names: Names) -> int:
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
