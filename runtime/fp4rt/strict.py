"""Strict reading of JSON: every error names the path to the offending value, and unknown keys are errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

from fp4rt.errors import ArtifactError
from fp4rt.sizes import OPERATORS, SizeError, check

#: What `json.loads` returns.
Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
#: A size: an integer, a dimension's name, or an operator and its operands. See `fp4rt.sizes`.
Expr: TypeAlias = "int | str | tuple[Expr, ...]"

T = TypeVar("T")
_MAX_DEPTH, _MAX_TEXT = 64, 1 << 16


class Node:
    """A JSON value together with the path that led to it."""

    __slots__ = ("path", "value")

    def __init__(self, value: Json, path: str = "") -> None:
        self.value = value
        self.path = path

    def fail(self, message: str) -> ArtifactError:
        """An error that names this place; the caller raises it."""
        return ArtifactError(f"manifest: {self.path or 'top level'}: {message}")

    def _expected(self, what: str) -> ArtifactError:
        return self.fail(f"expected {what}, found {_describe(self.value)}")

    def string(self) -> str:
        """The value as a string."""
        if not isinstance(self.value, str):
            raise self._expected("a string")
        if len(self.value) > _MAX_TEXT:
            raise self.fail(f"{len(self.value)} characters; at most {_MAX_TEXT} are read")
        _encodable(self, self.value)
        return self.value

    def integer(self, low: int | None = None, high: int | None = None) -> int:
        """The value as an integer within [low, high]."""
        value = self.value
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._expected("an integer")
        if (low is not None and value < low) or (high is not None and value > high):
            raise self.fail(f"{value} is outside [{low}, {high}]")
        return value

    def number(self) -> float:
        """The value as a float; integers are accepted."""
        if not isinstance(self.value, (int, float)) or isinstance(self.value, bool):
            raise self._expected("a number")
        try:
            value = float(self.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self.fail("the number is too large for a float")
        return value

    def choice(self, options: Iterable[str]) -> str:
        """The value as one of the given strings."""
        allowed = tuple(options)
        if self.value not in allowed:
            raise self._expected("one of " + ", ".join(allowed))
        return self.string()

    def optional(self, read: Callable[[Node], T]) -> T | None:
        """None for null, else what `read` makes of the value."""
        return None if self.value is None else read(self)

    def items(self) -> Iterator[Node]:
        """The elements of a list."""
        if not isinstance(self.value, list):
            raise self._expected("a list")
        for i, item in enumerate(self.value):
            yield Node(item, f"{self.path}[{i}]")

    def integers(self, length: int | None = None, low: int | None = None, high: int | None = None) -> tuple[int, ...]:
        """A list of integers, of a given length if one is asked for."""
        out = tuple(item.integer(low, high) for item in self.items())
        if length is not None and len(out) != length:
            raise self.fail(f"expected {length} integers, found {len(out)}")
        return out

    def members(self) -> Iterator[tuple[str, Node]]:
        """The key-value pairs of an object."""
        if not isinstance(self.value, dict):
            raise self._expected("an object")
        for key, value in self.value.items():
            _encodable(self, key)
            yield key, Node(value, f"{self.path}.{key}" if self.path else key)

    def fields(self, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Node]:
        """The members of an object that must have `required` and may have `optional`, and nothing else."""
        found = dict(self.members())
        required = tuple(required)
        missing = [key for key in required if key not in found]
        if missing:
            raise self.fail(f"missing {', '.join(missing)}")
        unknown = sorted(set(found) - set(required) - set(optional))
        if unknown:
            raise self.fail(f"unknown key {', '.join(unknown)}")
        return found

    def expr(self) -> Expr:
        """A size expression that can be evaluated once its dims are known."""
        expr = self._expr(0)
        try:
            check(expr)
        except SizeError as error:
            raise self.fail(str(error)) from error
        return expr

    def _expr(self, depth: int) -> Expr:
        if depth > _MAX_DEPTH:
            raise self.fail(f"expression nested deeper than {_MAX_DEPTH}")
        if isinstance(self.value, str):
            return self.string()
        if isinstance(self.value, list):
            items = list(self.items())
            if not items or not isinstance(items[0].value, str) or items[0].value not in OPERATORS:
                raise self.fail("an expression list starts with its operator")
            return (items[0].string(), *(item._expr(depth + 1) for item in items[1:]))
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return self.value
        raise self._expected("a size expression (integer, name or prefix list)")


def _encodable(node: Node, text: str) -> None:
    """A lone surrogate is JSON, but no text that can be printed or written again."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise node.fail(f"{text!a:.60} is not Unicode text") from None


def dump_expr(expr: Expr) -> Json:
    """A size expression as JSON."""
    if isinstance(expr, tuple):
        return [dump_expr(item) for item in expr]
    return expr


def _describe(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
