"""What a quantized value can be, where what is quantized is an interval.

The scale of a block rises with its largest magnitude under all rules but those that `refused` names, and under one
scale a code rises with the number. So scales lie between those of the least and of the greatest magnitudes, and codes
between those of the interval's ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import RULES, Quantized, codes_under, dequantize, pack
from fp4num.rules import FourOverSix
from fp4rt.reference import tensorops
from fp4rt.reference.interval import Interval, interval, same
from fp4rt.reference.tensor import Array, Tensor
from fp4rt.typed import Value


@dataclass(frozen=True, slots=True)
class QuantizedRange:
    """What is quantized, and how: `others` are the operand of `mode` and the random state, known to the bit."""

    x: Interval
    others: tuple[Tensor, ...]
    value: Value
    expected: Quantized

    @property
    def ends(self) -> tuple[Array, Array]:
        """Both ends of what is quantized, in the shape of the result."""
        low, high = (np.broadcast_to(end, self.expected.shape) for end in self.x.align(self.value.axes))
        return low, high

    @property
    def refused(self) -> str | None:
        """Why no bound is known for this rule; None where one is."""
        rule = RULES[self.expected.format.quantizer]
        if isinstance(rule, FourOverSix) or rule.statistic == "std":
            return f"the quantizer {rule.name}, whose scale may fall where a number rises"
        if self.expected.format.tensor_scale_shape(self.expected.shape):
            return "quantizing with a tensor scale for each batch"
        return None

    def of_extremes(self) -> tuple[Quantized, Quantized]:
        """The least and the greatest magnitudes, quantized: their scales are the ends of all scales."""
        low, high = self.ends
        greatest = np.maximum(np.abs(low), np.abs(high))
        least = np.where((low <= 0) & (high >= 0), np.float32(0), np.minimum(np.abs(low), np.abs(high)))
        # A number that is known keeps its NaN.
        known = same(low, high)
        magnitudes = (np.asarray(np.where(known, low, x), np.float32) for x in (least, greatest))
        bottom, top = (tensorops.quantize(x, list(self.others), self.value) for x in magnitudes)
        return bottom, top

    def codes_of_ends(self, scales: Quantized) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The codes of both ends, one a byte, under the scales of a quantized value."""
        attrs = self.value.attrs
        operands = iter(self.others)
        mode, stream = str(attrs.get("mode", "none")), attrs.get("stream", 0)
        factor = None if mode == "none" else next(operands).data
        rng = next(operands).data if attrs.get("rounding") == "stochastic" else None
        arguments: dict[str, Any] = {
            "tensor_scale": factor if mode == "tensor_scale" else None,
            "amax": factor if mode == "amax" else None,
            "rounding": "nearest" if rng is None else "stochastic",
            "rng": rng,
            "stream": stream if isinstance(stream, int) else 0,
        }
        bottom, top = (codes_under(end, scales, **arguments).reshape(scales.shape) for end in self.ends)
        return bottom, top

    def dequantized(self, value: Value) -> Interval:
        """The interval of what the quantized value decodes to: codes and scales at the ends of theirs."""
        extremes = self.of_extremes()
        bits = self.expected.format.bits
        lows: list[Array] = []
        highs: list[Array] = []
        for codes in map(self.codes_of_ends, extremes):
            for scales in extremes:
                for code, found in zip(codes, (lows, highs), strict=True):
                    packed = pack(code, bits).reshape(scales.codes.shape)
                    found.append(dequantize(replace(scales, codes=packed)))
        low, high = np.minimum.reduce(lows), np.maximum.reduce(highs)
        return interval(Tensor(low, value.axes), Tensor(high, value.axes), self.x.reasons)
