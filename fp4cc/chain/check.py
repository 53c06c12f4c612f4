"""The proof that the two ends of every link have one type, up to the names of dims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from fp4cc.chain.formats import remarks, type_differences
from fp4cc.chain.links import End, Link, axis_text, qualified
from fp4cc.diagnostics import Collector, Diagnostic, DiagnosticError, error, listed
from fp4cc.ir.kernel import Axis, Dim, Expr
from fp4cc.ir.polynomial import Polynomial, polynomial
from fp4cc.sema import specialize
from fp4rt.sizes import substitute, text


@dataclass(frozen=True, slots=True)
class Chain:
    """A proved chain. `sizes` says what each dynamic dim (`kernel.N`) that the links fix is, in terms of the others."""

    links: tuple[Link, ...]
    sizes: Mapping[str, Expr]

    def renaming(self, link: Link) -> tuple[tuple[str, str], ...]:
        """The axes of a link: how the producer and how the consumer writes each."""
        return tuple(
            (axis_text(a), axis_text(b)) for a, b in zip(link.producer.arg.axes, link.consumer.arg.axes, strict=True)
        )

    def remarks(self, link: Link) -> tuple[str, ...]:
        """Differences of a link's types that do not change what the bytes mean."""
        return remarks(link)


def check_chain(links: Sequence[Link]) -> Chain:
    """Prove that every producer's type is its consumer's. Raises DiagnosticError with a diagnostic for each difference.

    Dims of different kernels may have different names; the sizes they stand for are solved for, and two dynamic dims
    of one kernel are never made one size. A dynamic dim that meets a number becomes it, and the conditions of its
    kernel are checked with it.
    """
    collector = Collector()
    solver = _Solver(collector)
    for link in links:
        for found in type_differences(link):
            collector.report(found)
        if _same_axes(link, collector):
            for ours, theirs in zip(link.producer.arg.axes, link.consumer.arg.axes, strict=True):
                solver.add(_Equation(link, ours, theirs))
    solver.solve()
    ends = {end.label: end for link in links for end in (link.producer, link.consumer)}
    for end in ends.values():
        solver.keep_apart(end)
        _check_conditions(end, solver.values, collector)
    collector.raise_errors()
    return Chain(tuple(links), dict(solver.values))


def _same_axes(link: Link, collector: Collector) -> bool:
    producer, consumer = link.producer, link.consumer
    ours, theirs = ([_kind(a) for a in end.arg.axes] for end in (producer, consumer))
    if ours == theirs:
        return True
    if len(ours) != len(theirs):
        title, help = "the numbers of axes differ", "give both the same axes"
    else:
        title, help = "ragged and masked axes differ", "write `by` and `upto` on the same axes of both"
    collector.report(
        error(
            "FP3507",
            f"`{producer}` cannot be `{consumer}`: {title}",
            consumer.arg.span,
            f"reads {consumer.type_text}",
            also=[(producer.arg.span, f"writes {producer.type_text}")],
            help=help,
        )
    )
    return False


def _kind(axis: Axis) -> str:
    return "by" if axis.by is not None else "upto" if axis.upto is not None else ""


@dataclass(frozen=True, slots=True)
class _Equation:
    """An axis of a link: both extents are one size."""

    link: Link
    ours: Axis
    theirs: Axis


