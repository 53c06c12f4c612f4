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
    if type(expr) is tuple:
        known = _functions.get(id(expr))
        return (known or _remember(expr))[1](dims)
    return _evaluate(expr, dims, 0)


_Function: TypeAlias = "Callable[[Mapping[str, int]], int | bool]"
#: Functions of expressions by identity, which the expression beside each keeps its own; past it all are dropped.
_functions: dict[int, tuple[Expr, _Function]] = {}
_MAX_FUNCTIONS = 8192


def _remember(expr: Expr) -> tuple[Expr, _Function]:
    found = expr, _function(expr) if _fixed(expr, 0) else lambda dims: _evaluate(expr, dims, 0)
    if len(_functions) >= _MAX_FUNCTIONS:
        _functions.clear()
    _functions[id(expr)] = found
    return found


def _fixed(expr: Expr, depth: int) -> bool:
    """Whether an expression can never change, is well formed, and is made of what `_function` knows."""
    if type(expr) is int:
        return _LOW <= expr <= _HIGH
    if type(expr) is str:
        return True
    if type(expr) is not tuple or depth > MAX_DEPTH:
        return False
    operator, operands = expr[0], expr[1:]
    known = operator in _BINARY and len(operands) == 2 or operator in _FOLD and len(operands) > 1
    known = known or operator in ("and", "or") or (operator == "where" and len(operands) == 3)
    return known and all(_fixed(operand, depth + 1) for operand in operands)


def _function(expr: Expr) -> _Function:
    """`_evaluate` of a fixed expression, without looking at the expression again."""
    if isinstance(expr, int):
        return lambda dims: expr
    if isinstance(expr, str):

        def named(dims: Mapping[str, int]) -> int:
            try:
                value = dims[expr]
            except KeyError:
                return _evaluate(expr, dims, 0)
            return value if type(value) is int and _LOW <= value <= _HIGH else _evaluate(expr, dims, 0)

        return named
    operator, operands = str(expr[0]), [_function(operand) for operand in expr[1:]]
    if operator in ("and", "or"):
        return _of_conditions(operator == "or", operands)
    if operator == "where":
        condition, yes, no = operands
        return lambda dims: yes(dims) if condition(dims) else no(dims)
    return _of_numbers(expr, (_BINARY | _FOLD)[operator], operands)


def _of_numbers(expr: Sequence[Expr], apply: Callable[[int, int], int], operands: Sequence[_Function]) -> _Function:
    """Of an operator that takes numbers, all of them one after the other."""
    if type(expr[1]) is str and len(expr) == 3 and type(expr[2]) is int:
        return _of_a_name(expr, apply, expr[1], expr[2])
    first, *rest = operands
    if len(rest) == 1:
        (last,) = rest

        def pair(dims: Mapping[str, int]) -> int | bool:
            result = apply(first(dims), last(dims))
            if not _LOW <= result <= _HIGH:
                raise SizeError("the value leaves the signed 64-bit range")
            return result

        return pair

    def value(dims: Mapping[str, int]) -> int | bool:
        result: int = first(dims)
        for operand in rest:
            result = apply(result, operand(dims))
            if not _LOW <= result <= _HIGH:
                raise SizeError("the value leaves the signed 64-bit range")
        return result

    return value


def _of_conditions(decisive: bool, conditions: Sequence[_Function]) -> _Function:
    """Of `or`, where one that holds decides, and of `and`."""

    def value(dims: Mapping[str, int]) -> bool:
        for condition in conditions:
            if bool(condition(dims)) is decisive:
                return decisive
        return not decisive

    return value


def _of_a_name(expr: Expr, apply: Callable[[int, int], int], name: str, number: int) -> _Function:
    """Of an operator with a name and a number, as most are."""

    def value(dims: Mapping[str, int]) -> int | bool:
        try:
            known = dims[name]
        except KeyError:
            return _evaluate(expr, dims, 0)
        if type(known) is not int or not _LOW <= known <= _HIGH:
            return _evaluate(expr, dims, 0)
        result = apply(known, number)
        if not _LOW <= result <= _HIGH:
            raise SizeError("the value leaves the signed 64-bit range")
        return result

    return value


def _evaluate(expr: Expr, dims: Mapping[str, int], depth: int) -> int | bool:
    if depth > MAX_DEPTH:
        raise SizeError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(expr, int):
        return _ranged(expr)
    if isinstance(expr, str):
        try:
            value = dims[expr]
        except KeyError:
            raise SizeError(f"unknown dimension {expr!r}") from None
        return _ranged(int(value))
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


def shifted(expr: Expr) -> tuple[str, int] | None:
    """The dimension and the number of a sum of the two (`E + 1`): an axis so long says what the dimension is.

    None for any other expression.
    """
    if isinstance(expr, (int, str)) or len(expr) != 3 or expr[0] != "add":
        return None
    name, number = expr[1:] if isinstance(expr[1], str) else (expr[2], expr[1])
    return (name, number) if isinstance(name, str) and type(number) is int else None


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


def sizes_text(sizes: Mapping[str, int]) -> str:
    """Sizes for people: `M = 256, N = 256`."""
    return ", ".join(f"{name} = {size}" for name, size in sizes.items()) or "fixed sizes"
