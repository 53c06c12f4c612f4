"""Programs in the notation of docs/numerics.md: named values as equations, every operation in them rounded once."""

from __future__ import annotations

from collections import Counter

import numpy as np

from fp4num.program import Program, Step
from fp4num.rules.base import FLT_MAX

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "iadd": "+",
    "isub": "-",
    "iand": "&",
    "ishr": ">>",
    "ishl": "<<",
    "eq": "==",
    "ieq": "==",
    "lt": "<",
    "either": "or",
}
_CALL = {"min": "min", "max": "max", "imin": "min", "imax": "max", "select": "where", "absolute": "abs", "bits": "bits"}
_ENCODE = {"nearest": "", "toward_zero": "_down", "up": "_up", "stochastic": "_stochastic"}


def equations(program: Program) -> list[str]:
    """One line a value that has a name or is used twice: `name = expression`, fully parenthesized."""
    uses = Counter(name for step in program.steps for name in step.operands)
    uses.update(program.outputs)
    text: dict[str, str] = {}
    lines: list[str] = []
    for step in program.steps:
        expression = _expression(step, [text.get(name, name) for name in step.operands])
        if step.op in ("constant", "integer"):
            text[step.result] = expression
        elif step.named or uses[step.result] > 1:
            lines.append(f"{step.result} = {_bare(expression)}")
        else:
            text[step.result] = expression
    lines.extend(f"{name} = {text[name]}" for name in program.outputs if name in text)
    return lines


def _bare(expression: str) -> str:
    """An expression that needs no parentheses where it stands: only infix ones have them."""
    return expression[1:-1] if expression.startswith("(") else expression


def _expression(step: Step, operands: list[str]) -> str:
    if step.op == "constant":
        return _number(step.value)
    if step.op == "integer":
        return str(step.value)
    if step.op in _INFIX:
        return f"({operands[0]} {_INFIX[step.op]} {operands[1]})"
    if step.op in _CALL:
        return f"{_CALL[step.op]}({', '.join(map(_bare, operands))})"
    assert step.element is not None
    if step.op == "decode":
        return f"value_{step.element}({_bare(operands[0])})"
    return f"{step.element}{_ENCODE[step.rounding or 'nearest']}({_bare(operands[0])})"


def _number(value: float | int | None) -> str:
    number = np.float32(value)  # type: ignore[arg-type]
    return "FLT_MAX" if number == np.float32(FLT_MAX) else str(number).removesuffix(".0")