class _Solver:
    """Solves the equations of a chain for the dynamic dims of its kernels, consumers' first."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.waiting: list[_Equation] = []
        self.values: dict[str, Expr] = {}

    def add(self, equation: _Equation) -> None:
        self.waiting.append(equation)

    def solve(self) -> None:
        """Solve what can be solved, and report what cannot hold or cannot be shown."""
        progress = True
        while progress:
            progress = False
            for equation in tuple(self.waiting):
                ours, theirs = self._sides(equation)
                difference = theirs - ours
                constant = difference.constant
                if constant is None and not self._bind(equation, difference):
                    continue
                if constant:
                    self._report(equation, ours, theirs, "the sizes differ")
                self.waiting.remove(equation)
                progress = True
        for equation in self.waiting:
            self._report(equation, *self._sides(equation), "their sizes cannot be shown to be equal")

    def keep_apart(self, end: End) -> None:
        """Report two dynamic dims of a kernel that the chain makes one size: that is no renaming."""
        same: dict[Polynomial, list[Dim]] = {}
        for dim in end.kernel.dims:
            if dim.value is None and dim.expr is None:
                same.setdefault(self._normal(qualified(end.label, dim.name)), []).append(dim)
        for size, dims in same.items():
            if len(dims) < 2 or size.constant is not None:
                continue
            names = listed((d.name for d in dims), "and")
            self.collector.report(
                error(
                    "FP3508",
                    f"the chain makes {names} of `{end.label}` one size",
                    dims[0].span,
                    f"would be {text(size.expr())}",
                    also=[(d.span, "and this") for d in dims[1:]],
                    notes=["dims of a kernel are independent: a chain that makes two of them equal is no renaming"],
                    help="look for exchanged axes; where they are meant to be equal, give both the same number",
                )
            )

    def _normal(self, expr: Expr) -> Polynomial:
        return polynomial(substitute(expr, self.values))  # type: ignore[arg-type]  # substitute keeps tuples

    def _sides(self, equation: _Equation) -> tuple[Polynomial, Polynomial]:
        link = equation.link
        return self._normal(link.producer.extent(equation.ours)), self._normal(link.consumer.extent(equation.theirs))

    def _bind(self, equation: _Equation, difference: Polynomial) -> bool:
        """Give a dim of the consumer, or else any, the value that makes the difference 0."""
        own = f"{equation.link.consumer.label}."
        for name, value in sorted(difference.solutions(), key=lambda s: not s[0].startswith(own)):
            if value.constant is not None and not _is_size(value.constant):
                continue
            self.values[name] = value.expr()
            for other in self.values:
                self.values[other] = self._normal(self.values[other]).expr()
            return True
        return False

    def _report(self, equation: _Equation, ours: Polynomial, theirs: Polynomial, title: str) -> None:
        producer, consumer = equation.link.producer, equation.link.consumer
        self.collector.report(
            error(
                "FP3508",
                f"`{producer}` cannot be `{consumer}`: {title}",
                consumer.arg.span,
                f"`{axis_text(equation.theirs)}` is {text(theirs.expr())}",
                also=[(producer.arg.span, f"`{axis_text(equation.ours)}` is {text(ours.expr())}")],
                help=_size_help(equation, ours, theirs),
            )
        )


def _is_size(value: Fraction) -> bool:
    return value.denominator == 1 and value >= 1


def _size_help(equation: _Equation, ours: Polynomial, theirs: Polynomial) -> str:
    consumer = equation.link.consumer
    a, b = ours.constant, theirs.constant
    if a is not None and b is not None and _is_size(a) and isinstance(equation.theirs.extent, str):
        return f"set `{equation.theirs.extent} = {a}` in `{consumer.label}`, or leave its size open"
    return "give the dims numbers (`N = 4096`), or write both extents alike"


def _check_conditions(end: End, values: Mapping[str, Expr], collector: Collector) -> None:
    """The kernel's own conditions with the numbers that the chain gives its dims."""
    sizes: dict[str, int] = {}
    for dim in end.kernel.dims:
        value = values.get(qualified(end.label, dim.name))
        if isinstance(value, int):
            sizes[dim.name] = value
    if not sizes:
        return
    try:
        specialize(end.kernel, sizes)
    except DiagnosticError as problem:
        for found in problem.diagnostics:
            collector.report(_in_chain(found, end, sizes))


def _in_chain(found: Diagnostic, end: End, sizes: Mapping[str, int]) -> Diagnostic:
    """A broken condition, with the sizes that broke it."""
    given = ", ".join(f"{name} = {size}" for name, size in sizes.items())
    note = f"the chain gives `{end.label}` {given}"
    return Diagnostic(found.code, found.title, found.labels, (*found.notes, note), found.help, found.severity)
