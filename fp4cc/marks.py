"""Marks: words that stand for names until it is known what these may be called.

A mark is one letter that neither a spec nor a template can have, as often as the name that it stands for has letters:
text that is laid out with marks is laid out as it will be with the names. What is made from a mark (`f"{mark}_smem"`)
shows where it came from, so whoever makes it needs no thought for what else is called so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from fp4cc.source import Source, Span
from fp4num import BlockFormat, ScaleLayout

#: Ideographs of Unicode's "extension B": letters without case, which normalization leaves alone.
_FIRST, _LAST = 0x20000, 0x2A6D6
_MARK = re.compile(rf"([{chr(_FIRST)}-{chr(_LAST)}])\1*")
_LEAVES = (int, float, bytes, type(None), Source, Span, BlockFormat, ScaleLayout)

Spell = Callable[[int], str]
T = TypeVar("T")


def mark(number: int, length: int) -> str:
    """The mark of a number, of so many letters. ValueError where there are no more."""
    if _FIRST + number > _LAST:
        raise ValueError(f"a kernel file has at most {_LAST - _FIRST + 1} names of its own")
    return chr(_FIRST + number) * length


def marks_in(text: str) -> list[int]:
    """The numbers of the marks in a text, in order."""
    return [ord(found[1]) - _FIRST for found in _MARK.finditer(text)]


def spelled(text: str, spell: Spell) -> str:
    """The text with `spell(number)` in the place of each mark."""
    return _MARK.sub(lambda found: spell(ord(found[1]) - _FIRST), text)


def spelled_in(tree: T, spell: Spell, known: dict[int, tuple[Any, Any]] | None = None) -> T:
    """The tree of dataclasses, tuples, lists, sets and mappings with all of its strings spelled.

    `known`: what has been spelled, by identity, and what it became: trees that share parts may share it.
    """
    return cast("T", _spelled_in(tree, spell, {} if known is None else known))


def _spelled_in(tree: Any, spell: Spell, known: dict[int, tuple[Any, Any]]) -> Any:
    if isinstance(tree, str):
        return tree if tree.isascii() else spelled(tree, spell)
    if isinstance(tree, _LEAVES):
        return tree
    found = known.get(id(tree))
    if found is None:  # kept beside what it became, so that no other object gets its identity
        found = known[id(tree)] = (tree, _parts_spelled(tree, spell, known))
    return found[1]


def _parts_spelled(tree: Any, spell: Spell, known: dict[int, tuple[Any, Any]]) -> Any:
    if is_dataclass(tree) and not isinstance(tree, type):
        changed = {
            field.name: new
            for field in fields(tree)
            if field.init and (new := _spelled_in(old := getattr(tree, field.name), spell, known)) is not old
        }
        return replace(tree, **changed) if changed else tree
    if isinstance(tree, Mapping):
        items = {_spelled_in(key, spell, known): _spelled_in(value, spell, known) for key, value in tree.items()}
        return items if items != tree else tree
    if isinstance(tree, tuple | list | frozenset | set):
        parts = [_spelled_in(part, spell, known) for part in tree]
        return tree if all(new is old for new, old in zip(parts, tree, strict=True)) else type(tree)(parts)
    return tree
