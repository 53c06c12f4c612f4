"""Uses, functions and kernels, with what stands in a kernel."""

from __future__ import annotations

from typing import Literal, TypeAlias

from fp4cc.frontend.ast.expressions import Expr, String
from fp4cc.frontend.ast.node import Ident, node
from fp4cc.source import Span


@node
class Use:
    """`use "path"`."""

    path: String
    span: Span


@node
class Parameter:
    """A parameter of a `fn`, perhaps with a default."""

    name: Ident
    default: Expr | None
    span: Span


@node
class Function:
    """`fn name(parameters) = body`."""

    name: Ident
    parameters: tuple[Parameter, ...]
    body: Expr
    span: Span


@node
class Dim:
    """A dimension of a kernel: `M`, `N = 4096` or `F = N / 2`."""

    name: Ident
    default: Expr | None
    span: Span


@node
class AxisItem:
    """One item between the brackets of a type: a size, and the tensor behind `by` or `upto` if there is one."""

    extent: Expr
    kind: Literal["plain", "by", "upto"]
    tensor: Ident | None
    span: Span


@node
class Type:
    """`name[axes]`; `axes` is None where no brackets were written."""

    name: Ident
    axes: tuple[AxisItem, ...] | None
    span: Span


@node
class Declaration:
    """`in name : type`, with a default if it is a param."""

    direction: Ident
    name: Ident
    type: Type
    default: Expr | None
    span: Span


@node
class Assignment:
    """`targets = value`, or, of one target, `target[at] = value`."""

    targets: tuple[Ident, ...]
    value: Expr
    span: Span
    at: Ident | None = None


@node
class Broken:
    """A unit that did not parse. `names` are those it would define, so that their uses are not errors too; `declares`
    says that it is a declaration, which gives them no value."""

    names: tuple[str, ...]
    span: Span
    declares: bool = False

    def may_define(self, name: str) -> bool:
        """Whether the name could be this unit's: it stands in it, or the unit does not say what it defines."""
        return not self.names or name in self.span.text


Statement: TypeAlias = Declaration | Assignment | Broken


@node
class Kernel:
    """`whole` is False if the head did not parse; its statements are then not judged."""

    name: Ident
    dims: tuple[Dim, ...]
    where: Expr | None
    statements: tuple[Statement, ...]
    span: Span
    whole: bool = True
