"""CuTe shape and stride trees: `((32, 4), 4) : ((16, 4), 1)`, leftmost mode fastest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from fp4num.errors import LayoutError

Tree: TypeAlias = "int | tuple[Tree, ...]"


def size(shape: Tree) -> int:
    """The number of coordinates of a shape: the product of its leaves."""
    if isinstance(shape, int):
        return shape
    total = 1
    for part in shape:
        total *= size(part)
    return total


def leaves(shape: Tree, stride: Tree) -> Iterator[tuple[int, int]]:
    """(extent, stride) of each leaf, fastest first. `LayoutError` if the two trees differ in form."""
    if isinstance(shape, int) and isinstance(stride, int):
        if shape < 1 or stride < 0:
            raise LayoutError(f"a mode has a positive extent and no negative stride, not {shape}:{stride}")
        yield shape, stride
    elif isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride):
        for s, d in zip(shape, stride, strict=True):
            yield from leaves(s, d)
    else:
        raise LayoutError(f"the stride {text(stride)} has not the form of the shape {text(shape)}")


def text(tree: Tree) -> str:
    """The tree as CuTe writes it."""
    if isinstance(tree, int):
        return str(tree)
    return f"({','.join(text(part) for part in tree)})"


def freeze(tree: object) -> Tree:
    """A tree of nested tuples from nested lists (JSON) or tuples; `LayoutError` for anything but integers in them."""
    if isinstance(tree, int) and not isinstance(tree, bool):
        return tree
    if isinstance(tree, (list, tuple)):
        return tuple(freeze(part) for part in tree)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise LayoutError(f"a CuTe tree is made of integers and lists of trees, not {tree!r}")
