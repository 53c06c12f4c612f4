"""Intervals of f32 numbers through elementwise operations.

A correctly rounded operation is as monotone as the real one, so the ends of what it can give, inputs being anywhere in
their intervals, are its values at the inputs' ends: nothing is added for rounding. Functions that are programs (see
`fp4rt.ops`) are monotone but for their stated error, which is added on both sides. Where nothing can be said (a NaN may
arise, a divisor may be 0) the interval is everything, -inf to +inf, and then stands for NaN too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from fp4rt.ops import OPS
from fp4rt.reference.tensor import Array, Tensor

_INF = np.float32(np.inf)
#: Where a function that falls and then rises is least: its values near there are what it reaches inside an interval.
_LEAST = {"gelu": -0.7517916, "gelu_tanh": -0.7524614, "silu": -1.2784645}
_RISING = frozenset(
    ("add", "min", "max", "relu", "sqrt", "sign", "exp", "log", "tanh", "sigmoid", "erf", "and", "or", "cast")
)


@dataclass(frozen=True, slots=True)
class Interval:
    """All that a value can be: low <= value <= high, in arrays of one shape with the same axes. Bools: false < true.

    `reasons` names what no bound could be carried through, where the interval is everything for that.
    """

    low: Tensor
    high: Tensor
    reasons: tuple[str, ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes."""
        return self.low.axes

    def align(self, axes: Sequence[str]) -> tuple[Array, Array]:
        """Both ends with these axes in this order."""
        return self.low.align(axes), self.high.align(axes)

    def each(self, function: Callable[[Tensor], Tensor]) -> Interval:
        """A function that does not fall, applied to both ends."""
        return interval(function(self.low), function(self.high), self.reasons)


def point(x: Tensor) -> Interval:
    """A value that is known."""
    return Interval(x, x)


def interval(low: Tensor, high: Tensor, reasons: tuple[str, ...] = ()) -> Interval:
    """From both ends; everything where only one of them is a NaN, or the two are not in order."""
    a, b = low.data, high.data
    if a.dtype.kind == "f":
        with np.errstate(all="ignore"):
            unknown = ~(a <= b) & ~(np.isnan(a) & np.isnan(b))
        if unknown.any():
            low = Tensor(np.where(unknown, -_INF, a), low.axes)
            high = Tensor(np.where(unknown, _INF, b), high.axes)
    return Interval(low, high, reasons)


def everything(like: Tensor, reason: str, *others: Interval) -> Interval:
    """The interval of a value of which nothing is known."""
    reasons = merged(*others, Interval(like, like, (reason,)))
    if like.data.dtype == np.bool_:
        return Interval(
            Tensor(np.zeros_like(like.data), like.axes), Tensor(np.ones_like(like.data), like.axes), reasons
        )
    ends = (np.full(like.data.shape, end, np.float32) for end in (-_INF, _INF))
    low, high = (Tensor(end, like.axes) for end in ends)
    return Interval(low, high, reasons)


def unknown(x: Interval) -> Array:
    """Where an interval is everything, and the value may be a NaN."""
    if x.low.data.dtype.kind != "f":
        return np.zeros(x.low.data.shape, np.bool_)
    return (x.low.data == -_INF) & (x.high.data == _INF)


def unknown_where(places: Array, x: Interval) -> Interval:
    """The interval with everything at some places: what a NaN goes into is a NaN, whatever the ends say."""
    if x.low.data.dtype.kind != "f" or not places.any():
        return x
    low, high = np.where(places, -_INF, x.low.data), np.where(places, _INF, x.high.data)
    return Interval(Tensor(low, x.axes), Tensor(high, x.axes), x.reasons)


def merged(*intervals: Interval) -> tuple[str, ...]:
    """The reasons of all, each once."""
    return tuple(dict.fromkeys(reason for i in intervals for reason in i.reasons))


