"""From reductions of the parser to tree nodes.

Lark calls one method a rule with the children of that rule, all tokens included, so that spans are exact. No walk over
the tree is needed, hence nothing here recurses, however deep the text nests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

from lark import Token

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.frontend import ast
from fp4cc.source import Source, Span

#: Expressions nested deeper than this are refused (FP1006).
MAX_DEPTH = 64

_LARGEST_INT = 2**63 - 1
_MOST_DIGITS = 400

T = TypeVar("T")


class BuildError(Exception):
    """A unit that parses but cannot become a node; carries its diagnostic."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic
        super().__init__(diagnostic.title)


class Builder:
    """Rule callbacks. `source`, and where in it the text starts, are set before each parse under the parser's lock."""

    source: Source
    offset: int

    # Helpers.

    def _span_of(self, child: Any) -> Span:
        if isinstance(child, Token):
            return Span(self.source, self.offset + (child.start_pos or 0), self.offset + (child.end_pos or 0))
        return child.span

    def _span(self, children: Sequence[Any]) -> Span:
        return self._span_of(children[0]).to(self._span_of(children[-1]))

    def _ident(self, token: Any) -> ast.Ident:
        return ast.Ident(str(token), self._span_of(token))

    def _deeper(self, *children: Any) -> int:
        depth = 1 + max((c.depth for c in children), default=0)
        if depth > MAX_DEPTH:
            raise BuildError(
                error(
                    "FP1006",
                    f"an expression nested more than {MAX_DEPTH} deep",
                    children[-1].span,
                    "this is the innermost part that fits",
                    help="give parts of it names of their own",
                )
            )
        return depth

    @staticmethod
    def _only(children: Sequence[Any], kind: type[T]) -> tuple[T, ...]:
        return tuple(c for c in children if isinstance(c, kind))

    # Items.

    def use(self, c: list[Any]) -> ast.Use:
        return ast.Use(self.string([c[1]]), self._span(c))

    def function(self, c: list[Any]) -> ast.Function:
        parameters = next((x for x in c if isinstance(x, tuple)), ())
        return ast.Function(self._ident(c[1]), parameters, c[-1], self._span(c))

    def params(self, c: list[Any]) -> tuple[ast.Parameter, ...]:
        return self._only(c, ast.Parameter)

    def fparam(self, c: list[Any]) -> ast.Parameter:
        return ast.Parameter(self._ident(c[0]), c[2] if len(c) > 1 else None, self._span(c))

    def kernel_head(self, c: list[Any]) -> ast.Kernel:
        dims = next((x for x in c if isinstance(x, tuple)), ())
        where = None if isinstance(c[-1], Token) else c[-1]
        return ast.Kernel(self._ident(c[1]), dims, where, (), self._span(c))

    def dims(self, c: list[Any]) -> tuple[ast.Dim, ...]:
        return self._only(c, ast.Dim)

    def dim(self, c: list[Any]) -> ast.Dim:
        return ast.Dim(self._ident(c[0]), c[2] if len(c) > 1 else None, self._span(c))

    def layout_head(self, c: list[Any]) -> ast.Layout:
        return ast.Layout(self._ident(c[1]), (), self._span(c))

    def format_head(self, c: list[Any]) -> ast.Format:
        return ast.Format(self._ident(c[1]), self._ident(c[3]) if len(c) > 2 else None, (), self._span(c))

    def schedule_head(self, c: list[Any]) -> ast.Schedule:
        when = c[5] if len(c) > 4 else None
        return ast.Schedule(self._ident(c[1]), self._ident(c[3]), when, (), self._span(c))

    # Statements.

    def statement(self, c: list[Any]) -> ast.Statement:
        return c[0]

    def decl(self, c: list[Any]) -> ast.Declaration:
        default = c[5] if len(c) > 4 else None
        return ast.Declaration(self._ident(c[0]), self._ident(c[1]), c[3], default, self._span(c))

    def type(self, c: list[Any]) -> ast.Type:
        axes = c[1][0] if len(c) > 1 else None
        span = self._span_of(c[0])
        return ast.Type(self._ident(c[0]), axes, span.to(c[1][1]) if len(c) > 1 else span)

    def index(self, c: list[Any]) -> tuple[tuple[ast.AxisItem, ...], Span]:
        return self._only(c, ast.AxisItem), self._span(c)

    def axis(self, c: list[Any]) -> ast.AxisItem:
        return ast.AxisItem(c[0], "plain", None, self._span(c))

    def ragged_axis(self, c: list[Any]) -> ast.AxisItem:
        return ast.AxisItem(self.name(c[:1]), "by", self._ident(c[2]), self._span(c))

    def masked_axis(self, c: list[Any]) -> ast.AxisItem:
        return ast.AxisItem(self.name(c[:1]), "upto", self._ident(c[2]), self._span(c))

    def assign(self, c: list[Any]) -> ast.Assignment:
        return ast.Assignment(c[0], c[2], c[0][0].span.to(c[2].span))

    def assign_rows(self, c: list[Any]) -> ast.Assignment:
        target = self._ident(c[0])
        return ast.Assignment((target,), c[5], target.span.to(c[5].span), self._ident(c[2]))

    def targets(self, c: list[Any]) -> tuple[ast.Ident, ...]:
        return tuple(self._ident(t) for t in c if t.type == "NAME")

    # Fields of layouts and formats.

    def coords(self, c: list[Any]) -> ast.CoordsField:
        return ast.CoordsField(self._only(c, ast.Coord), self._span(c))

    def coord(self, c: list[Any]) -> ast.Coord:
        return ast.Coord(self._ident(c[0]), self.number(c[2:]), self._span(c))

    def atom(self, c: list[Any]) -> ast.AtomField:
        return ast.AtomField(c[1], c[3], self._span(c))

    def leaf(self, c: list[Any]) -> ast.TreeNode:
        number = self.number(c)
        if not isinstance(number.value, int):
            raise BuildError(error("FP1007", "an atom is made of whole numbers", number.span, "not a whole number"))
        return ast.TreeNode(number.value, number.span)

    def branch(self, c: list[Any]) -> ast.TreeNode:
        nodes = self._only(c, ast.TreeNode)
        return ast.TreeNode(tuple(n.tree for n in nodes), self._span(c), depth=self._deeper(*nodes))

    def order(self, c: list[Any]) -> ast.OrderField:
        return ast.OrderField(tuple(self._ident(t) for t in c[1:] if t.type == "NAME"), self._span(c))

    def pad(self, c: list[Any]) -> ast.PadField:
        return ast.PadField(self.number(c[1:]), self._span(c))

    def element(self, c: list[Any]) -> ast.ElementField:
        return ast.ElementField(self._ident(c[1]), self._ident(c[3]) if len(c) > 2 else None, self._span(c))

    def scale(self, c: list[Any]) -> ast.ScaleField:
        stored = self._extents(c[5]) if len(c) > 4 else None
        return ast.ScaleField(self._ident(c[1]), self._extents(c[3]), stored, self._span(c))

    def format_layout(self, c: list[Any]) -> ast.LayoutNameField:
        return ast.LayoutNameField(self._ident(c[1]), self._span(c))

    def tensor_scale(self, c: list[Any]) -> ast.TensorScaleField:
        per = self._ident(c[4]) if len(c) > 4 else None
        return ast.TensorScaleField(self._ident(c[1]), self._ident(c[2]), per, self._span(c))

    def quantizer(self, c: list[Any]) -> ast.QuantizerField:
        return ast.QuantizerField(self._ident(c[1]), self._span(c))

    def schedule_field(self, c: list[Any]) -> ast.ScheduleField:
        return ast.ScheduleField(self._ident(c[0]), tuple(self._schedule_value(t) for t in c[1:]), self._span(c))

    def _schedule_value(self, token: Token) -> ast.Extents | ast.Number | ast.Ident:
        if token.type == "DIMS":
            return self._extents(token)
        return self.number([token]) if token.type == "NUMBER" else self._ident(token)

    def _extents(self, token: Token) -> ast.Extents:
        span = self._span_of(token)
        words = str(token).replace("x", " ").split()
        values = tuple(None if w == "all" else self._integer(w, span) for w in words)
        return ast.Extents(values, span)

    # Expressions.

    def name(self, c: list[Any]) -> ast.Name:
        return ast.Name(str(c[0]), self._span_of(c[0]))

    def number(self, c: list[Any]) -> ast.Number:
        text, span = str(c[0]), self._span_of(c[0])
        if text.startswith("0x") or text.isdecimal():
            return ast.Number(self._integer(text, span), span)
        value = float(text)
        if math.isinf(value):
            raise BuildError(error("FP1007", f"{text} is too large for a number", span, "not representable"))
        return ast.Number(value, span)

    def _integer(self, text: str, span: Span) -> int:
        digits = text.removeprefix("0x")
        value = int(digits, 16 if digits is not text else 10) if len(digits) <= _MOST_DIGITS else _LARGEST_INT + 1
        if value > _LARGEST_INT:
            raise BuildError(
                error(
                    "FP1007",
                    "a whole number of more than 63 bits",
                    span,
                    f"the largest is {_LARGEST_INT}",
                    help="write it as a decimal fraction (`1e20`) if it is not a size",
                )
            )
        return value

    def string(self, c: list[Any]) -> ast.String:
        return ast.String(str(c[0])[1:-1], self._span_of(c[0]))

    def parenthesized(self, c: list[Any]) -> ast.Expr:
        # The parentheses belong to the span, so that underlining the expression underlines them.
        node = c[1]
        values = {f: getattr(node, f) for f in type(node).__dataclass_fields__}
        return type(node)(**{**values, "span": self._span(c)})

    def tuple(self, c: list[Any]) -> ast.Tuple:
        items = tuple(x for x in c if not isinstance(x, Token))
        return ast.Tuple(items, self._span(c), depth=self._deeper(*items))

    def unary(self, c: list[Any]) -> ast.Unary:
        return ast.Unary(str(c[0]), c[1], self._span(c), depth=self._deeper(c[1]))  # type: ignore[arg-type]

    def binary(self, c: list[Any]) -> ast.Binary:
        left, op, right = c
        return ast.Binary(str(op), left, right, self._span_of(op), self._span(c), depth=self._deeper(left, right))

    def attribute(self, c: list[Any]) -> ast.Attribute:
        return ast.Attribute(c[0], self._ident(c[2]), self._span(c), depth=self._deeper(c[0]))

    def call(self, c: list[Any]) -> ast.Call:
        arguments = c[2] if len(c) > 3 else ()
        return ast.Call(c[0], arguments, self._span(c), depth=self._deeper(c[0], *arguments))

    def subscript(self, c: list[Any]) -> ast.Subscript:
        items = tuple(x for x in c[1:] if not isinstance(x, Token))
        return ast.Subscript(c[0], items, self._span(c), depth=self._deeper(c[0], *items))

    def arguments(self, c: list[Any]) -> tuple[ast.Argument | ast.Renaming, ...]:
        return tuple(x for x in c if not isinstance(x, Token))

    def positional(self, c: list[Any]) -> ast.Argument:
        return ast.Argument(None, c[0], c[0].span)

    def keyword(self, c: list[Any]) -> ast.Argument:
        return ast.Argument(self._ident(c[0]), c[2], self._span(c))

    def renaming(self, c: list[Any]) -> ast.Renaming:
        return ast.Renaming(self._ident(c[0]), self._ident(c[2]), self._span(c))
