"""Four over six: a block tries the scale that maps its maximum to 6 and the one for 4, and keeps the better.

Cook et al., "Four Over Six: More Accurate NVFP4 Quantization with Adaptive Block Scaling", 2025; the sequence of
operations is Transformer Engine's (quantize_4over6_nvfp4, its exact error path).
"""

from __future__ import annotations

from typing import Literal

from fp4num.errors import FormatError
from fp4num.formats import BlockFormat
from fp4num.ops import Ops, V
from fp4num.rules.base import Factors
from fp4num.rules.nvfp4 import Nvfp4Amax

Metric = Literal["mae", "mse"]


class FourOverSix(Nvfp4Amax):
    """Two candidates a block; the second (four) is taken where its error is strictly smaller.

    `target` is the e4m3 scale that the largest block maps to with six: at 448 its alternative saturates, at 256 not.
    The error of a block is a sum of float32 terms: along each row from left to right, then, for blocks of 2^n rows, by
    halves (row i += row i + 2^(n-1), and so on).
    """

    def __init__(self, name: str, metric: Metric, target: float) -> None:
        self.name = name
        self.metric = metric
        self.target = target

    def check(self, fmt: BlockFormat) -> None:
        super().check(fmt)
        if fmt.element != "e2m1":
            raise FormatError(f"{self.name} is for e2m1 elements, not the {fmt.element} of {fmt.name}")
        rows = fmt.block[0]
        if rows == "all" or rows & (rows - 1):
            raise FormatError(f"{self.name} sums errors over 1, 2, 4, 8, .. rows of a block, not {rows} ({fmt.name})")

    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        return self._encoded(o, self._base(o, statistic, factors))

    def alternative(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        """The scale that maps the block's maximum to 4: one and a half times as large."""
        return self._encoded(o, o.float_op("mul", self._base(o, statistic, factors), o.constant(1.5)))

    def error(self, o: Ops[V], x: V, element: V, scale: V, factors: Factors[V], fmt: BlockFormat) -> V:
        """One element's term: of the decoded `element` under `scale` (a code) against `x`."""
        scaled = o.float_op("mul", element, o.decode(scale, "e4m3"))
        if factors.amax is not None:
            value = o.float_op("div", o.float_op("mul", scaled, factors.amax), o.constant(self.peak(fmt)))
        elif fmt.tensor_scale == "divides":
            value = o.float_op("div", scaled, factors.encode)
        else:
            value = o.float_op("mul", scaled, factors.decode)
        difference = o.name("difference", o.float_op("sub", value, x))
        return o.float_op("mul", difference, difference) if self.metric == "mse" else o.absolute(difference)

    def _base(self, o: Ops[V], statistic: V, factors: Factors[V]) -> V:
        return o.float_op("mul", o.float_op("div", statistic, o.constant(6.0)), factors.encode)

    def _encoded(self, o: Ops[V], wanted: V) -> V:
        return o.name("scale", o.encode(o.float_op("min", wanted, o.constant(448.0)), "e4m3"))
