"""Calls as text, wrapped as a formatter would: on one line where it fits, else over several."""

from __future__ import annotations

from collections.abc import Sequence

LINE = 120


def call(indent: int, head: str, arguments: Sequence[str]) -> str:
    """`head(arguments)` at an indent; the first line is not indented (the template has done that)."""
    flat = ", ".join(arguments)
    if indent + len(head) + len(flat) + 2 <= LINE:
        return f"{head}({flat})"
    inner = " " * (indent + 4)
    if len(inner) + len(flat) <= LINE:
        return f"{head}(\n{inner}{flat}\n{' ' * indent})"
    lines = "".join(f"{inner}{argument},\n" for argument in arguments)
    return f"{head}(\n{lines}{' ' * indent})"
