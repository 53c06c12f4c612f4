"""What the sizes of a manifest share, by name: plans are compared by formulas that all of them are made of.

Nothing changes its meaning: names stand for what they replace (`fp4rt.derived`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from fp4rt.derived import FORM_OPERATORS, Common, Least, Shared
from fp4rt.manifest import Launch, Manifest, PersistentGrid, Plan, TensorMap, Variant
from fp4rt.strict import Expr, dump_expr

_Sizes = Callable[[Expr], Expr]
#: Letters of JSON below which a size is not worth a name.
_SHORT = 40


def shared(manifest: Manifest) -> Manifest:
    """The manifest with a name for each size that occurs more than once, or is the least of many of one form."""
    exprs, interned = list(_exprs(manifest)), _Interned()
    roots = [interned.of(expr) for expr in exprs]
    leasts = _leasts(roots)
    known: dict[int, str] = {id(size): name for least in leasts for name, size in least.sizes.items()}
    replaced = _Replaced(known)
    again = _Interned()
    smaller = [again.of(replaced(root)) for root in roots]
    commons = _commons(smaller)
    by_name = _Replaced({id(size): name for name, size in commons.items()})
    definitions = (
        *(least.least for least in leasts),
        *(Common(name, by_name.inside(size)) for name, size in commons.items()),
    )
    made = {id(expr): by_name(size) for expr, size in zip(exprs, smaller, strict=True)}
    return _mapped(manifest, lambda expr: made[id(expr)] if isinstance(expr, tuple) else expr, definitions)


# Every size of the plans.


def _exprs(manifest: Manifest) -> Iterator[Expr]:
    found: list[Expr] = []

    def see(expr: Expr) -> Expr:
        found.append(expr)
        return expr

    _mapped(manifest, see, ())
    yield from found


def _mapped(manifest: Manifest, size: _Sizes, definitions: tuple[Shared, ...]) -> Manifest:
    def mapped(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
        return tuple(replace(v, when=size(v.when), plan=_plan(v.plan, size)) for v in variants)

    # What makes a prepared argument is run by the sizes of that alone, so nothing of it is shared.
    prepared = tuple(replace(each, variants=mapped(each.variants)) for each in manifest.prepared)
    variants = mapped(manifest.variants)
    return replace(manifest, plan=_plan(manifest.plan, size), variants=variants, prepared=prepared, shared=definitions)


def _plan(plan: Plan, size: _Sizes) -> Plan:
    return replace(
        plan,
        launches=tuple(_launch(launch, size) for launch in plan.launches),
        tensor_maps=tuple(_map(each, size) for each in plan.tensor_maps),
        workspace=size(plan.workspace),
        init=tuple(replace(i, count=size(i.count), byte_offset=size(i.byte_offset)) for i in plan.init),
    )


def _launch(launch: Launch, size: _Sizes) -> Launch:
    grid = launch.grid
    if isinstance(grid, PersistentGrid):
        grid = replace(grid, tiles=size(grid.tiles))
    else:
        grid = (size(grid[0]), size(grid[1]), size(grid[2]))
    params = tuple(
        replace(p, source=size(p.source)) if p.kind in ("i32", "i64") else replace(p, byte_offset=size(p.byte_offset))
        for p in launch.params
    )
    many = None if launch.many is None else replace(launch.many, work=size(launch.many.work))
    return replace(launch, grid=grid, params=params, many=many)


def _map(each: TensorMap, size: _Sizes) -> TensorMap:
    return replace(
        each,
        dims=tuple(map(size, each.dims)),
        strides=tuple(map(size, each.strides)),
        byte_offset=size(each.byte_offset),
        when=None if each.when is None else size(each.when),
    )


# Equal expressions are made one object, so that they can be counted and replaced by identity.


class _Interned:
    """One object for all expressions that are equal."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Expr] = {}
        self._seen: dict[int, tuple[Expr, Expr]] = {}  # by identity, which the first of each keeps its own

    def of(self, expr: Expr) -> Expr:
        """The one that stands for it."""
        if not isinstance(expr, tuple):
            return expr
        seen = self._seen.get(id(expr))
        if seen is None:
            operands = tuple(self.of(operand) for operand in expr[1:])
            key = (expr[0], *(id(o) if isinstance(o, tuple) else (type(o), o) for o in operands))
            seen = self._seen[id(expr)] = expr, self._known.setdefault(key, (expr[0], *operands))
        return seen[1]


class _Replaced:
    """Interned expressions with names for some of their parts, by identity."""

    def __init__(self, named: Mapping[int, str]) -> None:
        self._named = named
        self._done: dict[int, Expr] = {}

    def __call__(self, expr: Expr) -> Expr:
        if not isinstance(expr, tuple):
            return expr
        return self._named.get(id(expr)) or self.inside(expr)

    def inside(self, expr: Expr) -> Expr:
        """The same with names only within it."""
        if not isinstance(expr, tuple):
            return expr
        if id(expr) not in self._done:
            self._done[id(expr)] = (expr[0], *map(self, expr[1:]))
        return self._done[id(expr)]


def _nodes(roots: Iterable[Expr]) -> list[tuple[Expr, ...]]:
    """Every part of the expressions once, what it is made of before it."""
    found: dict[int, tuple[Expr, ...]] = {}

    def visit(expr: Expr) -> None:
        if isinstance(expr, tuple) and id(expr) not in found:
            for operand in expr[1:]:
                visit(operand)
            found[id(expr)] = expr

    for root in roots:
        visit(root)
    return list(found.values())


# The least of many of one form.


