"""A quantizer rule as Python functions of an emitted kernel: the same steps as `fp4num.rules`, one helper a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fp4cc.codegen.fragments import Block, Function, Statement, fragment
from fp4num import BlockFormat
from fp4num.program import Program, Recorder, Step
from fp4num.rules import Factors, FourOverSix, Rule, rule, unit

_FLOAT = {
    "add": "add", "sub": "sub", "mul": "mul", "div": "div", "min": "minimum", "max": "maximum", "absolute": "absolute",
}  # fmt: skip
_INT = {"iadd": "+", "isub": "-", "iand": "&", "ishl": "<<", "ishr": ">>"}
_STATISTICS = {
    "amax": "largest_magnitude", "amax_nan": "largest_magnitude_or_nan", "std": "standard_deviation",
}  # fmt: skip
_ENCODE = {
    ("e4m3", "nearest"): "encode_e4m3",
    ("e8m0", "up"): "encode_e8m0_up",
    ("e8m0", "toward_zero"): "encode_e8m0_down",
}


@dataclass(frozen=True, slots=True)
class Quantizer:
    """The text of the functions that quantize to a format.

    `NAME_factors(given)` turns the tensor scale or amax into what the others take as `tensor_encode` and so on
    (`tensor_factors`); only formats with a tensor scale have it. Then there is either `quantize_NAME(x, ...)`, from a
    list of values to scaled values and the scale as a word, or `NAME_scale(measured, ...)`, from what was measured of a
    block (or its scale, where that is known) to the scale as a word and the factor of its values.
    """

    functions: tuple[Function, ...]


def quantizer(
    fmt: BlockFormat, name: str, mode: str, measure: Literal["line", "panel", "known"] = "line", where: str = ""
) -> Quantizer:
    """The functions for an output called `name`. `where` says in words what a block's rows are."""
    the_rule = rule(fmt.quantizer)
    printer = _Printer()
    functions: list[Function] = []
    if tensor_factors(fmt, mode):
        functions.append(_factors(fmt, the_rule, name, mode, printer))
    if measure != "line":
        made = _given(fmt, the_rule, name, printer) if mode == "scale" else _scale(fmt, the_rule, name, mode, printer)
        functions.append(made)
    elif isinstance(the_rule, FourOverSix):
        functions += [_error(fmt, the_rule, name, mode, printer), _better(fmt, the_rule, name, mode, where, printer)]
    else:
        functions.append(_block(fmt, the_rule, name, mode, where, printer))
    return Quantizer(tuple(functions))


def tensor_factors(fmt: BlockFormat, mode: str) -> tuple[str, ...]:
    """What the functions take of a tensor scale: it both ways, and the amax where errors are measured with it."""
    if fmt.tensor_scale is None:
        return ()
    amax = ("amax",) if mode == "amax" and isinstance(rule(fmt.quantizer), FourOverSix) else ()
    return ("encode", "decode", *amax)


def _factors(fmt: BlockFormat, the_rule: Rule, name: str, mode: str, printer: _Printer) -> Function:
    record = Recorder()
    given = record.input(mode)
    if mode == "amax":
        found = the_rule.from_amax(record, given, fmt)
    elif fmt.tensor_scale is not None:
        found = the_rule.from_tensor_scale(record, given, fmt.tensor_scale)
    else:
        raise ValueError(f"{fmt.name} has no tensor scale")
    program = record.program((mode,), (found.encode, found.decode))
    lines = printer.lines(program)
    amax = ", and the amax" if "amax" in tensor_factors(fmt, mode) else ""
    doc = f"The tensor scale of {name} both ways, to encode and to decode{amax}."
    result = f"return {printer.value(found.encode)}, {printer.value(found.decode)}{', amax' if amax else ''}"
    return Function(f"{name}_factors", (mode,), doc, fragment(*lines, result))


@dataclass(slots=True)
class _Record:
    """A recording of a rule: its inputs by name, those of the tensor scale among them."""

    recorder: Recorder
    factors: Factors[str]
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, fmt: BlockFormat, mode: str, *inputs: str) -> _Record:
        record = Recorder()
        for name in inputs:
            record.input(name)
        names = tuple(f"tensor_{factor}" for factor in tensor_factors(fmt, mode))
        factors = unit(record) if not names else Factors(*(record.input(name) for name in names))
        return cls(record, factors, (*inputs, *names))

    def lines(self, printer: _Printer, *outputs: str) -> tuple[list[str], list[str]]:
        """The lines that lead to the outputs, and the outputs as text."""
        program = self.recorder.program(self.arguments, outputs)
        lines = printer.lines(program)
        return lines, [printer.value(name) for name in program.outputs]


