"""Sizes for a dim that nobody gave, where the usual ones break a condition: read off the conditions themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import lcm

from fp4rt.sizes import Expr, names

#: More conditions than this ask for somebody's own sizes.
_LARGEST_STEP, _MOST = 1 << 16, 24
_DIVIDING, _COMPARING = ("mod", "div", "floordiv"), ("eq", "lt", "le", "gt", "ge")


def suggested(name: str, exprs: Iterable[Expr], usual: tuple[int, ...]) -> tuple[int, ...]:
    """The `usual` sizes, then such as meet conditions on the dim `name`: multiples of what it is divided by, and those
    next to what it is compared with. `exprs` are the conditions and the sizes that are derived from it."""
    divisors: list[int] = []
    bounds: list[int] = []
    for operator, operands in (part for expr in exprs for part in _parts(expr) if name in names((part[0], *part[1]))):
        numbers = [n for n in operands if isinstance(n, int) and n > 0]
        if operator in _DIVIDING and isinstance(operands[-1], int) and operands[-1] > 0:
            divisors.append(operands[-1])
        elif operator in _COMPARING:
            bounds += numbers
    step = lcm(*divisors)
    if step > _LARGEST_STEP or (step == 1 and not bounds):
        return usual
    whole = [-(-size // step) * step for size in usual]
    above = [-(-(bound + more) // step) * step for bound in bounds for more in (0, 1)]
    rests = [base + bound for base in (whole[0], *above) for bound in bounds if bound < step]
    found = (*usual, *whole, *above, *rests, *bounds, *(bound - 1 for bound in bounds))
    return tuple(dict.fromkeys(found))[:_MOST]


def _parts(expr: Expr) -> Iterator[tuple[str, tuple[Expr, ...]]]:
    """Each operation in an expression, from the outside in."""
    if not isinstance(expr, int | str):
        operator, *operands = expr
        yield str(operator), tuple(operands)
        for operand in operands:
            yield from _parts(operand)
