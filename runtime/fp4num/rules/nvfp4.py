"""NVFP4 rules: e4m3 block scales under one tensor scale, as four producers compute them.

`peak` is 448 * max(element): 2688 for e2m1.
"""

from __future__ import annotations

from fp4num.formats import BlockFormat, Sense
from fp4num.ops import Ops, V
from fp4num.rules.base import FLT_MAX, Factors, Rule


class _Nvfp4(Rule):
    scales = ("e4m3",)
    tensor_scales = True
    #: The largest e4m3 scale that the tensor scale aims at.
    target = 448.0

    def peak(self, fmt: BlockFormat) -> float:
        return self.target * fmt.element_format.max


class Nvfp4Amax(_Nvfp4):
    """Transformer Engine's rule, and the one FlashInfer's exact build and CUTLASS' host code share."""

    name = "nvfp4_amax"

    def from_amax(self, o: Ops[V], amax: V, fmt: BlockFormat) -> Factors[V]:
        ratio = o.float_op("div", o.constant(self.peak(fmt)), amax)
        raw = o.name("encode_raw", o.float_op("min", ratio, o.constant(FLT_MAX)))
        zero, one = o.constant(0.0), o.constant(1.0)
        degenerate = o.either(o.test("eq", amax, zero), o.test("eq", raw, zero))
        encode = o.name("tensor_encode", o.select(degenerate, one, raw))
        return Factors(encode, o.name("tensor_decode", o.float_op("div", one, encode)), amax)

    def from_tensor_scale(self, o: Ops[V], tensor_scale: V, sense: Sense) -> Factors[V]:
        zero, one = o.constant(0.0), o.constant(1.0)
        if sense == "divides":
            return Factors(tensor_scale, o.name("tensor_decode", o.float_op("div", one, tensor_scale)))
        raw = o.float_op("min", o.float_op("div", one, tensor_scale), o.constant(FLT_MAX))
        return Factors(o.name("tensor_encode", o.select(o.test("eq", tensor_scale, zero), one, raw)), tensor_scale)

    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        per_max = o.constant(1.0 / fmt.element_format.max)
        wanted = o.float_op("mul", statistic, o.float_op("mul", factors.encode, per_max))
        return o.name("scale", o.encode(o.float_op("min", wanted, o.constant(448.0)), "e4m3"))

    def factor(self, o: Ops[V], scale: V, factors: Factors[V], fmt: BlockFormat) -> V:
        step = o.float_op("mul", o.decode(scale, "e4m3"), factors.decode)
        inverse = o.float_op("div", o.constant(1.0), step)
        return o.name("factor", o.float_op("min", inverse, o.constant(FLT_MAX)))


class _Divides(_Nvfp4):
    """The rules written in torch: a NaN makes its block's scale NaN, and elements are divided by their step."""

    statistic = "amax_nan"
    element_op = "div"


class Nvfp4ModelOpt(_Divides):
    """NVIDIA ModelOpt: the tensor scale decodes; a zero block has scale 1, others at least 2^-9."""

    name = "nvfp4_modelopt"

    def from_amax(self, o: Ops[V], amax: V, fmt: BlockFormat) -> Factors[V]:
        zero, one = o.constant(0.0), o.constant(1.0)
        raw = o.name("decode_raw", o.float_op("div", amax, o.constant(self.peak(fmt))))
        decode = o.name("tensor_decode", o.select(o.test("eq", raw, zero), one, raw))
        return Factors(o.name("tensor_encode", o.float_op("div", one, decode)), decode)

    def from_tensor_scale(self, o: Ops[V], tensor_scale: V, sense: Sense) -> Factors[V]:
        one = o.constant(1.0)
        if sense == "multiplies":
            return Factors(o.name("tensor_encode", o.float_op("div", one, tensor_scale)), tensor_scale)
        return Factors(tensor_scale, o.name("tensor_decode", o.float_op("div", one, tensor_scale)))

    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        largest = o.constant(fmt.element_format.max)
        wanted = o.float_op("div", statistic, o.float_op("mul", largest, factors.decode))
        wanted = o.name("wanted", o.select(o.test("eq", wanted, o.constant(0.0)), o.constant(1.0), wanted))
        return o.name("scale", o.encode(_clamp(o, wanted, 2.0**-9, 448.0), "e4m3"))

    def factor(self, o: Ops[V], scale: V, factors: Factors[V], fmt: BlockFormat) -> V:
        return o.name("step", o.float_op("mul", o.decode(scale, "e4m3"), factors.decode))


class Nvfp4CompressedTensors(_Divides):
    """compressed-tensors (LLM Compressor): the tensor scale encodes; a scale that rounds to zero becomes 0.125."""

    name = "nvfp4_ct"

    def from_amax(self, o: Ops[V], amax: V, fmt: BlockFormat) -> Factors[V]:
        one = o.constant(1.0)
        raw = o.name("encode_raw", o.float_op("div", o.constant(self.peak(fmt)), amax))
        finite = o.test("lt", raw, o.constant(float("inf")))
        encode = o.name("tensor_encode", o.select(finite, raw, one))
        return Factors(encode, o.name("tensor_decode", o.float_op("div", one, encode)))

    def from_tensor_scale(self, o: Ops[V], tensor_scale: V, sense: Sense) -> Factors[V]:
        one = o.constant(1.0)
        if sense == "divides":
            return Factors(tensor_scale, o.name("tensor_decode", o.float_op("div", one, tensor_scale)))
        return Factors(o.name("tensor_encode", o.float_op("div", one, tensor_scale)), tensor_scale)

    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        local = o.float_op("div", statistic, o.constant(fmt.element_format.max))
        code = o.name("rounded", o.encode(o.float_op("mul", factors.encode, local), "e4m3"))
        eighth = o.integer(0x20)  # the code of 0.125
        return o.name("scale", o.select(o.test("ieq", code, o.integer(0)), eighth, code))

    def factor(self, o: Ops[V], scale: V, factors: Factors[V], fmt: BlockFormat) -> V:
        return o.name("step", o.float_op("div", o.decode(scale, "e4m3"), factors.encode))


class Nvfp4TorchAo(_Divides):
    """torchao: the tensor scale decodes and may be absent; scales are at least 2^-6, the smallest normal e4m3."""

    name = "nvfp4_torchao"
    element_op = "mul"

    def from_amax(self, o: Ops[V], amax: V, fmt: BlockFormat) -> Factors[V]:
        return Nvfp4ModelOpt().from_amax(o, amax, fmt)

    def from_tensor_scale(self, o: Ops[V], tensor_scale: V, sense: Sense) -> Factors[V]:
        return Nvfp4ModelOpt().from_tensor_scale(o, tensor_scale, sense)

    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        local = o.float_op("div", statistic, o.constant(fmt.element_format.max))
        wanted = o.name("wanted", o.float_op("div", local, factors.decode))
        return o.name("scale", o.encode(_clamp(o, wanted, 2.0**-6, 448.0), "e4m3"))

    def factor(self, o: Ops[V], scale: V, factors: Factors[V], fmt: BlockFormat) -> V:
        inverse = o.float_op("div", o.constant(1.0), factors.decode)
        return o.name("factor", o.float_op("div", inverse, o.decode(scale, "e4m3")))


def _clamp(o: Ops[V], x: V, low: float, high: float) -> V:
    """torch.clamp, which keeps a NaN: comparisons with it are false."""
    lower, upper = o.constant(low), o.constant(high)
    x = o.name("at_least", o.select(o.test("lt", x, lower), lower, x))
    return o.select(o.test("lt", upper, x), upper, x)
