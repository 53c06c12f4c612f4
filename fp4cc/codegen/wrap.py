"""Calls as text, wrapped as a formatter would: on one line, else its arguments on one line, else one to a line."""

from __future__ import annotations

from collections.abc import Sequence

LINE = 120


def call(indent: int, head: str, arguments: Sequence[str], tail: str = "") -> str:
    """`head(arguments)tail` at an indent; the first line is not indented (the template has done that)."""
    flat = ", ".join(arguments)
    if indent + len(head) + len(flat) + len(tail) + 2 <= LINE:
        return f"{head}({flat}){tail}"
    inner = " " * (indent + 4)
    if len(inner) + len(flat) <= LINE:
        return f"{head}(\n{inner}{flat}\n{' ' * indent}){tail}"
    lines = "".join(f"{inner}{argument},\n" for argument in arguments)
    return f"{head}(\n{lines}{' ' * indent}){tail}"
