"""What a condition says of a size."""

from __future__ import annotations

from fp4cc.ir.kernel import Expr

_NEXT = {"le": 0, "lt": 1, "eq": 0}


def upper_bound(size: Expr, when: Expr | None) -> int | None:
    """The largest value of a size where a condition holds, as far as the condition says so plainly.

    That is: the size itself if it is a number; the least of what `and`ed comparisons by a number give; the largest of
    what each side of an `or` gives.
    """
    if isinstance(size, int):
        return int(size)
    if not isinstance(when, tuple):
        return None
    operator, *parts = when
    if operator in ("and", "or"):
        bounds = [upper_bound(size, part) for part in parts]
        known = [bound for bound in bounds if bound is not None]
        if operator == "or":
            return max(known) if len(known) == len(bounds) else None
        return min(known, default=None)
    if len(parts) == 2 and operator in _NEXT and parts[0] == size and isinstance(parts[1], int):
        return int(parts[1]) - _NEXT[operator]
    mirrored = {"ge": "le", "gt": "lt", "eq": "eq"}
    if len(parts) == 2 and operator in mirrored and parts[1] == size and isinstance(parts[0], int):
        return int(parts[0]) - _NEXT[mirrored[operator]]
    return None
