"""Sizes that several expressions of a manifest share, by name: computed once for each set of dims, and when asked for.

The compiler's choice among plans compares the times of all plans, each for every number of parts of K: formulas of one
form with other numbers in them. A manifest has such a form once, with a row of numbers for each (`Least`), and they are
evaluated together. What else occurs more than once has a name as well (`Common`). Names begin with a dot, so that no
dim has one; an expression may use those that stand before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from fp4rt import sizes
from fp4rt.limits import MAX_SHARED
from fp4rt.sizes import SizeError, evaluate
from fp4rt.strict import Expr, Json, Node, dump_expr

#: What a form may be made of: what grows with each size, and is the same in 64 bits for many rows at a time.
FORM_OPERATORS = ("add", "mul", "min", "max", "floordiv", "ceildiv")
#: Sizes up to which rows are evaluated together, if none of them leaves 64 bits there.
_TOGETHER = 1 << 20


@dataclass(frozen=True, slots=True)
class Common:
    """A size with a name."""

    name: str
    expr: Expr

    @property
    def names(self) -> tuple[str, ...]:
        """That it defines."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Least:
    """Sizes each of which is the least that `form` is over some rows of `columns`: the first `counts[0]` rows, ...

    The names of columns stand for their numbers, which are not negative, in `form` alone.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    form: Expr
    columns: Mapping[str, tuple[int, ...]]

    def rows(self) -> list[dict[str, int]]:
        """The numbers of each row, by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


Shared: TypeAlias = "Common | Least"


class Known(dict[str, int]):
    """The dims of a call, and each shared size from when it is first asked for.

    Raises SizeError where one has no value, and KeyError for a name that there is not.
    """

    __slots__ = ("_places",)

    def __init__(self, dims: Mapping[str, int], shared: Sequence[Shared]) -> None:
        super().__init__(dims)
        self._places = _places(shared)

    def __missing__(self, name: str) -> int:
        value = self._places[name]
        if isinstance(value, Common):
            found = self[name] = int(evaluate(value.expr, self))
            return found
        self.update(zip(value.names, _least(value, self), strict=True))
        return self[name]


#: What is made of objects once, by identity, which the object beside it keeps its own; past it all are dropped.
_known_places: dict[int, tuple[Sequence[Shared], dict[str, Shared]]] = {}
_known_rows: dict[int, tuple[Least, _Rows]] = {}
_MAX_KNOWN = 1024


def _places(shared: Sequence[Shared]) -> Mapping[str, Shared]:
    known = _known_places.get(id(shared))
    if known is None:
        known = shared, {name: each for each in shared for name in each.names}
        if len(_known_places) >= _MAX_KNOWN:
            _known_places.clear()
        _known_places[id(shared)] = known
    return known[1]


_Vector: TypeAlias = "Callable[[Mapping[str, int]], Any]"


@dataclass(frozen=True, slots=True)
class _Rows:
    """A form over all rows: `names` are the sizes that it asks for, `begins` where the rows of each result begin.

    `together`: whether no row leaves 64 bits for sizes up to `_TOGETHER`.
    """

    names: tuple[str, ...]
    value: _Vector
    begins: Any
    together: bool


def _least(least: Least, dims: Mapping[str, int]) -> list[int]:
    known = _known_rows.get(id(least))
    if known is None:
        known = least, _rows(least)
        if len(_known_rows) >= _MAX_KNOWN:
            _known_rows.clear()
        _known_rows[id(least)] = known
    rows = known[1]
    own = {name: dims[name] for name in rows.names}
    if rows.together and max(own.values(), default=0) <= _TOGETHER and min(own.values(), default=0) >= 0:
        return np.minimum.reduceat(rows.value(own), rows.begins).tolist()
    values = iter(int(evaluate(least.form, {**own, **row})) for row in least.rows())
    return [min(next(values) for _ in range(count)) for count in least.counts]


def _rows(least: Least) -> _Rows:
    count = sum(least.counts)
    asked = tuple(name for name in dict.fromkeys(sizes.names(least.form)) if name not in least.columns)
    try:
        most = dict.fromkeys(asked, _TOGETHER)
        together = all(evaluate(least.form, {**most, **row}) >= 0 for row in least.rows())
    except SizeError:
        together = False
    columns = {name: np.array(numbers, np.int64) for name, numbers in least.columns.items()}
    value = _vector(least.form, columns)
    begins = np.array([0, *accumulate(least.counts)][:-1])
    every = any(name in columns for name in sizes.names(least.form))  # else what is found is one number for all rows
    if every and callable(value):
        return _Rows(asked, value, begins, together)
    return _Rows(asked, lambda dims: np.full(count, value(dims) if callable(value) else value), begins, together)