@dataclass(frozen=True, slots=True)
class _Rows:
    """A definition, and what each of its names stands for."""

    least: Least
    sizes: Mapping[str, Expr]


def _leasts(roots: list[Expr]) -> list[_Rows]:
    """A definition for each form of which there are `min`s."""
    groups: list[tuple[Expr, list[tuple[Expr, ...]]]] = []  # a form with `_HOLE`s for numbers, and those of it
    taken: set[int] = set()  # what a definition stands for, and what that is a part of
    for node in _nodes(roots):
        if any(id(operand) in taken for operand in node[1:]):
            taken.add(id(node))
            continue
        if node[0] != "min" or any(isinstance(operand, int) for operand in node[1:]):
            continue
        form = _form(node[1:])
        if form is None or len(json.dumps(dump_expr(form))) < 2 * _SHORT:
            continue
        taken.add(id(node))
        for place, (other, sizes) in enumerate(groups):
            both = _alike(other, form)
            if both is not None:
                groups[place] = both, [*sizes, node]
                break
        else:
            groups.append((form, [node]))
    found: list[_Rows] = []
    for form, sizes in groups:
        start = sum(len(each.sizes) for each in found)
        found.append(_defined(form, sizes, [f".least{start + i}" for i in range(len(sizes))]))
    return found


#: Where the numbers of a form differ.
_HOLE = ("#",)


def _form(operands: tuple[Expr, ...]) -> Expr | None:
    first, *others = operands
    form: Expr | None = first
    for other in others:
        form = None if form is None else _alike(form, other)
    return form if form is not None and _is_form(form) else None


def _is_form(form: Expr) -> bool:
    """Whether rows of it can be evaluated together: what `fp4rt.derived` admits."""
    if not isinstance(form, tuple) or form == _HOLE:
        return not isinstance(form, int) or form >= 0
    divisor = form[0] not in ("floordiv", "ceildiv") or form[2] == _HOLE or (isinstance(form[2], int) and form[2] > 0)
    return form[0] in FORM_OPERATORS and divisor and all(map(_is_form, form[1:]))


def _alike(a: Expr, b: Expr) -> Expr | None:
    """What two expressions have in common: one of the form of both, where only numbers differ."""
    if a is b or (not isinstance(a, tuple) and a == b):  # equal sizes are one object
        return a
    if (isinstance(a, int) or a == _HOLE) and (isinstance(b, int) or b == _HOLE):
        return _HOLE
    if not (isinstance(a, tuple) and isinstance(b, tuple)):
        return _once(a, b)
    if a[0] != b[0] or len(a) != len(b):
        return _once(a, b)
    operands = [_alike(*pair) for pair in zip(a[1:], b[1:], strict=True)]
    if any(operand is None for operand in operands):
        return _once(a, b)
    return (a[0], *(operand for operand in operands if operand is not None))


def _once(a: Expr, b: Expr) -> Expr | None:
    """The same where one has a factor that the other has not: a factor of 1 is left out."""
    for one, other in ((a, b), (b, a)):
        if _has_factor(one) and not _has_factor(other):
            return _alike(one, ("mul", other, 1))
    return None


def _has_factor(expr: Expr) -> bool:
    return (
        isinstance(expr, tuple)
        and expr[0] == "mul"
        and len(expr) == 3
        and (isinstance(expr[2], int) or expr[2] == _HOLE)
    )


def _defined(form: Expr, sizes: list[tuple[Expr, ...]], called: list[str]) -> _Rows:
    rows = [_numbers(form, operand) for size in sizes for operand in size[1:]]
    columns = list(zip(*rows, strict=True))
    kept: dict[tuple[int, ...], str] = {}
    places: list[Expr] = []
    for column in columns:
        if len(set(column)) == 1:
            places.append(column[0])
        else:
            places.append(kept.setdefault(column, f".{len(kept)}"))
    least = Least(
        tuple(called),
        tuple(len(size) - 1 for size in sizes),
        _filled(form, iter(places)),
        {name: column for column, name in kept.items()},
    )
    return _Rows(least, dict(zip(called, sizes, strict=True)))


def _numbers(form: Expr, expr: Expr) -> list[int]:
    """The numbers in an expression at the places of a form's holes, in their order."""
    if form == _HOLE:
        return [int(expr)] if isinstance(expr, int) else []
    if not isinstance(form, tuple):
        return []
    if not (isinstance(expr, tuple) and expr[0] == form[0] and len(expr) == len(form)) or _misses(form, expr):
        expr = ("mul", expr, 1)
    return [number for pair in zip(form[1:], expr[1:], strict=True) for number in _numbers(*pair)]


def _misses(form: Expr, expr: Expr) -> bool:
    """Whether an expression lacks the factor that a form has."""
    return _has_factor(form) and not _has_factor(expr)


def _filled(form: Expr, places: Iterator[Expr]) -> Expr:
    if form == _HOLE:
        return next(places)
    return (form[0], *(_filled(operand, places) for operand in form[1:])) if isinstance(form, tuple) else form


# What else occurs more than once.


def _commons(roots: list[Expr]) -> dict[str, tuple[Expr, ...]]:
    """Names for what is used more than once, and is long enough; each may use those before it."""
    used = Counter(id(root) for root in roots if isinstance(root, tuple))
    nodes = _nodes(roots)
    for node in nodes:
        used.update(id(operand) for operand in node[1:] if isinstance(operand, tuple))
    found = [node for node in nodes if used[id(node)] > 1 and len(json.dumps(dump_expr(node))) > _SHORT]
    return {f".size{number}": node for number, node in enumerate(found)}
