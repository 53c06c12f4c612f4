"""The untyped tree of a file: what was written, with spans. Names are not resolved and nothing is judged.

Every node is frozen, carries its span, and is equal only to itself: two nodes that look alike stand in two places. An
expression knows its `depth`, so that the parser can refuse text nested so deeply that a recursive walk would exhaust
the stack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from fp4cc.source import Source, Span


@dataclass(frozen=True, slots=True, eq=False)
class Ident:
    """A name where it stands."""

    text: str
    span: Span


# Expressions.


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A name used as an expression."""

    text: str
    span: Span
    depth: int = field(default=1, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A whole number or a decimal fraction."""

    value: int | float
    span: Span
    depth: int = field(default=1, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class String:
    """A string; `value` is without its quotes."""

    value: str
    span: Span
    depth: int = field(default=1, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Unary:
    """`-x`, `+x` or `not x`."""

    op: Literal["-", "+", "not"]
    operand: Expr
    span: Span
    depth: int = field(default=1, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Binary:
    """`op` is as written: + - * / // % @, a comparison, `and` or `or`."""

    op: str
    left: Expr
    right: Expr
    op_span: Span
    span: Span
    depth: int = field(default=1, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """`value.name`; the language knows `.T` only."""

    value: Expr
    name: Ident
    span: Span
    depth: int = field(default=1, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Argument:
    """One argument of a call; `name` is that of a keyword argument."""

    name: Ident | None
    value: Expr
    span: Span

    @property
    def depth(self) -> int:
        return self.value.depth


@dataclass(frozen=True, slots=True, eq=False)
class Renaming:
    """`N -> F` among the arguments of a call."""

    source: Ident
    target: Ident
    span: Span
    depth: int = field(default=1, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """`function(arguments)`."""

    function: Expr
    arguments: tuple[Argument | Renaming, ...]
    span: Span
    depth: int = field(default=1, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Subscript:
    """`value[i, j]`: it parses, so that the checker can say why there is none."""

    value: Expr
    items: tuple[Expr, ...]
    span: Span
    depth: int = field(default=1, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Tuple:
    """`(a, b)`: as the axes of a reduction."""

    items: tuple[Expr, ...]
    span: Span
    depth: int = field(default=1, repr=False)


Expr: TypeAlias = Name | Number | String | Unary | Binary | Attribute | Call | Subscript | Tuple


# Items.


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """`use "path"`."""

    path: String
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A parameter of a `fn`, perhaps with a default."""

    name: Ident
    default: Expr | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """`fn name(parameters) = body`."""

    name: Ident
    parameters: tuple[Parameter, ...]
    body: Expr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Dim:
    """A dimension of a kernel: `M`, `N = 4096` or `F = N / 2`."""

    name: Ident
    default: Expr | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class AxisItem:
    """One item between the brackets of a type: a size, and the tensor behind `by` or `upto` if there is one."""

    extent: Expr
    kind: Literal["plain", "by", "upto"]
    tensor: Ident | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """`name[axes]`; `axes` is None where no brackets were written."""

    name: Ident
    axes: tuple[AxisItem, ...] | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Declaration:
    """`in name : type`, with a default if it is a param."""

    direction: Ident
    name: Ident
    type: Type
    default: Expr | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """`targets = value`."""

    targets: tuple[Ident, ...]
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
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


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """`whole` is False if the head did not parse; its statements are then not judged."""

    name: Ident
    dims: tuple[Dim, ...]
    where: Expr | None
    statements: tuple[Statement, ...]
    span: Span
    whole: bool = True


#: A CuTe tree of integers.
Tree: TypeAlias = "int | tuple[Tree, ...]"


@dataclass(frozen=True, slots=True, eq=False)
class TreeNode:
    """A CuTe tree where it stands."""

    tree: Tree
    span: Span
    depth: int = field(default=1, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Coord:
    """`row : 128` among the coordinates of a layout."""

    name: Ident
    extent: Number
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class CoordsField:
    """`coords row : 128, k : 4`."""

    coords: tuple[Coord, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class AtomField:
    """`atom shape : stride`."""

    shape: TreeNode
    stride: TreeNode
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class OrderField:
    """`order k, row, batch`."""

    names: tuple[Ident, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class PadField:
    """`pad 0`."""

    value: Number
    span: Span


LayoutField: TypeAlias = CoordsField | AtomField | OrderField | PadField | Broken


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """`layout name { fields }`."""

    name: Ident
    fields: tuple[LayoutField, ...]
    span: Span
    whole: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Extents:
    """`128 x 64 x 256`; None stands for `all`."""

    values: tuple[int | None, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class ElementField:
    """`element e2m1 pack low_first`."""

    element: Ident
    pack: Ident | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class ScaleField:
    """`scale e4m3 per 1 x 16 stored 1 x 16`."""

    element: Ident
    per: Extents
    stored: Extents | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class LayoutNameField:
    """`layout name`, in a format."""

    layout: Ident
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class TensorScaleField:
    """`tensor_scale f32 multiplies`."""

    element: Ident
    sense: Ident
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class QuantizerField:
    """`quantizer name`."""

    quantizer: Ident
    span: Span


FormatField: TypeAlias = ElementField | ScaleField | LayoutNameField | TensorScaleField | QuantizerField | Broken


@dataclass(frozen=True, slots=True, eq=False)
class Format:
    """`format name extends base { fields }`."""

    name: Ident
    base: Ident | None
    fields: tuple[FormatField, ...]
    span: Span
    whole: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class ScheduleField:
    """`tile 128 x 64 x 256`: a name and its values, each extents, a number or a word."""

    name: Ident
    values: tuple[Extents | Number | Ident, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """`schedule kernel on target when condition { fields }`."""

    kernel: Ident
    target: Ident
    when: Expr | None
    fields: tuple[ScheduleField | Broken, ...]
    span: Span
    whole: bool = True


Item: TypeAlias = Use | Function | Kernel | Layout | Format | Schedule


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """One file.

    `broken` are names that items would define whose head did not parse. `partial`: not all that the file uses is known,
    because a `use` did not parse or its file cannot be read. `tokens` is its size.
    """

    source: Source
    items: tuple[Item, ...]
    broken: frozenset[str] = frozenset()
    partial: bool = False
    tokens: int = 0
