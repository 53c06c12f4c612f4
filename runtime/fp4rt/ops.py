"""The operations of a typed kernel: one table that the checker, the reference and the code generator read.

Elementwise operations work in f32 unless said otherwise. An *exact* operation gives the same bits on the reference,
the emulator and the hardware: its meaning is IEEE 754 round to nearest even (or it does not round at all). For the
others the meaning is a program of exact f32 operations (`fp4num.functions`), which gives the same bits everywhere
too; `ulp` bounds how far it is from the real function, in units in the last place of f32 at the larger of |result| and
`floor` * |first operand|.

    >>> OPS["add"].numpy(np.float32(1), np.float32(2))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fp4num import f32, functions

Kind = Literal["leaf", "elementwise", "tensor"]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class OpSpec:
    """One operation.

    `arity` is the least and the greatest number of operands; `result` is "f32", "bool", or "attr" where the value's
    own dtype says it; `takes` is what the operands are; `numpy` is the meaning on arrays (None for leaves and for
    tensor operations that need more than their operands, which the reference defines).
    """

    name: str
    arity: tuple[int, int]
    kind: Kind
    exact: bool = True
    ulp: float = 0.0
    floor: float = 0.0
    takes: Literal["f32", "bool", "any"] = "f32"
    result: Literal["f32", "bool", "attr"] = "f32"
    numpy: Callable[..., Array] | None = None
    doc: str = ""


def _f32(x: Array) -> Array:
    return np.asarray(x, dtype=np.float32)


def _relu(x: Array) -> Array:
    return f32.maximum(x, 0.0)


def _sign(x: Array) -> Array:
    return _f32(np.where(np.isnan(x), np.float32(np.nan), np.sign(x)))


def _binary(function: Callable[..., Array]) -> Callable[[Array, Array], Array]:
    def wrapped(a: Array, b: Array) -> Array:
        with np.errstate(all="ignore"):
            return _f32(function(_f32(a), _f32(b)))

    return wrapped


def _unary(function: Callable[..., Array]) -> Callable[[Array], Array]:
    def wrapped(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return _f32(function(_f32(x)))

    return wrapped


def _exact(name: str, arity: int, numpy: Callable[..., Array], doc: str) -> OpSpec:
    return OpSpec(name, (arity, arity), "elementwise", numpy=numpy, doc=doc)


def _compare(name: str, numpy: Callable[..., Array], doc: str) -> OpSpec:
    return OpSpec(name, (2, 2), "elementwise", result="bool", numpy=numpy, doc=doc)


def _logic(name: str, arity: int, numpy: Callable[..., Array], doc: str) -> OpSpec:
    return OpSpec(name, (arity, arity), "elementwise", takes="bool", result="bool", numpy=numpy, doc=doc)


def _bounded(name: str, ulp: float, numpy: Callable[[Array], Array], doc: str, floor: float = 0.0) -> OpSpec:
    return OpSpec(name, (1, 1), "elementwise", exact=False, ulp=ulp, floor=floor, numpy=numpy, doc=doc)


def _leaf(name: str, doc: str, result: Literal["f32", "attr"] = "attr") -> OpSpec:
    return OpSpec(name, (0, 0), "leaf", result=result, doc=doc)


def _tensor(name: str, least: int, most: int, doc: str, exact: bool = True) -> OpSpec:
    return OpSpec(name, (least, most), "tensor", exact=exact, takes="any", result="attr", doc=doc)


_TABLE = (
    # Leaves.
    _leaf("arg", "An argument: attrs name. Its dtype is the argument's."),
    _leaf("const", "A number: attrs value.", "f32"),
    _leaf("dim", "A size: attrs expr. dtype i32; a cast to f32 follows where it is used as a number."),
    _leaf("tensor_scale", "The tensor scale of a quantized argument as stored, a device f32: attrs name.", "f32"),
    # Exact arithmetic.
    _exact("add", 2, _binary(np.add), "a + b"),
    _exact("sub", 2, _binary(np.subtract), "a - b"),
    _exact("mul", 2, _binary(np.multiply), "a * b"),
    _exact("div", 2, _binary(np.divide), "a / b, correctly rounded"),
    _exact("min", 2, f32.minimum, "the lesser; of a NaN and a number, the number; -0 < +0"),
    _exact("max", 2, f32.maximum, "the greater; of a NaN and a number, the number; -0 < +0"),
    _exact("neg", 1, _unary(np.negative), "-x: flips the sign, of NaN and zero too"),
    _exact("abs", 1, _unary(np.abs), "|x|"),
    _exact("sqrt", 1, _unary(np.sqrt), "the square root, correctly rounded"),
    _exact("fma", 3, f32.fma, "a * b + c, rounded once"),
    _exact("sign", 1, _sign, "-1, 0 or 1; zero of either sign gives 0, NaN gives NaN"),
    _exact("relu", 1, _relu, "max(x, 0); NaN gives 0"),
    # Comparisons and logic. A comparison with NaN is false, except ne.
    _compare("lt", np.less, "a < b"),
    _compare("le", np.less_equal, "a <= b"),
    _compare("gt", np.greater, "a > b"),
    _compare("ge", np.greater_equal, "a >= b"),
    _compare("eq", np.equal, "a == b"),
    _compare("ne", np.not_equal, "a != b; true when either is NaN"),
    OpSpec("isnan", (1, 1), "elementwise", result="bool", numpy=np.isnan, doc="whether x is NaN"),
    _logic("and", 2, np.logical_and, "a and b"),
    _logic("or", 2, np.logical_or, "a or b"),
    _logic("not", 1, np.logical_not, "not a"),
    OpSpec("where", (3, 3), "elementwise", takes="any", numpy=np.where, doc="b where a (bool) holds, else c"),
    OpSpec("cast", (1, 1), "elementwise", takes="any", result="attr",
           doc="to the value's dtype: nearest even; to e4m3 and e5m2 saturating, NaN kept"),
    # Functions with a stated bound.
    _bounded("rsqrt", 1.5, functions.rsqrt, "1 / sqrt(x)"),
    _bounded("exp", 1.5, functions.exp, "e to the x"),
    _bounded("log", 1, functions.log, "the natural logarithm"),
    _bounded("tanh", 2.5, functions.tanh, "the hyperbolic tangent"),
    _bounded("sigmoid", 2.5, functions.sigmoid, "1 / (1 + exp(-x))"),
    _bounded("erf", 1.5, functions.erf, "the error function"),
    _bounded("gelu", 4.5, functions.gelu, "x * (1 + erf(x / sqrt(2))) / 2; 0 below -6", floor=0.5),
    _bounded("gelu_tanh", 3, functions.gelu_tanh, "x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2", floor=0.5),
    _bounded("silu", 3, functions.silu, "x * sigmoid(x)"),
    # Tensor operations.
    _tensor("matmul", 2, 2, "Contracts the last axis of a with the second-last of b, batch axes by name. f32. Operands "
            "are decoded element * block scale, without tensor scale. attrs: k, the contracted axis; for a ragged "
            "product also ragged (the offsets argument) and groups (the axis of b that it selects); accumulate "
            "(fast), where sums may have the bits of a tensor core for FP8.", exact=False),
    _tensor("of_group", 1, 1, "What the operand has for the group of each row of a ragged axis. attrs: groups, the "
            "axis that numbers them; rows, the ragged axis, which stands in its place; ragged, the offsets argument."),
    _tensor("gather", 2, 2, "Rows of an argument, by their numbers in an i32 argument: the axes of the numbers stand "
            "in the place of the first axis. A number outside of the rows stands for a row of zeros."),
    _tensor("pick", 1, 1, "One index of an axis of an argument. attrs: axis, which the result lacks; index."),
    _tensor("transpose", 1, 1, "Swaps the last two axes."),
    _tensor("dequantize", 1, 1, "A quantized value as f32: element * block scale, and the tensor scale applied."),
    _tensor("quantize", 1, 3, "To the value's block format. attrs: mode (tensor_scale, amax, scale or none), what the "
            "second operand is; rounding (nearest or stochastic: the last operand is the rng state) and stream."),
    _tensor("reduce", 1, 1, "attrs: kind (max min sum mean mean_square), over (axis names).", exact=False),
    _tensor("unzip", 1, 1, "One half of an axis. attrs: axis, into, group (a size), part (0 or 1): element i of the "
            "result is element (i // group) * 2 * group + part * group + i % group."),
    _tensor("hadamard", 1, 2, "Each run of `size` elements of an axis times diag(signs) H / sqrt(size), H Sylvester's; "
            "in f32, signs first, then butterflies at distance 1, 2, 4, ..., then one multiplication by "
            "f32(1 / sqrt(size)). attrs: axis, size."),
    _tensor("uniform", 1, 1, "Numbers in [0, 1) as f32: the high 24 bits of Philox4x32-10 word i % 4 of counter "
            "(i // 4, stream), i the element's row-major index over the value's axes. attrs: stream."),
)  # fmt: skip

#: Every operation by name.
OPS: dict[str, OpSpec] = {op.name: op for op in _TABLE}
