"""How far a right kernel may be from the reference: intervals through the values of a typed kernel.

Only the order of a product's additions is left open (docs/numerics.md). A sum of n terms in f32 is within
gamma(n - 1) * sum |x| of the true one, gamma(n) = n u / (1 - n u), u = 2^-24 (Higham, Accuracy and Stability, 4.2), so
two orders are within twice that of each other; a sum that is exact in every order has no room at all.
Fast sums of FP8 lose more, within each 128 along K (`products.FAST_LOSS`). All other
operations have one meaning to the bit and carry the interval on. What a bound cannot be carried through is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from fp4num import Quantized
from fp4rt.plan import MOST_PARTS
from fp4rt.reference import interval as intervals
from fp4rt.reference import products, tensorops
from fp4rt.reference.interpreter import Environment, Operand, apply
from fp4rt.reference.interval import Interval, everything, interval, merged, point
from fp4rt.reference.quantized import QuantizedRange
from fp4rt.reference.sums import joined_products
from fp4rt.reference.tensor import Array, Gathered, Tensor, Turned
from fp4rt.typed import TypedKernel, Value

_UNIT = 2.0**-24
#: Roundings besides those of the additions: of factors that are multiplied in after or between partial sums.
_FACTORS = 4
#: Half of f32's largest number: what magnitudes, which are rounded too, may not pass if no partial sum may.
_LARGEST = 2.0**127


Range: TypeAlias = "Interval | QuantizedRange"


def ranges(
    kernel: TypedKernel, env: Environment, values: list[Operand], unordered: frozenset[str] = frozenset()
) -> list[Range | None]:
    """For each value of a kernel what it can be; None where there is nothing but the value itself.

    `unordered`: outputs to which parts of K are added in any order. Of n additions to c and parts p_i each is within
    gamma(n) (|c| + sum |p_i|) of the true sum: the share of the p_i, and the rounding of the factors of each, is in the
    interval of their products, that of c is added at the end.
    """
    found: list[Range | None] = []
    stored = {store.value for store in kernel.stores if store.arg in unordered}
    carrier = _Carrier(kernel, env, values, found, MOST_PARTS + len(kernel.values) if stored else 0)
    for index, value in enumerate(kernel.values):
        if value.op == "matmul":
            found.append(carrier.product(index))
        elif any(found[i] is not None for i in value.operands):
            found.append(carrier.carried(index))
        else:
            found.append(None)
        if index in stored:
            found[index] = carrier.added(index)
    return found


@dataclass(frozen=True, slots=True)
class _Carrier:
    kernel: TypedKernel
    env: Environment
    values: list[Operand]
    found: list[Range | None]
    roundings: int = 0  # of parts of products that are added apart

    def added(self, index: int) -> Range | None:
        """The sum of an output's old value and of what parts add to it."""
        known = self.found[index]
        if not isinstance(known, Interval):
            return known
        old = (self.values[i] for i in self.kernel.values[index].operands if self.found[i] is None)
        start = sum(np.abs(x.align(known.axes).astype(np.float64)) for x in old if isinstance(x, Tensor))
        room = 2 * (MOST_PARTS + 1) * _UNIT * start
        with np.errstate(all="ignore"):
            ends = (_outward(known.low.data - room, down=True), _outward(known.high.data + room, down=False))
        low, high = (Tensor(end, known.axes) for end in ends)
        return interval(low, high, known.reasons)

    def product(self, index: int) -> Range | None:
        """A product's sums. Those that are added up may be one accumulator: they share depth and exactness."""
        value = self.kernel.values[index]
        inexact = [self.found[i] for i in value.operands if self.found[i] is not None]
        if inexact:
            return self._nothing(index, "a product of values that are not known to the bit")
        together = joined_products(self.kernel).get(index, [index])
        parts = [self._terms(i) for i in together]
        own = self._terms(index)
        with np.errstate(all="ignore"):
            total = sum(part.magnitudes() for part in parts)
            exact = products.exact(parts, np.asarray(total))
            fast = value.attrs.get("accumulate") == "fast"
            if fast:
                exact = exact & (products.fast_exact(parts) | ~np.isfinite(total))
            if self.roundings:
                exact = exact & ((total == 0) | ~np.isfinite(total))
            if exact.all():
                return None
            depth = sum(part.depth for part in parts) + _FACTORS + self.roundings
            gamma = depth * _UNIT / (1 - depth * _UNIT)
            loss = 2 * gamma + (products.FAST_LOSS if fast else 0.0)
            room = np.where(exact, 0.0, loss * own.magnitudes() + depth * 2.0**-149)
            sums = own.sums()
            reference = self._tensor(index).data
            low, high = _outward(sums - room, down=True), _outward(sums + room, down=False)
            # Partial sums lie between the sums of the negative and of the positive terms. Past f32's range they stay
            # infinite, and infinities of both signs make a NaN.
            all_sums = sum(part.sums() for part in parts)
            over, under = ((total + sign * all_sums) / 2 > _LARGEST for sign in (1, -1))
            low = np.where(exact, reference, np.where(under, np.float32(-np.inf), low))
            high = np.where(exact, reference, np.where(over, np.float32(np.inf), high))
        reasons = ("sums whose parts may leave f32's range",) if (~exact & over & under).any() else ()
        return interval(Tensor(low, value.axes), Tensor(high, value.axes), reasons)

    def _terms(self, index: int) -> products.Terms:
        value = self.kernel.values[index]
        a, b = (self.values[i] for i in value.operands)
        return products.terms(a, b, value, self.env.arrays)

    def carried(self, index: int) -> Range:
        """A value of which some operands have intervals."""
        value = self.kernel.values[index]
        if value.op == "quantize":
            return self._quantized(index)
        source = self.found[value.operands[0]]
        if value.op == "dequantize" and isinstance(source, QuantizedRange) and source.value.op == "quantize":
            if source.refused is not None:
                return self._nothing(index, source.refused)
            return source.dequantized(value)
        operands = [self._interval(i) for i in value.operands]
        if any(operand is None for operand in operands):
            return self._nothing(index, f"{value.op} of a quantized value that is not known to the bit")
        known = [operand for operand in operands if operand is not None]
        if value.op in _TENSOR:
            return _TENSOR[value.op](value, known, self.env)
        function = apply(value)
        if function is None:
            return self._nothing(index, value.op)
        return intervals.elementwise(value.op, known, value.axes, function)

    def _quantized(self, index: int) -> Range:
        value, expected = self.kernel.values[index], self.values[index]
        x, *others = (self._interval(i) for i in value.operands)
        if x is None or not isinstance(expected, Quantized):
            return self._nothing(index, "quantize of a quantized value")
        if any(self.found[i] is not None for i in value.operands[1:]):
            x = everything(x.low, "quantize with a scale that is not known to the bit", x)
        return QuantizedRange(x, tuple(o.low for o in others if o is not None), value, expected)

    def _interval(self, index: int) -> Interval | None:
        """An operand's interval; None for a quantized one."""
        known, value = self.found[index], self.values[index]
        if isinstance(known, Interval):
            return known
        return point(value) if known is None and isinstance(value, Tensor) else None

    def _tensor(self, index: int) -> Tensor:
        value = self.values[index]
        assert isinstance(value, Tensor)
        return value

    def _nothing(self, index: int, reason: str) -> Range:
        """A value through which no bound is carried."""
        value, node = self.values[index], self.kernel.values[index]
        known = [r for i in node.operands if isinstance(r := self.found[i], Interval)]
        if isinstance(value, Tensor):
            return everything(value, reason, *known)
        inner = value.value if isinstance(value, Turned | Gathered) else value
        x = everything(Tensor(np.zeros(inner.shape, np.float32), node.axes), reason, *known)
        return QuantizedRange(x, (), node, inner)


