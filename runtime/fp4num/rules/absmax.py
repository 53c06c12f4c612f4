"""absmax: scales that map the block's largest magnitude to the element's largest value (DeepSeek FP8)."""

from __future__ import annotations

from fp4num.formats import BlockFormat
from fp4num.ops import Ops, V
from fp4num.rules.base import FLT_MAX, Factors, Rule
from fp4num.rules.mx import inverse_e8m0


class AbsMax(Rule):
    """scale = max(amax, 1e-4) / max(element): f32, or rounded up to a power of two where the scale is e8m0."""

    name = "absmax"
    scales = ("f32", "e8m0")

    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        floor = o.float_op("max", statistic, o.constant(1e-4))
        scale = o.float_op("div", floor, o.constant(fmt.element_format.max))
        return o.name("scale", scale if fmt.scale == "f32" else o.encode(scale, "e8m0", "up"))

    def factor(self, o: Ops[V], scale: V, factors: Factors[V], fmt: BlockFormat) -> V:
        if fmt.scale == "e8m0":
            return o.name("factor", inverse_e8m0(o, scale))
        inverse = o.float_op("div", o.constant(1.0), scale)
        return o.name("factor", o.float_op("min", inverse, o.constant(FLT_MAX)))
