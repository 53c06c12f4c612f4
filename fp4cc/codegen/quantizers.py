"""A quantizer rule as Python functions of an emitted kernel: the same steps as `fp4num.rules`, one helper a step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from fp4num import BlockFormat
from fp4num.program import Program, Recorder, Step
from fp4num.rules import Factors, Rule, rule, unit

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
    """The text of the functions that quantize to a format, and the helpers they call.

    `factors(given)` turns the tensor scale or amax into `tensor_encode, tensor_decode` (None: no tensor scale);
    `block(x[, tensor_encode, tensor_decode])` a list of values into scaled values and the scale as a word.
    """

    factors: str | None
    block: str
    helpers: frozenset[str]


def quantizer(fmt: BlockFormat, name: str, mode: str, direction: str, *, measured: bool = False) -> Quantizer:
    """Functions `NAME_factors` and `quantize_NAME`. `direction` says in words what a block's rows are.

    `measured`: instead of `quantize_NAME` there is `NAME_scale`, from a block's statistic to its scale as a word and
    the factor of its values.
    """
    the_rule = rule(fmt.quantizer)
    printer = _Printer()
    factors = _factors(fmt, the_rule, name, mode, printer) if fmt.tensor_scale is not None else None
    block = _scale(fmt, the_rule, name, printer) if measured else _block(fmt, the_rule, name, direction, printer)
    return Quantizer(factors, block, frozenset(printer.helpers))


def _factors(fmt: BlockFormat, the_rule: Rule, name: str, mode: str, printer: _Printer) -> str:
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
    head = [f"def {name}_factors({mode}):", f'    """The tensor scale of {name} both ways: to encode and to decode."""']
    result = f"    return {printer.value(found.encode)}, {printer.value(found.decode)}"
    return "\n".join([*head, *(f"    {line}" for line in lines), result])


def _scale(fmt: BlockFormat, the_rule: Rule, name: str, printer: _Printer) -> str:
    record = Recorder()
    statistic = record.input("amax")
    arguments = ["amax"]
    if fmt.tensor_scale is not None:
        factors = Factors(record.input("tensor_encode"), record.input("tensor_decode"))
        arguments += ["tensor_encode", "tensor_decode"]
    else:
        factors = unit(record)
    scale = the_rule.scale(record, statistic, factors, fmt)
    factor = the_rule.factor(record, scale, factors, fmt)
    lines = printer.lines(record.program(tuple(arguments), (scale, factor)))
    stored = printer.value(scale)
    if fmt.scale == "f32":
        printer.helpers.add("bits")
        stored = f"bits({stored})"
    printer.helpers |= {_STATISTICS[the_rule.statistic], element_helper(fmt)}
    rows, columns = fmt.block
    doc = f"The {fmt.scale} scale of a block of {rows} x {columns}, and its values' factor: rule {fmt.quantizer}."
    return "\n".join(
        [
            f"def {name}_scale({', '.join(arguments)}):",
            f'    """{doc}"""',
            *(f"    {line}" for line in lines),
            f"    return {stored}, {printer.value(factor)}",
        ]
    )


def element_helper(fmt: BlockFormat) -> str:
    """The helper that applies a block's factor to a value."""
    return "mul" if rule(fmt.quantizer).element_op == "mul" else "div"


def statistic_helper(fmt: BlockFormat) -> tuple[str, str]:
    """The helper that measures a list of values, and the one that joins two measurements."""
    statistic = rule(fmt.quantizer).statistic
    return _STATISTICS[statistic], "at_least" if statistic == "amax_nan" else "maximum"


def _block(fmt: BlockFormat, the_rule: Rule, name: str, direction: str, printer: _Printer) -> str:
    record = Recorder()
    statistic = record.input("amax")
    arguments = ["x"]
    if fmt.tensor_scale is not None:
        factors = Factors(record.input("tensor_encode"), record.input("tensor_decode"))
        arguments += ["tensor_encode", "tensor_decode"]
    else:
        factors = unit(record)
    scale = the_rule.scale(record, statistic, factors, fmt)
    factor = the_rule.factor(record, scale, factors, fmt)
    program = record.program(("amax", *arguments[1:]), (scale, factor))
    lines = printer.lines(program)
    measure = _STATISTICS[the_rule.statistic]
    printer.helpers.add(measure)
    amax = f"{measure}(x)"
    rows = fmt.block[0]
    if rows != 1:
        arguments.append("valid")
        printer.helpers |= {"largest_of_lanes", "where"}
        amax = f"largest_of_lanes(where(valid, {amax}, 0.0), {rows})"
    stored = printer.value(scale)
    if fmt.scale == "f32":
        printer.helpers.add("bits")
        stored = f"bits({stored})"
    operation = "mul" if the_rule.element_op == "mul" else "div"
    printer.helpers.add(operation)
    columns = fmt.block[1]
    what = f"{rows} x {columns}" if rows != 1 else str(columns)
    doc = f"{what} values{direction} scaled to {fmt.element}, and their {fmt.scale} scale: rule {fmt.quantizer}."
    return "\n".join(
        [
            f"def quantize_{name}({', '.join(arguments)}):",
            f'    """{doc}"""',
            f"    amax = {amax}",
            *(f"    {line}" for line in lines),
            f"    return [{operation}(value, {printer.value(factor)}) for value in x], {stored}",
        ]
    )


class _Printer:
    """Prints a recorded program: a line a named or repeated value, the rest inside their users."""

    def __init__(self) -> None:
        self.helpers: set[str] = set()
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
        self.helpers.add(helper)
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
