"""Layouts, formats and schedules: a head, and fields in braces."""

from __future__ import annotations

from typing import TypeAlias

from fp4cc.frontend.ast.expressions import Expr, Number
from fp4cc.frontend.ast.items import Broken
from fp4cc.frontend.ast.node import Ident, Nested, node
from fp4cc.source import Span

#: A CuTe tree of integers.
Tree: TypeAlias = "int | tuple[Tree, ...]"


@node
class TreeNode(Nested):
    """A CuTe tree where it stands."""

    tree: Tree
    span: Span


@node
class Coord:
    """`row : 128` among the coordinates of a layout."""

    name: Ident
    extent: Number
    span: Span


@node
class CoordsField:
    """`coords row : 128, k : 4`."""

    coords: tuple[Coord, ...]
    span: Span


@node
class AtomField:
    """`atom shape : stride`."""

    shape: TreeNode
    stride: TreeNode
    span: Span


@node
class OrderField:
    """`order k, row, batch`."""

    names: tuple[Ident, ...]
    span: Span


@node
class PadField:
    """`pad 0`."""

    value: Number
    span: Span


LayoutField: TypeAlias = CoordsField | AtomField | OrderField | PadField | Broken


@node
class Layout:
    """`layout name { fields }`."""

    name: Ident
    fields: tuple[LayoutField, ...]
    span: Span
    whole: bool = True


@node
class Extents:
    """`128 x 64 x 256`; None stands for `all`."""

    values: tuple[int | None, ...]
    span: Span


@node
class ElementField:
    """`element e2m1 pack low_first`."""

    element: Ident
    pack: Ident | None
    span: Span


@node
class ScaleField:
    """`scale e4m3 per 1 x 16 stored 1 x 16`."""

    element: Ident
    per: Extents
    stored: Extents | None
    span: Span


@node
class LayoutNameField:
    """`layout name`, in a format."""

    layout: Ident
    span: Span


@node
class TensorScaleField:
    """`tensor_scale f32 multiplies`, or `tensor_scale f32 multiplies per batch`."""

    element: Ident
    sense: Ident
    per: Ident | None
    span: Span


@node
class QuantizerField:
    """`quantizer name`."""

    quantizer: Ident
    span: Span


FormatField: TypeAlias = ElementField | ScaleField | LayoutNameField | TensorScaleField | QuantizerField | Broken


@node
class Format:
    """`format name extends base { fields }`."""

    name: Ident
    base: Ident | None
    fields: tuple[FormatField, ...]
    span: Span
    whole: bool = True


@node
class ScheduleField:
    """`tile 128 x 64 x 256`: a name and its values, each extents, a number or a word."""

    name: Ident
    values: tuple[Extents | Number | Ident, ...]
    span: Span


@node
class Schedule:
    """`schedule kernel on target when condition { fields }`."""

    kernel: Ident
    target: Ident
    when: Expr | None
    fields: tuple[ScheduleField | Broken, ...]
    span: Span
    whole: bool = True