def _outward(x: Array, *, down: bool) -> Array:
    """f64 to f32 toward minus or plus infinity."""
    near = x.astype(np.float32)
    wrong = near > x if down else near < x
    return np.where(wrong, np.nextafter(near, np.float32(-np.inf if down else np.inf)), near)


# operations on whole tensors


def _transpose(value: Value, operands: list[Interval], env: Environment) -> Interval:
    return operands[0].each(Tensor.swap_last)


def _of_group(value: Value, operands: list[Interval], env: Environment) -> Interval:
    return operands[0].each(lambda t: tensorops.of_group(value, t, env.arrays))


def _reduce(value: Value, operands: list[Interval], env: Environment) -> Interval:
    x = operands[0]
    if value.attrs["kind"] == "mean_square":  # of the magnitudes, which have the same squares
        x = intervals.elementwise("abs", [x], x.axes, np.abs)
    found = x.each(lambda t: tensorops.reduce(value, [t], env.dims))
    unknown = Tensor(intervals.unknown(x).astype(np.float32), x.axes)
    spoiled = tensorops.reduce(replace(value, attrs={**value.attrs, "kind": "max"}), [unknown], env.dims).data > 0
    return intervals.unknown_where(spoiled, found)


def _unzip(value: Value, operands: list[Interval], env: Environment) -> Interval:
    return operands[0].each(lambda t: tensorops.unzip(value, [t], env.dims))


def _hadamard(value: Value, operands: list[Interval], env: Environment) -> Interval:
    """Half of the difference of the ends goes through the matrix of magnitudes, which is all ones."""
    x, *signs = operands
    axis, size = str(value.attrs["axis"]), value.attrs["size"]
    assert isinstance(size, int)
    position = x.axes.index(axis)
    low, high = (np.moveaxis(end.data.astype(np.float64), position, -1) for end in (x.low, x.high))
    runs = (*low.shape[:-1], low.shape[-1] // size, size)
    with np.errstate(all="ignore"):
        middle = np.asarray((low + high) / 2, np.float32)
        exact = tensorops.hadamard(
            value, [Tensor(np.moveaxis(middle, -1, position), x.axes), *(s.low for s in signs)], env.dims
        )
        spread = (np.maximum(high - middle, middle - low)).reshape(runs).sum(axis=-1, keepdims=True)
        # Every addition and the last product round once more: log2(size) + 2 of them, of sums of magnitudes.
        most = np.maximum(np.abs(low), np.abs(high)).reshape(runs).sum(axis=-1, keepdims=True)
        room = (spread + 2 * (size.bit_length() + 2) * _UNIT * most) / np.sqrt(size)
        room = np.where(spread == 0, 0.0, room * (1 + 2.0**-20) + 2.0**-149)
        room = np.moveaxis(np.broadcast_to(room, runs).reshape(low.shape), -1, position)
        ends = [exact.data.astype(np.float64) + sign * room for sign in (-1, 1)]
    lower, upper = (_outward(end, down=down) for end, down in zip(ends, (True, False), strict=True))
    return interval(Tensor(lower, x.axes), Tensor(upper, x.axes), merged(x))


_TENSOR: dict[str, Callable[[Value, list[Interval], Environment], Interval]] = {
    "of_group": _of_group,
    "transpose": _transpose,
    "reduce": _reduce,
    "unzip": _unzip,
    "hadamard": _hadamard,
}
