"""Sizes in a normal form: polynomials over dims with rational coefficients, so that equal ones are found equal.

`/` on sizes is exact division, so `N / 2 * 2` is `N`. What is no polynomial (`//`, `%`, `min`, ...) stays a whole, with
its operands in normal form: equal operands give equal wholes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from fp4cc.ir.kernel import Expr
from fp4rt.sizes import SizeError, evaluate, text

#: A product of dims and wholes, sorted by their text; () is 1.
Monomial = tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A sum of monomials with coefficients other than 0, sorted."""

    terms: tuple[tuple[Monomial, Fraction], ...]

    @property
    def constant(self) -> Fraction | None:
        """Its value, if it has no dims."""
        if not self.terms:
            return Fraction(0)
        (monomial, factor), *others = self.terms
        return factor if not monomial and not others else None

    def __add__(self, other: Polynomial) -> Polynomial:
        return _collected([*self.terms, *other.terms])

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + other.times(Fraction(-1))

    def __mul__(self, other: Polynomial) -> Polynomial:
        return _collected([((*m, *n), a * b) for m, a in self.terms for n, b in other.terms])

    def times(self, factor: Fraction) -> Polynomial:
        """The polynomial with every coefficient multiplied."""
        return _collected([(m, a * factor) for m, a in self.terms])

    def solutions(self) -> Iterator[tuple[str, Polynomial]]:
        """Each dim that this polynomial = 0 determines, with what it is then: it occurs once, by itself."""
        for monomial, factor in self.terms:
            if len(monomial) == 1 and isinstance(name := monomial[0], str):
                rest = _collected([t for t in self.terms if t[0] != monomial])
                if not any(_holds(atom, name) for m, _ in rest.terms for atom in m):
                    yield name, rest.times(-1 / factor)

    def expr(self) -> Expr:
        """The same size as an expression."""
        below = lcm(*(factor.denominator for _, factor in self.terms)) if self.terms else 1
        total: Expr | None = None
        for monomial, factor in sorted(self.terms, key=lambda t: (not t[0], t[1] < 0)):
            count = int(factor * below)
            if total is None:
                total = _product(monomial, count)
            else:
                total = ("sub" if count < 0 else "add", total, _product(monomial, abs(count)))
        whole: Expr = 0 if total is None else total
        return whole if below == 1 else ("div", whole, below)


def polynomial(expr: Expr) -> Polynomial:
    """The normal form of a size."""
    if isinstance(expr, int):
        return _collected([((), Fraction(expr))])
    if isinstance(expr, str):
        return _collected([((expr,), Fraction(1))])
    operator, *written = expr
    operands = [polynomial(e) for e in written]
    match operator, operands:
        case "add" | "mul", [first, *others]:
            for other in others:
                first = first + other if operator == "add" else first * other
            return first
        case "sub", [a, b]:
            return a - b
        case "neg", [a]:
            return a.times(Fraction(-1))
        case "div", [a, b] if b.constant:
            return a.times(1 / b.constant)
        case _:
            return _whole(str(operator), operands)


def _whole(operator: str, operands: list[Polynomial]) -> Polynomial:
    expr: Expr = (operator, *(o.expr() for o in operands))
    if all(o.constant is not None for o in operands):
        try:
            return polynomial(int(evaluate(expr, {})))
        except SizeError:
            pass  # such as a division by zero: it stays as written, equal to itself only
    return _collected([((expr,), Fraction(1))])


def _collected(terms: list[tuple[Monomial, Fraction]]) -> Polynomial:
    sums: dict[Monomial, Fraction] = {}
    for monomial, factor in terms:
        key = tuple(sorted(monomial, key=text))
        sums[key] = sums.get(key, Fraction(0)) + factor
    kept = sorted(((m, f) for m, f in sums.items() if f), key=lambda t: tuple(map(text, t[0])))
    return Polynomial(tuple(kept))


def _product(monomial: Monomial, count: int) -> Expr:
    factors: list[Expr] = [*([count] if count != 1 or not monomial else []), *monomial]
    product = factors[0]
    for factor in factors[1:]:
        product = ("mul", product, factor)
    return product


def _holds(expr: Expr, name: str) -> bool:
    return expr == name if not isinstance(expr, tuple) else any(_holds(e, name) for e in expr[1:])
