"""Size expressions: prefix lists over dimension names, evaluated in exact 64-bit integers.

An expression is an int (`7`), a dimension name (`"N"`) or a list `[operator, operand, ...]` (`["mul", "N", 2]`), so
that a manifest carries it as plain JSON and nothing is ever passed to `eval`. `div` is exact division: a remainder is
an error, because a size that silently rounds is a wrong size. Booleans come from comparisons and feed `and`, `or`,
`not` and `where`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

Expr: TypeAlias = "int | str | Sequence[Expr]"

#: Deeper expressions are refused, so that a hostile manifest cannot exhaust the interpreter's stack.
MAX_DEPTH = 128
#: The longest axis of a kernel's argument: rows, columns and steps are counted in signed 32-bit integers, and past the
#: last one up to the end of a tile.
LONGEST_AXIS = 2**31 - 2**16

_LOW, _HIGH = -(2**63), 2**63 - 1


class SizeError(ValueError):
    """A size expression that cannot be evaluated: malformed, inexact, over 64 bits, or an unknown dimension."""


def _div(a: int, b: int) -> int:
    if b == 0:
        raise SizeError(f"{a} / 0")
    if a % b:
        raise SizeError(f"{a} / {b} leaves a remainder of {a % b}")
    return a // b


def _floordiv(a: int, b: int) -> int:
    if b == 0:
        raise SizeError(f"{a} // 0")
    return a // b


def _ceildiv(a: int, b: int) -> int:
    if b == 0:
        raise SizeError(f"ceil({a} / 0)")
    return -(-a // b)


def _mod(a: int, b: int) -> int:
    if b == 0:
        raise SizeError(f"{a} % 0")
    return a % b


_BINARY: dict[str, Callable[[int, int], int]] = {
    "sub": lambda a, b: a - b,
    "div": _div,
    "floordiv": _floordiv,
    "ceildiv": _ceildiv,
    "mod": _mod,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}

_FOLD: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "min": min,
    "max": max,
}

OPERATORS = frozenset(_BINARY) | frozenset(_FOLD) | {"neg", "not", "and", "or", "where"}


def evaluate(expr: Expr, dims: Mapping[str, int]) -> int | bool:
    """The value of `expr` for these dimensions.

    Raises SizeError when the expression is malformed, names a dimension that `dims` lacks, divides inexactly, or
    leaves the signed 64-bit range at any step.
    """
    return _evaluate(expr, dims, 0)


def _evaluate(expr: Expr, dims: Mapping[str, int], depth: int) -> int | bool:
    if depth > MAX_DEPTH:
        raise SizeError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(expr, int):
        return _ranged(expr)
    if isinstance(expr, str):
        if expr not in dims:
            raise SizeError(f"unknown dimension {expr!r}")
        return _ranged(int(dims[expr]))
    operator, operands = _split(expr)
    if operator in ("and", "or"):
        decisive = operator == "or"
        return any(bool(_evaluate(e, dims, depth + 1)) is decisive for e in operands) is decisive
    if operator == "where":
        _arity(operator, operands, 3)
        chosen = operands[1] if _evaluate(operands[0], dims, depth + 1) else operands[2]
        return _evaluate(chosen, dims, depth + 1)
    values = [_evaluate(e, dims, depth + 1) for e in operands]
    if operator in _FOLD:
        if not values:
            raise SizeError(f"{operator!r} takes at least one operand")
        result: int = values[0]
        for value in values[1:]:
            result = _ranged(_FOLD[operator](result, value))
        return result
    if operator in _BINARY:
        _arity(operator, operands, 2)
        result = _BINARY[operator](values[0], values[1])
        return result if isinstance(result, bool) else _ranged(result)
    _arity(operator, operands, 1)
    return not values[0] if operator == "not" else _ranged(-values[0])


def _split(expr: Expr) -> tuple[str, Sequence[Expr]]:
    if not isinstance(expr, list | tuple) or not expr or not isinstance(expr[0], str):
        raise SizeError(f"not a size expression: {expr!r:.60}")
    if expr[0] not in OPERATORS:
        raise SizeError(f"unknown operator {expr[0]!r}")
    return expr[0], expr[1:]


def _arity(operator: str, operands: Sequence[Expr], wanted: int) -> None:
    if len(operands) != wanted:
        raise SizeError(f"{operator!r} takes {wanted} operands, not {len(operands)}")


def check(expr: Expr, depth: int = 0) -> None:
    """SizeError unless `expr` can be evaluated for some dims: operators, their numbers of operands, 64-bit integers."""
    if depth > MAX_DEPTH:
        raise SizeError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(expr, int):
        _ranged(expr)
    elif not isinstance(expr, str):
        operator, operands = _split(expr)
        if operator not in ("and", "or") and operator not in _FOLD:
            _arity(operator, operands, 3 if operator == "where" else 2 if operator in _BINARY else 1)
        elif not operands:
            raise SizeError(f"{operator!r} takes at least one operand")
        for operand in operands:
            check(operand, depth + 1)


def _ranged(value: int) -> int:
    if not _LOW <= value <= _HIGH:
        raise SizeError("the value leaves the signed 64-bit range")
    return value


def names(expr: Expr) -> Iterator[str]:
    """Every dimension name in `expr`, in order, repeats included."""
    if isinstance(expr, str):
        yield expr
    elif not isinstance(expr, int):
        for operand in _split(expr)[1]:
            yield from names(operand)


def substitute(expr: Expr, known: Mapping[str, Expr]) -> Expr:
    """`expr` with the names in `known` replaced."""
    if isinstance(expr, int):
        return expr
    if isinstance(expr, str):
        return known.get(expr, expr)
    operator, operands = _split(expr)
    return (operator, *(substitute(e, known) for e in operands))


_SYMBOLS = {
    "or": ("or", 1), "and": ("and", 2), "eq": ("==", 4), "ne": ("!=", 4), "lt": ("<", 4), "le": ("<=", 4),
    "gt": (">", 4), "ge": (">=", 4), "add": ("+", 5), "sub": ("-", 5), "mul": ("*", 6), "div": ("/", 6),
    "floordiv": ("//", 6), "mod": ("%", 6),
}  # fmt: skip


def text(expr: Expr) -> str:
    """`expr` as the language writes it: `("eq", ("mod", "K", 16), 0)` is `K % 16 == 0`."""
    return _text(expr, 0)


def _text(expr: Expr, outer: int) -> str:
    if isinstance(expr, int | str):
        return str(expr)
    operator, operands = _split(expr)
    if operator == "neg":
        return f"-{_text(operands[0], 7)}"
    if operator == "not":
        return f"not {_text(operands[0], 3)}"
    if operator not in _SYMBOLS:
        return f"{operator}({', '.join(_text(e, 0) for e in operands)})"
    symbol, level = _SYMBOLS[operator]
    parts = [_text(operands[0], level), *(_text(e, level + 1) for e in operands[1:])]
    joined = f" {symbol} ".join(parts)
    return f"({joined})" if level < outer else joined