def _vector(expr: Expr, columns: Mapping[str, Any]) -> Any:
    """A number, an array of one for each row, or a function of the dims that gives either."""
    if isinstance(expr, int):
        return expr
    if isinstance(expr, str):
        return columns[expr] if expr in columns else lambda dims: dims[expr]
    operator, *operands = expr
    first, *others = [_vector(operand, columns) for operand in operands]
    for other in others:
        first = _applied(str(operator), first, other)
    return first


def _applied(operator: str, a: Any, b: Any) -> Any:
    if operator == "ceildiv":  # the divisor is a number
        return _applied("floordiv", _applied("add", a, b - 1), b)
    apply = _APPLY[operator]
    if not callable(a):
        return apply(a, b) if not callable(b) else lambda dims: apply(a, b(dims))
    return (lambda dims: apply(a(dims), b(dims))) if callable(b) else lambda dims: apply(a(dims), b)


_APPLY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "min": np.minimum,
    "max": np.maximum,
    "floordiv": lambda a, b: a // b,
}


# In a file.


def parse_shared(node: Node, dims: Iterable[str]) -> tuple[Shared, ...]:
    """Read the list; ArtifactError names the path of what does not fit."""
    depths = dict.fromkeys(dims, 0)
    found: list[Shared] = []
    for item in node.items():
        if len(found) == MAX_SHARED:
            raise node.fail(f"at most {MAX_SHARED} are read")
        least = isinstance(item.value, dict) and "least" in item.value
        shared = _parse_least(item, depths) if least else _parse_common(item)
        form = shared.form if isinstance(shared, Least) else shared.expr
        own = dict.fromkeys(shared.columns, 0) if isinstance(shared, Least) else {}
        depth = _depth(item, form, {**depths, **own})
        if depth > sizes.MAX_DEPTH:
            raise item.fail(f"nested more than {sizes.MAX_DEPTH} deep")
        for name in shared.names:
            if not name.startswith(".") or name in depths:
                raise item.fail(f"{name!r} is no new name that begins with a dot")
            depths[name] = depth
        found.append(shared)
    return tuple(found)


def _parse_common(node: Node) -> Common:
    f = node.fields(("name", "is"))
    return Common(f["name"].string(), f["is"].expr())


def _parse_least(node: Node, known: Mapping[str, int]) -> Least:
    f = node.fields(("least", "rows", "of", "columns"))
    names, counts = tuple(n.string() for n in f["least"].items()), f["rows"].integers(None, 1, 1 << 12)
    columns = {name: n.integers(sum(counts), 0, 1 << 62) for name, n in f["columns"].members()}
    if len(names) != len(counts) or not names or len(set(names)) < len(names):
        raise node.fail("a number of rows for each of several names")
    if not columns or any(not name.startswith(".") or name in known or name in names for name in columns):
        raise f["columns"].fail("names of their own, that begin with a dot")
    form = f["of"].expr()
    for operator, operands in _parts(form):
        if operator not in FORM_OPERATORS:
            raise f["of"].fail(f"{operator!r} is none of {', '.join(FORM_OPERATORS)}")
        if any(type(operand) is int and operand < 0 for operand in operands):
            raise f["of"].fail("a number below 0")
        if operator in ("floordiv", "ceildiv") and not _positive(operands[1], columns):
            raise f["of"].fail("a divisor is a number above 0, or a column of them")
    return Least(names, counts, form, columns)


def _positive(divisor: Expr, columns: Mapping[str, tuple[int, ...]]) -> bool:
    if isinstance(divisor, str):
        return divisor in columns and min(columns[divisor]) > 0
    return isinstance(divisor, int) and divisor > 0


def _parts(expr: Expr) -> Iterable[tuple[str, tuple[Expr, ...]]]:
    if isinstance(expr, tuple):
        yield str(expr[0]), expr[1:]
        for operand in expr[1:]:
            yield from _parts(operand)


def _depth(node: Node, expr: Expr, known: Mapping[str, int]) -> int:
    """How deep an expression is, with those that it names."""
    if isinstance(expr, int):
        return 0
    if isinstance(expr, str):
        if expr not in known:
            raise node.fail(f"unknown size {expr!r}")
        return known[expr]
    return 1 + max((_depth(node, operand, known) for operand in expr[1:]), default=0)


def dump_shared(shared: Sequence[Shared]) -> list[Json]:
    """The list as JSON."""
    return [
        {"name": each.name, "is": dump_expr(each.expr)}
        if isinstance(each, Common)
        else {
            "least": list(each.names),
            "rows": list(each.counts),
            "of": dump_expr(each.form),
            "columns": {name: list(numbers) for name, numbers in each.columns.items()},
        }
        for each in shared
    ]
