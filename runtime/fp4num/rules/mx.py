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


class Mx(Rule):
    """A rule with a power-of-two scale: elements are multiplied by its inverse."""

    scales = ("e8m0",)

    def factor(self, o: Ops[V], scale: V, factors: Factors[V], fmt: BlockFormat) -> V:
        return o.name("factor", inverse_e8m0(o, scale))


class _Exponent(Mx):
    """Rules that take the exponent field of (a rounded) amax and subtract emax. A NaN gives scale NaN.

    An infinity counts as 2^128: its block saturates there and keeps what its other elements are worth.
    """

    statistic = "amax_nan"

    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        bits = o.bits(statistic)
        exponent = o.int_op("ishr", self.rounded(o, bits, fmt), o.integer(23))
        code = o.int_op("isub", exponent, o.integer(fmt.element_format.emax))
        code = o.int_op("imin", o.int_op("imax", code, o.integer(0)), o.integer(254))
        # Only a NaN differs from itself.
        return o.name("scale", o.select(o.test("eq", statistic, statistic), code, o.integer(255)))

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
    """2^(floor(log2 r) - emax), r = amax rounded half up to the element's mantissa (torchao, compressed-tensors)."""

    name = "mx_even"

    def rounded(self, o: Ops[V], bits: V, fmt: BlockFormat) -> V:
        return o.int_op("iadd", bits, o.integer(1 << (22 - fmt.element_format.mantissa_bits)))


class MxRceil(Mx):
    """amax / max(element) rounded up to a power of two (Transformer Engine, FlashInfer, CUTLASS): nothing saturates."""

    name = "mx_rceil"

    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        ratio = o.float_op("mul", statistic, o.constant(1.0 / fmt.element_format.max))
        return o.name("scale", o.encode(ratio, "e8m0", "up"))
