"""Quartet's MXFP4 rules. Castro et al., "Quartet: Native FP4 Training Can Be Optimal for Large Language Models", 2025.

Both follow a Hadamard transform of the blocks, which the caller applies (`fp4num.hadamard`).
"""

from __future__ import annotations

from fp4num.formats import BlockFormat
from fp4num.ops import Ops, V
from fp4num.rules.base import Factors
from fp4num.rules.mx import Mx, MxFloor, inverse_e8m0

#: Clipping point, in standard deviations, that is best for a normal distribution on the E2M1 grid.
GAUSSIAN = 2.92247856


class QuestMxfp4(Mx):
    """Forward: 2^floor(log2(std * 2.92247856 / max + 1e-8)) clips what a normal distribution best spares."""

    name = "quest_mxfp4"
    statistic = "std"

    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        ratio = o.constant(GAUSSIAN / fmt.element_format.max)
        wanted = o.float_op("add", o.float_op("mul", statistic, ratio), o.constant(1e-8))
        return o.name("scale", o.encode(wanted, "e8m0", "toward_zero"))


class QuartetStochastic(MxFloor):
    """Backward: the OCP scale, and elements times 3/4, so that stochastic rounding never clips.

    The decoded tensor is 3/4 of the input on average: multiply a product of two such tensors by 16/9.
    """

    name = "quartet_stochastic"

    def factor(self, o: Ops[V], scale: V, factors: Factors[V], fmt: BlockFormat) -> V:
        return o.name("factor", o.float_op("mul", inverse_e8m0(o, scale), o.constant(0.75)))
