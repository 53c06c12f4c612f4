"""Sizes as the passes use them: static dims put in, constants folded, small algebraic clean-ups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fp4cc.ir.kernel import Dim, Expr
from fp4rt.sizes import SizeError, evaluate, names


@dataclass(frozen=True, slots=True)
class Sizes:
    """The dims of a kernel: what is known of each, as an expression over the dynamic ones."""

    known: Mapping[str, Expr]

    @classmethod
    def of(cls, dims: tuple[Dim, ...]) -> Sizes:
        """Resolve static and derived dims, in whatever order they are declared."""
        known: dict[str, Expr] = {dim.name: dim.value for dim in dims if dim.value is not None}
        derived = {dim.name: dim.expr for dim in dims if dim.expr is not None}
        while derived:  # the front end has refused circles
            ready = [name for name, expr in derived.items() if not derived.keys() & set(names(expr))]
            for name in ready or list(derived):
                known[name] = _simplify(derived.pop(name), known)
        return cls(known)

    def __call__(self, expr: Expr) -> Expr:
        """`expr` with static dims put in and constants folded: an int if everything in it is static."""
        return _simplify(expr, self.known)


def _simplify(expr: Expr, known: Mapping[str, Expr]) -> Expr:
    if isinstance(expr, int):
        return expr
    if isinstance(expr, str):
        return known.get(expr, expr)
    operator, operands = str(expr[0]), [_simplify(e, known) for e in expr[1:]]
    return _in_range(mul(*operands)) if operator == "mul" else fold(operator, *operands)


def _in_range(expr: Expr) -> Expr:
    """The size, a number of which must have 64 bits. SizeError otherwise."""
    return int(evaluate(expr, {})) if isinstance(expr, int) else expr


def fold(operator: str, *operands: Expr) -> Expr:
    """The expression `operator(operands)`, folded where the operands are numbers."""
    if all(isinstance(e, int) for e in operands):
        value = evaluate((operator, *operands), {})
        return value if isinstance(value, bool) else int(value)
    return (operator, *operands)


def mul(*factors: Expr) -> Expr:
    """The product in one form: names in order, then the numbers multiplied together (1 is left out)."""
    number, rest = 1, list[Expr]()
    for factor in _flatten("mul", factors):
        if isinstance(factor, int):
            number *= factor
        else:
            rest.append(factor)
    if number == 0 or not rest:
        return number
    rest.sort(key=str)
    if number != 1:
        rest.append(number)
    return rest[0] if len(rest) == 1 else ("mul", *rest)


def scaled(value: Expr, numerator: int, denominator: int) -> Expr:
    """value * numerator / denominator, exact: the bytes of a row of packed codes."""
    if isinstance(value, int):
        return value * numerator // denominator
    if numerator % denominator == 0:
        return mul(value, numerator // denominator)
    return ("div", mul(value, numerator), denominator)


def approximate(expr: Expr, values: Mapping[str, int], otherwise: int) -> int:
    """A size for dims that are only assumed: what should divide exactly is rounded down; `otherwise` if it has none."""
    try:
        return int(evaluate(_rounded_down(expr), values))
    except SizeError:
        return otherwise


def _rounded_down(expr: Expr) -> Expr:
    if not isinstance(expr, tuple):
        return expr
    operator, *operands = expr
    return ("floordiv" if operator == "div" else operator, *map(_rounded_down, operands))


def where(condition: Expr, yes: Expr, no: Expr) -> Expr:
    """`yes` where the condition holds, else `no`; one of them where it is known."""
    return ("where", condition, yes, no) if isinstance(condition, tuple) else yes if condition else no


def ceildiv(value: Expr, divisor: Expr) -> Expr:
    """value / divisor rounded up."""
    return value if divisor == 1 else fold("ceildiv", value, divisor)


def int_or_expr(expr: Expr) -> Expr:
    """A folded condition as JSON carries it: 0 or 1 instead of false or true."""
    return int(expr) if isinstance(expr, bool) else expr


def free_names(expr: Expr) -> tuple[str, ...]:
    """The dynamic dims in the expression, each once."""
    return tuple(dict.fromkeys(names(expr)))


def _flatten(operator: str, operands: tuple[Expr, ...]) -> Iterator[Expr]:
    for operand in operands:
        if isinstance(operand, tuple) and operand[0] == operator:
            yield from _flatten(operator, operand[1:])
        else:
            yield operand
