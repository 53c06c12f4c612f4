"""The plans that a kernel needs, and where each of them applies: what the passes and an engine say to one another.

A kernel whose dims are not all known may have several plans. Each has a condition that the runtime tests at a call,
written in a schedule block or made by the compiler. To an engine a condition is a `Bounds`: how large and how small
each dim can be wherever the plan is used. So an engine for few rows accepts a kernel only where `M` is bounded, and
never sees how the condition came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fp4cc.ir.kernel import Attr, Expr, Kernel, Schedule
from fp4cc.ir.sizes import Sizes
from fp4rt.sizes import SizeError, evaluate

#: A condition's comparisons, as seen from the other side.
_TURNED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq"}

Range = tuple[int, int | None]
#: The fields of a schedule block.
Fields = Mapping[str, tuple[Attr, ...]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How small and how large sizes can be wherever a plan applies. Both ends belong to a range; None: no end.

    An engine asks in terms of its problem: `bounds.most(problem.m)` is the most rows there can be, None if a call may
    have any number. Sizes are never negative.
    """

    known: Mapping[str, Expr] = field(default_factory=dict[str, Expr])  # of static and derived dims
    ranges: Mapping[str, Range] = field(default_factory=dict[str, Range])

    @classmethod
    def of(cls, kernel: Kernel, when: Expr | None = None) -> Bounds:
        """What static dims, the kernel's own conditions and that of a plan say."""
        sizes = Sizes.of(kernel.dims)
        found: dict[str, Range] = {}
        for condition in (*(c.expr for c in kernel.constraints), *(() if when is None else (when,))):
            found = _both(found, _ranges(sizes(condition)))
        return cls(sizes.known, found)

    def most(self, expr: Expr) -> int | None:
        """The largest that a size can be; None where nothing bounds it."""
        return self._range(expr)[1]

    def least(self, expr: Expr) -> int:
        """The smallest that a size can be."""
        return self._range(expr)[0]

    def _range(self, expr: Expr) -> Range:
        if isinstance(expr, int):
            return (expr, expr)
        if isinstance(expr, str):
            return self._range(self.known[expr]) if expr in self.known else self.ranges.get(expr, (0, None))
        if expr[0] == "min":
            lows, highs = zip(*map(self._range, expr[1:]), strict=True)
            return (min(lows), min((high for high in highs if high is not None), default=None))
        if expr[0] not in _GROWING or len(expr) < 2:
            return (0, None)
        lows, highs = zip(*map(self._range, expr[1:]), strict=True)
        if expr[0] in ("div", "floordiv", "ceildiv") and not isinstance(expr[2], int):
            return (0, highs[0])
        return (_value(expr[0], lows) or 0, None if None in highs else _value(expr[0], highs))


#: Operators that grow with each operand; quotients do with the first, and their divisors are numbers.
_GROWING = ("add", "mul", "max", "div", "floordiv", "ceildiv")


def _value(operator: str, operands: Sequence[int | None]) -> int | None:
    operator = "floordiv" if operator == "div" else operator
    try:
        return int(evaluate((operator, *(o for o in operands if o is not None)), {}))
    except SizeError:  # beyond 64 bits: as good as no bound
        return None


def _ranges(when: Expr) -> dict[str, Range]:
    """What a condition plainly says of single dims: comparisons with numbers, joined by `and` and `or`."""
    if not isinstance(when, tuple):
        return {}
    operator, *operands = when
    if operator == "and":
        found: dict[str, Range] = {}
        for part in operands:
            found = _both(found, _ranges(part))
        return found
    if operator == "or":
        return _either([_ranges(part) for part in operands])
    if len(operands) != 2 or operator not in _TURNED:
        return {}
    name, number = operands
    if isinstance(name, int) and isinstance(number, str):
        name, number, operator = number, name, _TURNED[operator]
    if not isinstance(name, str) or not isinstance(number, int):
        return {}
    least = number + (operator == "gt") if operator in ("ge", "gt", "eq") else 0
    most = number - (operator == "lt") if operator in ("le", "lt", "eq") else None
    return {name: (max(0, least), most)}


def _both(one: Mapping[str, Range], other: Mapping[str, Range]) -> dict[str, Range]:
    found = dict(one)
    for name, (low, high) in other.items():
        least, most = found.get(name, (0, None))
        found[name] = (max(least, low), high if most is None else most if high is None else min(most, high))
    return found


def _either(parts: Sequence[Mapping[str, Range]]) -> dict[str, Range]:
    shared = set(parts[0]).intersection(*parts[1:]) if parts else set[str]()
    found: dict[str, Range] = {}
    for name in sorted(shared):
        lows, highs = zip(*(part[name] for part in parts), strict=True)
        found[name] = (min(lows), None if None in highs else max(highs))
    return found


@dataclass(frozen=True, slots=True)
class Case:
    """One plan that is wanted of an engine.

    `when`: its condition, still to be tested at a call (None: it always applies). `schedule`: the block that decides.
    Where none does, `pick` may be the `Candidate.pick` that the table over sizes has chosen; an engine without
    candidates, and one that is asked for a single plan for all sizes, gets None and chooses itself. `at`: sizes of the
    dynamic dims for which the plan stands, where the table knows (for estimates that `explain` shows).
    """

    when: Expr | None = None
    schedule: Schedule | None = None
    pick: object = None
    at: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way in which an engine could run a kernel where no schedule block decides, with what it costs.

    `label`: for people, unique within its engine (`256 x 192 x 256, cluster 2 x 1`). `pick`: the engine's own data,
    handed back in `Case.pick`. `within`: the only calls that it may serve (`("le", "M", 16)`), None for all.

    `clocks`: its time in clocks of an SM, a whole number, as a size expression over the kernel's dims: the one formula
    by which the compiler compares candidates over thousands of sizes, `explain` prints times, and the runtime picks a
    plan at a call. Leave out what is the same for every candidate of the kernel (reading the operands from DRAM);
    ramps, waves of tiles and the depth of K belong in it. Of engines for one target clocks must be comparable.

    `plain`: the same without what only some sizes need, as parts of K; taken where the sizes of the plan need nothing.
    """

    label: str
    clocks: Expr
    pick: object = None
    within: Expr | None = None
    plain: Candidate | None = None
