"""Expressions."""

from __future__ import annotations

from typing import Literal, TypeAlias

from fp4cc.frontend.ast.node import Ident, Nested, node
from fp4cc.source import Span


@node
class Name(Nested):
    """A name used as an expression."""

    text: str
    span: Span


@node
class Number(Nested):
    """A whole number or a decimal fraction."""

    value: int | float
    span: Span


@node
class String(Nested):
    """A string; `value` is without its quotes."""

    value: str
    span: Span


@node
class Unary(Nested):
    """`-x`, `+x` or `not x`."""

    op: Literal["-", "+", "not"]
    operand: Expr
    span: Span


@node
class Binary(Nested):
    """`op` is as written: + - * / // % @, a comparison, `and` or `or`."""

    op: str
    left: Expr
    right: Expr
    op_span: Span
    span: Span


@node
class Attribute(Nested):
    """`value.name`; the language knows `.T` only."""

    value: Expr
    name: Ident
    span: Span


@node
class Argument:
    """One argument of a call; `name` is that of a keyword argument."""

    name: Ident | None
    value: Expr
    span: Span

    @property
    def depth(self) -> int:
        return self.value.depth


@node
class Renaming(Nested):
    """`N -> F` among the arguments of a call."""

    source: Ident
    target: Ident
    span: Span


@node
class Call(Nested):
    """`function(arguments)`."""

    function: Expr
    arguments: tuple[Argument | Renaming, ...]
    span: Span


@node
class Subscript(Nested):
    """`value[i, j]`: it parses, so that the checker can say why there is none."""

    value: Expr
    items: tuple[Expr, ...]
    span: Span


@node
class Tuple(Nested):
    """`(a, b)`: as the axes of a reduction."""

    items: tuple[Expr, ...]
    span: Span


Expr: TypeAlias = Name | Number | String | Unary | Binary | Attribute | Call | Subscript | Tuple
