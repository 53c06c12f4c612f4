"""A format's quantizer as programs, for code generators and documentation.

    trace(FORMATS["nvfp4"], "amax")

gives what is computed once a tensor, once a block and once an element. A kernel that does these steps, one rounded
operation each, writes the bytes that `quantize` returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fp4num.errors import FormatError
from fp4num.formats import BlockFormat
from fp4num.program import Program, Recorder
from fp4num.rules import Factors, FourOverSix, Statistic, rule, unit

#: Where a tensor's factors come from: `amax`, `tensor_scale`, or nowhere ("none"); "scale": the block scales are given.
Mode = Literal["amax", "tensor_scale", "none", "scale"]

_FACTORS = ("tensor_encode", "tensor_decode", "tensor_amax")


@dataclass(frozen=True, slots=True)
class QuantizerProgram:
    """The programs of one quantizer.

    `tensor`: amax or tensor_scale -> tensor_encode, tensor_decode. `block`: block_statistic (the `statistic` of the
    block) and those factors -> scale (a code; float32 for f32 scales) and factor (or step, which divides). `element`: x
    and that -> scaled, which is then encoded. `alternative` and `error` are set for four over six: the second
    candidate's block program, and the error term of x, element (decoded) and scale. `stored` names the factor that the
    format stores, if it has one.
    """

    statistic: Statistic
    tensor: Program
    block: Program
    element: Program
    alternative: Program | None
    error: Program | None
    stored: str | None


def trace(fmt: BlockFormat, mode: Mode, quantizer: str | None = None) -> QuantizerProgram:
    """The programs of the format's quantizer (or of another); `FormatError` if they do not fit."""
    the_rule = rule(quantizer or fmt.quantizer)
    the_rule.check(fmt)

    o = Recorder()
    tensor, stored = Program((), (), ()), None
    if mode in ("amax", "tensor_scale"):
        source, sense = o.input(mode), fmt.tensor_scale
        if sense is None:
            raise FormatError(f"{fmt.name} has no tensor scale: its quantizer takes neither amax nor tensor_scale")
        amax = mode == "amax"
        made = the_rule.from_amax(o, source, fmt) if amax else the_rule.from_tensor_scale(o, source, sense)
        tensor = o.program((source,), (made.encode, made.decode))
        stored = tensor.outputs[1 if sense == "multiplies" else 0]

    def block(other: bool) -> Program:
        o = Recorder()
        inputs = [o.input(name) for name in ("block_statistic", *_FACTORS)]
        factors = _factors(o, mode)
        if mode == "scale":
            scale = o.input("scale")
            inputs = [scale]
        elif other:
            assert isinstance(the_rule, FourOverSix)
            scale = the_rule.alternative(o, inputs[0], factors, fmt)
        else:
            scale = the_rule.scale(o, inputs[0], factors, fmt)
        factor = the_rule.factor(o, scale, factors, fmt)
        return o.program(tuple(inputs), (scale, factor))

    o = Recorder()
    x, factor = o.input("x"), o.input("factor" if the_rule.element_op == "mul" else "step")
    scaled = o.name("scaled", o.float_op(the_rule.element_op, x, factor))
    element = o.program((x, factor), (scaled,))

    alternative = error = None
    if isinstance(the_rule, FourOverSix):
        alternative = block(True)
        o = Recorder()
        names = tuple(o.input(name) for name in ("x", "element", "scale", *_FACTORS))
        term = the_rule.error(o, names[0], names[1], names[2], _factors(o, mode), fmt)
        error = o.program(names, (o.name("error", term),))
    return QuantizerProgram(the_rule.statistic, tensor, block(False), element, alternative, error, stored)


def _factors(o: Recorder, mode: Mode) -> Factors[str]:
    if mode in ("none", "scale"):
        return unit(o)
    encode, decode, amax = (o.input(name) for name in _FACTORS)
    return Factors(encode, decode, amax if mode == "amax" else None)
