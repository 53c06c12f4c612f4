"""The untyped tree as text, for `fp4cc emit --stage ast` and golden files: one node a line, indented, with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, cast

from fp4cc.frontend import ast
from fp4cc.source import Span

_HIDDEN = frozenset(("span", "op_span", "depth", "whole"))


def format_module(module: ast.Module) -> str:
    """The tree of a file."""
    lines = [f"module {module.source.name}"]
    for item in module.items:
        lines.extend("    " + line for line in _node("", item))
    return "\n".join(lines) + "\n"


def _node(label: str, value: object) -> Iterator[str]:
    prefix = f"{label}: " if label else ""
    if isinstance(value, ast.Ident | ast.Name):
        yield f"{prefix}{value.text}"
    elif isinstance(value, ast.Number | ast.String):
        yield f"{prefix}{value.value!r}"
    elif isinstance(value, ast.Extents):
        yield prefix + " x ".join("all" if v is None else str(v) for v in value.values)
    elif is_dataclass(value) and not isinstance(value, Span | type):
        yield f"{prefix}{type(value).__name__}{_place(value)}"
        for field in fields(value):
            child = getattr(value, field.name)
            if field.name not in _HIDDEN and child is not None and child != ():
                for line in _node(field.name, child):
                    yield "    " + line
    elif isinstance(value, tuple):
        yield f"{label}:"
        for child in cast("tuple[object, ...]", value):
            for line in _node("", child):
                yield "    " + line
    else:
        yield f"{prefix}{value}"


def _place(node: Any) -> str:
    line, column = node.span.source.line_column(node.span.start)
    return f" @{line}:{column}"
