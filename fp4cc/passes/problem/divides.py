"""What follows about divisibility from the form of a size and from the conditions of `where`."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from fp4cc.ir.kernel import Constraint, Expr
from fp4cc.ir.sizes import Sizes


def divides(divisor: int, expr: Expr, constraints: Sequence[Constraint], sizes: Sizes) -> bool:
    """Whether `divisor` is known to divide `expr` at every call."""
    return factor(expr, constraints, sizes) % divisor == 0


def factor(expr: Expr, constraints: Sequence[Constraint], sizes: Sizes) -> int:
    """The largest number known to divide `expr` (0 for 0, which everything divides)."""
    known = sizes(expr)
    if isinstance(known, int):
        return int(known)
    stated = 1
    for constraint in constraints:
        for condition in _conjuncts(constraint.expr):
            number = _stated(condition, known, sizes)
            stated = stated * number // gcd(stated, number)
    if isinstance(known, str):
        return stated
    operator, *operands = known
    parts = [factor(e, constraints, sizes) for e in operands]
    if operator == "mul":
        product = 1
        for part in parts:
            product *= part
        return _both(stated, product)
    if operator in ("add", "sub"):
        return _both(stated, gcd(*parts))
    if operator == "div" and isinstance(operands[1], int):
        return _both(stated, parts[0] // operands[1] if parts[0] % operands[1] == 0 else 1)
    return stated


def _both(a: int, b: int) -> int:
    return a * b // gcd(a, b) if b else 0


def _conjuncts(expr: Expr) -> list[Expr]:
    if isinstance(expr, tuple) and expr[0] == "and":
        return [c for part in expr[1:] for c in _conjuncts(part)]
    return [expr]


def _stated(condition: Expr, expr: Expr, sizes: Sizes) -> int:
    """n where the condition reads `expr % n == 0`, else 1."""
    if isinstance(condition, tuple) and condition[0] == "eq" and condition[2] == 0:
        remainder = condition[1]
        if isinstance(remainder, tuple) and remainder[0] == "mod" and sizes(remainder[1]) == expr:
            divisor = sizes(remainder[2])
            if isinstance(divisor, int) and divisor > 0:
                return int(divisor)
    return 1


def holds_if_divides(divisor: int, expr: Expr, facts: Sequence[Constraint], sizes: Sizes) -> Expr | None:
    """The condition "divisor divides expr": True, None if it never does, else to be evaluated at the call."""
    if divides(divisor, expr, facts, sizes):
        return True
    if isinstance(expr, int):
        return None
    return ("eq", ("mod", expr, divisor), 0)
