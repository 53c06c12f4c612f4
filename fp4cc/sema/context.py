"""What the checker knows while it walks the expressions of one kernel, and the small steps that all of them share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from fp4cc.diagnostics import Collector, error
from fp4cc.frontend import ast
from fp4cc.ir.kernel import Arg, Constraint, Expr
from fp4cc.sema import axes as axes_order
from fp4cc.sema.axes import Orders
from fp4cc.sema.groups import Groups
from fp4cc.sema.operands import (
    POISON,
    Deferred,
    DType,
    Literal,
    Operand,
    Pair,
    Poison,
    Size,
    Val,
    dtype_name,
    type_text,
)
from fp4cc.sema.scope import Scope
from fp4cc.sema.values import Values
from fp4cc.source import Span
from fp4num import BlockFormat
from fp4rt.ops import OPS
from fp4rt.sizes import text as size_text

#: Plain types that widen to f32 by themselves.
_NUMBERS = ("f32", "bf16", "f16", "e4m3", "e5m2", "i32", "u32")

_FOLD: dict[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}


#: Operations whose result has the axes of their operand, or some of them, in whatever order those are.
_KEEP_ORDERS = frozenset(("cast", "dequantize", "hadamard", "reduce"))
#: Whole numbers of more bits are too large for every floating type.
_LARGEST_FOLDED = 1023


class Failed(Exception):
    """An error was reported; the expression has no value."""


@dataclass(slots=True)
class Context:
    """One kernel being checked.

    `broken` are its statements that did not parse, `unknown` the names that were reported already, `calls` the spans of
    the calls of user functions around the current place, `made` the orders of axes of values that were merged.
    """

    scope: Scope
    collector: Collector
    dims: Mapping[str, bool]
    args: Mapping[str, Arg | None]
    broken: Sequence[ast.Broken] = ()
    unknown: set[str] = field(default_factory=set[str])
    derived: Mapping[str, Expr] = field(default_factory=dict[str, Expr])
    values: Values = field(default_factory=Values)
    constraints: list[Constraint] = field(default_factory=list[Constraint])
    calls: list[Span] = field(default_factory=list[Span])
    made: dict[int, Orders] = field(default_factory=dict[int, "Orders"])
    groups: Groups | None = None

    # Errors.

    def fail(
        self,
        code: str,
        title: str,
        span: Span,
        text: str = "",
        *,
        also: Iterable[tuple[Span, str]] = (),
        notes: Iterable[str] = (),
        help: str | Iterable[str] = (),
    ) -> Failed:
        """Report an error, and where the function it is in was called; the caller raises what this returns."""
        called = [(self.calls[0], "in this call")] if self.calls else []
        self.collector.report(error(code, title, span, text, also=[*also, *called], notes=notes, help=help))
        return Failed()

    def judges(self, name: str) -> bool:
        """Whether an unknown name is an error to report: not again, and not if a broken statement may define it."""
        known = name in self.unknown or any(b.may_define(name) for b in self.broken)
        self.unknown.add(name)
        return not known

    # Making values.

    def add(
        self, op: str, operands: Sequence[Val], dtype: DType, axes: tuple[str, ...], span: Span, **attrs: object
    ) -> Val:
        """An operation; its span is the outermost call of a user function, if it is in one."""
        place = self.calls[0] if self.calls else span
        value = self.values.add(op, operands, dtype, axes, place, attrs)  # type: ignore[arg-type]
        if op in _KEEP_ORDERS and operands[0].index in self.made:
            self.made[value.index] = axes_order.restricted(self.made[operands[0].index], axes)
        return value

    def constant(self, value: float, span: Span) -> Val:
        """A number as f32, rounded to nearest even."""
        with np.errstate(over="ignore"):
            rounded = np.float32(value)
        if np.isinf(rounded) and not math.isinf(value):
            raise self.fail(
                "FP1007", f"{value:g} does not fit f32", span, "too large", help="the largest f32 is 3.4028235e38"
            )
        return self.add("const", (), "f32", (), span, value=float(rounded))

    def plain(self, operand: Operand, span: Span) -> Val:
        """The operand as a value, its element type kept."""
        match operand:
            case Val():
                return operand
            case Literal():
                return self.constant(operand.value, span)
            case Size():
                size = self.add("dim", (), "i32", (), span, expr=operand.expr)
                return self.add("cast", (size,), "f32", (), span)
            case Deferred():
                if not operand.axes:
                    raise self.fail(
                        "FP2026",
                        "`uniform` has no axes here",
                        operand.span,
                        "one number for each element of what?",
                        help="use it in an expression with a tensor, or say whose axes: `uniform(rng, like = h)`",
                    )
                return operand.build(operand.axes)
            case Pair():
                raise self.fail(
                    "FP2024",
                    "`unzip` makes two values",
                    span,
                    "two values where one is needed",
                    help="write `g, u = unzip(...)`",
                )
            case Poison():
                raise Failed

    def settled(self, operand: Operand, axes: tuple[str, ...]) -> Operand:
        """The operand; one whose axes are open gets those of its expression and of the place it goes to."""
        if not isinstance(operand, Deferred):
            return operand
        known = axes if set(operand.axes) <= set(axes) else self.merged([axes, *operand.orders])
        return operand.build(known) if known else operand

    def number(self, operand: Operand, span: Span) -> Val:
        """The operand as an f32 value that can meet others elementwise."""
        value = self.plain(operand, span)
        if isinstance(value.dtype, BlockFormat):
            value = self.dequantized(value, span)
        if "" in value.axes:
            raise self.fail(
                "FP2027",
                f"{type_text(value.dtype, value.axes)} has an anonymous axis",
                span,
                "it cannot meet other tensors elementwise",
                help="give the axis the name of a dim of the kernel: tensors meet by the names of their axes",
            )
        if value.dtype == "f32":
            return value
        if value.dtype in _NUMBERS:
            return self.add("cast", (value,), "f32", value.axes, span)
        help = "choose with it: `where(condition, a, b)`" if value.dtype == "bool" else ""
        raise self.fail(
            "FP2018",
            f"a number is needed, and this is {dtype_name(value.dtype)}",
            span,
            f"a {dtype_name(value.dtype)}",
            help=help,
        )

    def condition(self, operand: Operand, span: Span) -> Val:
        """The operand as a bool value."""
        value = self.plain(operand, span)
        if value.dtype != "bool":
            raise self.fail(
                "FP2018",
                f"a condition is needed, and this is {dtype_name(value.dtype)}",
                span,
                "a number",
                help="compare it: `x > 0`, `x != 0`",
            )
        return value

    def dequantized(self, value: Val, span: Span) -> Val:
        """A quantized value as f32."""
        return self.add("dequantize", (value,), "f32", value.axes, span)

    # Elementwise operations.

    def elementwise(
        self, op: str, operands: Sequence[tuple[Operand, Span]], span: Span, dtype: DType = "f32"
    ) -> Operand:
        """An operation of the table on operands that broadcast by axis name."""
        if any(isinstance(o, Poison) for o, _ in operands):
            return POISON
        folded = self._folded(op, operands, span)
        if folded is not None:
            return folded
        result: DType = "bool" if OPS[op].result == "bool" else dtype
        prepared: list[Val | Deferred] = []
        for position, (operand, place) in enumerate(operands):
            if isinstance(operand, Deferred):
                self._judge_deferred(op, position, operand, place)
                prepared.append(operand)
            elif OPS[op].takes == "bool" or (op == "where" and position == 0):
                prepared.append(self.condition(operand, place))
            elif op == "cast":
                prepared.append(self._castable(operand, place))
            else:
                prepared.append(self.number(operand, place))
        if not any(isinstance(p, Deferred) for p in prepared):
            return self._met(op, [p for p in prepared if isinstance(p, Val)], result, span)

        @cache  # an operand that is used twice would be built twice, at each level
        def build(known: tuple[str, ...]) -> Val:
            return self._met(op, [p.build(known) if isinstance(p, Deferred) else p for p in prepared], result, span)

        first = next(p for p in prepared if isinstance(p, Deferred))
        orders = frozenset[tuple[str, ...]]().union(*(self.orders(p) for p in prepared))
        return Deferred(result, self.merged(orders), build, first.span, orders)

    def combined(self, op: str, a: Val, b: Val, span: Span) -> Val:
        """An operation on two numbers that broadcast by axis name."""
        return self._met(op, (a, b), "f32", span)

    def _met(self, op: str, operands: Sequence[Val], dtype: DType, span: Span) -> Val:
        """The operation on values, its axes those of all of them."""
        operands = self.of_rows(operands, span)
        orders = frozenset[tuple[str, ...]]().union(*(self.orders(v) for v in operands))
        axes = self.merged(orders)
        value = self._skipping_zero(op, operands, axes, span) or self.add(op, operands, dtype, axes, span)
        if len(orders) > 1:
            self.made[value.index] = orders
        return value

    def _judge_deferred(self, op: str, position: int, operand: Deferred, span: Span) -> None:
        wants_bool = OPS[op].takes == "bool" or (op == "where" and position == 0)
        if op != "cast" and wants_bool != (operand.dtype == "bool"):
            wanted = "a condition" if wants_bool else "a number"
            raise self.fail(
                "FP2018", f"{wanted} is needed, and this is {dtype_name(operand.dtype)}", span, f"not {wanted}"
            )

    def _castable(self, operand: Operand, span: Span) -> Val:
        value = self.plain(operand, span)
        return value if value.dtype in ("f32", "bool") else self.number(value, span)

    def _folded(self, op: str, operands: Sequence[tuple[Operand, Span]], span: Span) -> Literal | None:
        """Arithmetic of numbers that have no type yet, done once and exactly enough for one rounding to f32."""
        numbers = [o.value for o, _ in operands if isinstance(o, Literal)]
        if len(numbers) < len(operands):
            return None
        if op == "neg":
            return Literal(-numbers[0])
        if op not in _FOLD:
            return None
        try:
            made = _FOLD[op](numbers[0], numbers[1])
            if isinstance(made, int) and made.bit_length() > _LARGEST_FOLDED:
                raise OverflowError
            return Literal(made)
        except ZeroDivisionError:
            raise self.fail("FP2018", "a number is divided by zero", span, "this has no value") from None
        except OverflowError:
            raise self.fail("FP1007", "this number is too large", span, "does not fit") from None

    def _skipping_zero(self, op: str, operands: Sequence[Val], axes: tuple[str, ...], span: Span) -> Val | None:
        """`beta * c` with a scalar beta and an inout c: where beta is 0 the old value does not matter, NaN or not."""
        if op != "mul":
            return None
        for scalar, old in (operands, tuple(reversed(operands))):
            known = self.values.values[scalar.index].op == "const"
            if not known and not scalar.axes and old.axes and self._reads_inout(old) and not self._reads_inout(scalar):
                zero = self.constant(0.0, span)
                unread = self.add("eq", (scalar, zero), "bool", (), span)
                product = self.add("mul", tuple(operands), "f32", axes, span)
                return self.add("where", (unread, zero, product), "f32", axes, span)
        return None

    def _reads_inout(self, value: Val) -> bool:
        """Whether the value is an inout argument's old value itself, perhaps widened."""
        made = self.values.values[value.index]
        if made.op == "cast":
            made = self.values.values[made.operands[0]]
        if made.op != "arg":
            return False
        arg = self.args.get(str(made.attrs["name"]))
        return arg is not None and arg.direction == "inout"

    # Axes.

    def orders(self, operand: Val | Deferred) -> Orders:
        """The orders of axes that an operand was made from: its own, unless it was merged from others."""
        if isinstance(operand, Deferred):
            return operand.orders
        return self.made.get(operand.index) or frozenset((operand.axes,))

    def merged(self, orders: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
        """The axes of several operands together (`fp4cc.sema.axes`), ragged rows in the place of their groups."""
        found = frozenset(orders)
        rows = self.ragged.together(axis for order in found for axis in order)
        if rows:
            found = frozenset(self.ragged.axes_of_rows(order, rows) for order in found)
        return axes_order.merged(found, tuple(self.dims))

    @property
    def ragged(self) -> Groups:
        """The ragged axes of the kernel."""
        if self.groups is None:
            self.groups = Groups.of(self.args.values())
        return self.groups

    def of_rows(self, operands: Sequence[Val], span: Span, beside: Iterable[str] = ()) -> list[Val]:
        """The operands; where some have ragged rows, or stand `beside` them, what others have for each group is taken
        for each row of it."""
        rows = self.ragged.together([*beside, *(axis for operand in operands for axis in operand.axes)])
        found: list[Val] = []
        for operand in operands:
            for ragged in rows:
                if ragged.groups in operand.axes:
                    axes = self.ragged.axes_of_rows(operand.axes, (ragged,))
                    attrs = {"ragged": ragged.offsets, "groups": ragged.groups, "rows": ragged.rows}
                    orders = self.orders(operand)
                    operand = self.add("of_group", (operand,), operand.dtype, axes, span, **attrs)
                    if len(orders) > 1:
                        self.made[operand.index] = frozenset(self.ragged.axes_of_rows(o, (ragged,)) for o in orders)
            found.append(operand)
        return found

    def require(self, expr: Expr, span: Span, reason: str) -> None:
        """Add a derived constraint, once."""
        if all(c.expr != expr for c in self.constraints):
            self.constraints.append(Constraint(expr, size_text(expr), span, reason))