def elementwise(op: str, operands: Sequence[Interval], axes: tuple[str, ...], apply: Callable[..., Array]) -> Interval:
    """The interval of an elementwise operation, `apply` being its meaning on arrays."""
    ends = [operand.align(axes) for operand in operands]
    with np.errstate(all="ignore"):
        low, high = _ends(op, ends, apply)
        # An operation on numbers that are known is known, a NaN too.
        known = np.asarray(True)
        for a, b in ends:
            known = known & same(a, b)
        if low.dtype.kind == "f":
            nan = np.isnan(low) | np.isnan(high)
            if op != "where":  # which takes one of two, each with its own interval
                for a, b in ends:
                    nan = nan | ((a == -_INF) & (b == _INF))
            low, high = np.where(nan & ~known, -_INF, low), np.where(nan & ~known, _INF, high)
        if known.any():
            value = apply(*(a for a, _ in ends))
            low, high = np.where(known, value, low), np.where(known, value, high)
    reasons = merged(*operands)
    if op == "div" and (~known & (low == -_INF) & (high == _INF)).any():
        reasons = (*reasons, "a division by what may be 0")
    return Interval(Tensor(low, axes), Tensor(high, axes), tuple(dict.fromkeys(reasons)))


def same(a: Array, b: Array) -> Any:
    """Where two arrays have the same bits, or are both NaN."""
    if a is b:
        return np.ones(a.shape, np.bool_)
    if a.dtype.kind != "f":
        return a == b
    return ((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))


Ends = Sequence[tuple[Array, Array]]


def _ends(op: str, ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    if op in _SPECIAL:
        return _SPECIAL[op](ends, apply)
    lows, highs = [a for a, _ in ends], [b for _, b in ends]
    if op in _RISING:
        low, high = apply(*lows), apply(*highs)
    elif op == "rsqrt":
        low, high = apply(*highs), apply(*lows)
    elif op in _LEAST:
        (a, b) = ends[0]
        values = [apply(a), apply(b), apply(np.clip(np.float32(_LEAST[op]), a, b))]
        low, high = np.minimum.reduce(values), np.maximum.reduce(values)
    else:
        corners = [apply(*corner) for corner in product(*ends)]
        low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    spec = OPS[op]
    if spec.exact:
        return low, high
    return _widened(low, high, lows[0], highs[0], spec.ulp, spec.floor)


def _widened(low: Array, high: Array, a: Array, b: Array, ulp: float, floor: float) -> tuple[Array, Array]:
    """By twice the error of a program: one at the end of the interval, one at the value inside it."""
    least = np.maximum(np.abs(a), np.abs(b)) * np.float32(floor)

    def step(x: Array) -> Array:
        unit = np.spacing(np.maximum(np.abs(x), least))
        return np.where(np.isfinite(x), 2 * ulp * unit, 0)

    return np.asarray(low - step(low), np.float32), np.asarray(high + step(high), np.float32)


def _sub(ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    (a, b), (c, d) = ends
    return apply(a, d), apply(b, c)


def _neg(ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    ((a, b),) = ends
    return apply(b), apply(a)


def _abs(ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    ((a, b),) = ends
    low, high = np.minimum(apply(a), apply(b)), np.maximum(apply(a), apply(b))
    return np.where((a <= 0) & (b >= 0), np.float32(0), low), high


def _div(ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    corners = [apply(*corner) for corner in product(*ends)]
    c, d = ends[1]
    low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    zero = (c <= 0) & (d >= 0)
    return np.where(zero, -_INF, low), np.where(zero, _INF, high)


def _less(ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    (a, b), (c, d) = ends
    return apply(b, c), apply(a, d)


def _greater(ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    (a, b), (c, d) = ends
    return apply(a, d), apply(b, c)


def _eq(ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    (a, b), (c, d) = ends
    return (a == b) & (c == d) & (a == c), (a <= d) & (c <= b)


def _ne(ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    sure, possible = _eq(ends, apply)
    return ~possible, ~sure


def _isnan(ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    ((a, b),) = ends
    return apply(a) & apply(b), apply(a) | apply(b) | ((a == -_INF) & (b == _INF))


def _not(ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    ((a, b),) = ends
    return apply(b), apply(a)


def _where(ends: Ends, apply: Callable[..., Array]) -> tuple[Array, Array]:
    (sure, possible), (a, b), (c, d) = ends
    low = np.where(sure, a, np.where(possible, np.minimum(a, c), c))
    return low, np.where(sure, b, np.where(possible, np.maximum(b, d), d))


_SPECIAL: dict[str, Callable[[Ends, Callable[..., Array]], tuple[Array, Array]]] = {
    "sub": _sub, "neg": _neg, "abs": _abs, "div": _div, "lt": _less, "le": _less, "gt": _greater, "ge": _greater,
    "eq": _eq, "ne": _ne, "isnan": _isnan, "not": _not, "where": _where,
}  # fmt: skip