def _stored(fmt: BlockFormat, scale: str, printer: _Printer) -> str:
    """A scale as the word that is stored."""
    if fmt.scale != "f32":
        return scale
    return f"bits({scale})"


def _given(fmt: BlockFormat, the_rule: Rule, name: str, printer: _Printer) -> Function:
    record = _Record.of(fmt, "scale", "scale")
    factor = the_rule.factor(record.recorder, "scale", record.factors, fmt)
    lines, (factor,) = record.lines(printer, factor)
    doc = f"A scale that is given, as a word, and its values' factor: rule {fmt.quantizer}."
    result = f"return {_stored(fmt, 'scale', printer)}, {factor}"
    return _function(f"{name}_scale", record.arguments, doc, [*lines, result])


def _scale(fmt: BlockFormat, the_rule: Rule, name: str, mode: str, printer: _Printer) -> Function:
    record = _Record.of(fmt, mode, "amax")
    scale = the_rule.scale(record.recorder, "amax", record.factors, fmt)
    factor = the_rule.factor(record.recorder, scale, record.factors, fmt)
    lines, (scale, factor) = record.lines(printer, scale, factor)
    rows, columns = fmt.block
    doc = f"The {fmt.scale} scale of a block of {rows} x {columns}, and its values' factor: rule {fmt.quantizer}."
    result = f"return {_stored(fmt, scale, printer)}, {factor}"
    return _function(f"{name}_scale", record.arguments, doc, [*lines, result])


def element_helper(fmt: BlockFormat) -> str:
    """The helper that applies a block's factor to a value."""
    return "mul" if rule(fmt.quantizer).element_op == "mul" else "div"


def statistic_helper(fmt: BlockFormat) -> tuple[str, str]:
    """The helper that measures a list of values, and the one that joins two measurements."""
    statistic = rule(fmt.quantizer).statistic
    return _STATISTICS[statistic], "at_least" if statistic == "amax_nan" else "maximum"


def _block(fmt: BlockFormat, the_rule: Rule, name: str, mode: str, where: str, printer: _Printer) -> Function:
    record = _Record.of(fmt, mode, "amax")
    scale = the_rule.scale(record.recorder, "amax", record.factors, fmt)
    factor = the_rule.factor(record.recorder, scale, record.factors, fmt)
    lines, (scale, factor) = record.lines(printer, scale, factor)
    operation = element_helper(fmt)
    result = f"return [{operation}(value, {factor}) for value in x], {_stored(fmt, scale, printer)}"
    return _block_function(fmt, the_rule, name, record, where, printer, [*lines, result])


def _block_function(
    fmt: BlockFormat, the_rule: Rule, name: str, record: _Record, where: str, printer: _Printer, body: Iterable[str]
) -> Function:
    """`quantize_NAME`: measures a block, then does what `body` says."""
    rows, columns = fmt.block
    measure = _STATISTICS[the_rule.statistic]
    amax, valid = f"{measure}(x)", ()
    if rows != 1:
        valid = ("valid",)
        amax = f"largest_of_lanes(where(valid, {amax}, 0.0), {rows})"
    what = f"{rows} x {columns}" if rows != 1 else str(columns)
    doc = f"{what} values{where} scaled to {fmt.element}, and their {fmt.scale} scale: rule {fmt.quantizer}."
    arguments = ("x", *record.arguments[1:], *valid)
    return _function(f"quantize_{name}", arguments, doc, [f"amax = {amax}", *body])


def _error(fmt: BlockFormat, the_rule: FourOverSix, name: str, mode: str, printer: _Printer) -> Function:
    """The error of a block under one of its scales, summed in the order that the rule states."""
    record = _Record.of(fmt, mode, "value", "element", "scale")
    term = the_rule.error(record.recorder, "value", "element", "scale", record.factors, fmt)
    lines, (term,) = record.lines(printer, term)
    element = f"rounded_{fmt.element}"
    rows = fmt.block[0]
    result, valid = "return total", ()
    if rows != 1:
        result, valid = f"return sum_of_lanes(where(valid, total, 0.0), {rows})", ("valid",)
    each = fragment(*lines, f"total = add(total, {term})")
    body = ["total = Float32(0.0)", Block(f"for value, element in zip(x, {element}(scaled)):", each), result]
    doc = f"The error of values rounded to {fmt.element} under a scale: {the_rule.metric.upper()}, not divided."
    return _function(f"{name}_error", ("x", "scaled", "scale", *record.arguments[3:], *valid), doc, body)


