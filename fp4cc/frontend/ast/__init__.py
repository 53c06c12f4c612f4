"""The untyped tree of a file: what was written, with spans. Names are not resolved and nothing is judged.

Every node is frozen, carries its span, and is equal only to itself: two nodes that look alike stand in two places. An
expression knows its `depth`, so that the parser can refuse text nested so deeply that a recursive walk would exhaust
the stack.
"""

from __future__ import annotations

from typing import TypeAlias

from fp4cc.frontend.ast.definitions import (
    AtomField,
    Coord,
    CoordsField,
    ElementField,
    Extents,
    Format,
    FormatField,
    Layout,
    LayoutField,
    LayoutNameField,
    OrderField,
    PadField,
    QuantizerField,
    ScaleField,
    Schedule,
    ScheduleField,
    TensorScaleField,
    Tree,
    TreeNode,
)
from fp4cc.frontend.ast.expressions import (
    Argument,
    Attribute,
    Binary,
    Call,
    Expr,
    Name,
    Number,
    Renaming,
    String,
    Subscript,
    Tuple,
    Unary,
)
from fp4cc.frontend.ast.items import (
    Assignment,
    AxisItem,
    Broken,
    Declaration,
    Dim,
    Function,
    Kernel,
    Parameter,
    Statement,
    Type,
    Use,
)
from fp4cc.frontend.ast.node import Ident, node
from fp4cc.source import Source

Item: TypeAlias = Use | Function | Kernel | Layout | Format | Schedule


@node
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


__all__ = [
    "Argument",
    "Assignment",
    "AtomField",
    "Attribute",
    "AxisItem",
    "Binary",
    "Broken",
    "Call",
    "Coord",
    "CoordsField",
    "Declaration",
    "Dim",
    "ElementField",
    "Expr",
    "Extents",
    "Format",
    "FormatField",
    "Function",
    "Ident",
    "Item",
    "Kernel",
    "Layout",
    "LayoutField",
    "LayoutNameField",
    "Module",
    "Name",
    "Number",
    "OrderField",
    "PadField",
    "Parameter",
    "QuantizerField",
    "Renaming",
    "ScaleField",
    "Schedule",
    "ScheduleField",
    "Statement",
    "String",
    "Subscript",
    "TensorScaleField",
    "Tree",
    "TreeNode",
    "Tuple",
    "Type",
    "Unary",
    "Use",
]
