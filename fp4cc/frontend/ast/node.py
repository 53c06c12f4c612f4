"""What all nodes of the tree have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

from fp4cc.source import Span

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
def node(cls: type[_T]) -> type[_T]:
    """Makes a class of the tree: frozen, with slots, and equal only to itself."""
    return dataclass(frozen=True, slots=True, eq=False)(cls)


@node
class Nested:
    """What nests, and knows how deeply."""

    depth: int = field(default=1, repr=False, kw_only=True)


@node
class Ident:
    """A name where it stands."""

    text: str
    span: Span