def _better(fmt: BlockFormat, the_rule: FourOverSix, name: str, mode: str, where: str, printer: _Printer) -> Function:
    """`quantize_NAME` of a rule that tries two scales."""
    record = _Record.of(fmt, mode, "amax")
    o = record.recorder
    six = the_rule.scale(o, "amax", record.factors, fmt)
    six_factor = the_rule.factor(o, six, record.factors, fmt)
    four = the_rule.alternative(o, "amax", record.factors, fmt)
    four_factor = the_rule.factor(o, four, record.factors, fmt)
    lines, (six, six_factor, four, four_factor) = record.lines(printer, six, six_factor, four, four_factor)
    more = "".join(f", {name}" for name in (*record.arguments[1:], *(("valid",) if fmt.block[0] != 1 else ())))
    body = [
        *lines,
        f"six = [mul(value, {six_factor}) for value in x]",
        f"four = [mul(value, {four_factor}) for value in x]",
        f"six_error = {name}_error(x, six, {six}{more})",
        f"better = lt({name}_error(x, four, {four}{more}), six_error)",
        f"return [where(better, f, s) for f, s in zip(four, six)], where_int(better, {four}, {six})",
    ]
    return _block_function(fmt, the_rule, name, record, where, printer, body)


def _function(name: str, arguments: Sequence[str], doc: str, body: Iterable[str | Statement]) -> Function:
    return Function(name, tuple(arguments), doc, fragment(*body))


class _Printer:
    """Prints a recorded program: a line a named or repeated value, the rest inside their users."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._kinds: dict[str, str] = {}

    def value(self, name: str) -> str:
        """The text that stands for a value."""
        return self._texts.get(name, name)

    def lines(self, program: Program) -> list[str]:
        uses = Counter(o for step in program.steps for o in step.operands)
        uses.update(program.outputs)
        self._texts, self._kinds = {}, {}
        lines: list[str] = []
        for step in program.steps:
            text, kind = self._text(step)
            self._kinds[step.result] = kind
            numbered = step.result[1:].isdigit()
            if step.op in ("constant", "integer") or (numbered and uses[step.result] == 1):
                self._texts[step.result] = text
            else:
                lines.append(f"{step.result} = {text}")
        return lines

    def _text(self, step: Step) -> tuple[str, str]:
        operands = [self.value(o) for o in step.operands]
        if step.op == "constant":
            return _number(step.value), "float"
        if step.op == "integer":
            return str(step.value), "int"
        if step.op in _FLOAT:
            return self._call(_FLOAT[step.op], operands), "float"
        if step.op in _INT:
            return f"({operands[0]} {_INT[step.op]} {operands[1]})", "int"
        if step.op in ("imin", "imax"):
            return f"cutlass.{step.op[1:]}({', '.join(operands)})", "int"
        if step.op in ("eq", "lt"):
            return self._call(step.op, operands), "bool"
        if step.op == "ieq":
            return f"({operands[0]} == {operands[1]})", "bool"
        if step.op == "either":
            return self._call("either", operands), "bool"
        if step.op == "bits":
            return self._call("bits", operands), "int"
        if step.op == "encode":
            return self._call(_ENCODE[str(step.element), str(step.rounding)], operands), "int"
        if step.op == "decode":
            return self._call(f"decode_{step.element}", operands), "float"
        if step.op == "select":
            kind = self._kinds.get(step.operands[1], "float")
            return self._call("where_int" if kind == "int" else "where", operands), kind
        raise ValueError(f"no helper for {step.op}")

    def _call(self, helper: str, operands: list[str]) -> str:
        return f"{helper}({', '.join(_bare(operand) for operand in operands)})"


def _bare(text: str) -> str:
    """Text without parentheses around all of it."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for place, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0 and place < len(text) - 1:
            return text
    return text[1:-1]


def _number(value: float | int | None) -> str:
    if value is None:
        raise ValueError("a constant without a value")
    short = float(str(np.float32(value)))
    exact = float(np.float32(value))
    text = repr(short if np.float32(short) == np.float32(value) and short <= exact else exact)
    return text if text != "inf" else 'float("inf")'
