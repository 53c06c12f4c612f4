"""MX rules: power-of-two scales (e8m0). OCP Microscaling Formats v1.0, section 6.3, and what producers do instead."""

from __future__ import annotations

from abc import abstractmethod

from fp4num.formats import BlockFormat
from fp4num.ops import Ops, V
from fp4num.rules.base import Factors, Rule


def inverse_e8m0(o: Ops[V], scale: V) -> V:
    """1 / 2^(scale - 127) as a float32: the code 254 - scale, where 254 gives 2^-127 and 255 (NaN) stays NaN."""
    code = o.int_op("iand", o.int_op("isub", o.integer(254), scale), o.integer(255))
    return o.decode(code, "e8m0")


class _Mx(Rule):
    scales = ("e8m0",)

    def factor(self, o: Ops[V], scale: V, factors: Factors[V], fmt: BlockFormat) -> V:
        return o.name("factor", inverse_e8m0(o, scale))


class _Exponent(_Mx):
    """Rules that take the exponent field of (a rounded) amax and subtract emax. NaN and infinity give scale NaN."""

    statistic = "amax_nan"

    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        bits = o.bits(statistic)
        shift = o.integer(23)
        exponent = o.int_op("ishr", self.rounded(o, bits, fmt), shift)
        code = o.int_op("isub", exponent, o.integer(fmt.element_format.emax))
        code = o.int_op("imin", o.int_op("imax", code, o.integer(0)), o.integer(254))
        nan = o.integer(255)
        special = o.test("ieq", o.int_op("ishr", bits, shift), nan)
        return o.name("scale", o.select(special, nan, code))

    @abstractmethod
    def rounded(self, o: Ops[V], bits: V, fmt: BlockFormat) -> V:
        """The bits of amax, raised so that truncation to the exponent rounds as the rule says."""


class MxFloor(_Exponent):
    """The OCP rule: 2^(floor(log2 amax) - emax)."""

    name = "mx_floor"

    def rounded(self, o: Ops[V], bits: V, fmt: BlockFormat) -> V:
        return bits


class MxCeil(_Exponent):
    """2^(ceil(log2 amax) - emax)."""

    name = "mx_ceil"

    def rounded(self, o: Ops[V], bits: V, fmt: BlockFormat) -> V:
        return o.int_op("iadd", bits, o.integer(0x7FFFFF))


class MxEven(_Exponent):
    """2^(floor(log2 r) - emax) with r = amax rounded half up to the element's mantissa (torchao EVEN, compressed-tensors)."""

    name = "mx_even"

    def rounded(self, o: Ops[V], bits: V, fmt: BlockFormat) -> V:
        return o.int_op("iadd", bits, o.integer(1 << (22 - fmt.element_format.mantissa_bits)))


class MxRceil(_Mx):
    """amax / max(element) rounded up to a power of two (Transformer Engine, FlashInfer, CUTLASS): nothing saturates."""

    name = "mx_rceil"

    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        ratio = o.float_op("mul", statistic, o.constant(1.0 / fmt.element_format.max))
        return o.name("scale", o.encode(ratio, "e8m0", "up"))
