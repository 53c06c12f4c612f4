"""Calls and lists as text, wrapped as a formatter would: on one line where it fits, else over several."""

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


def listed(indent: int, name: str, element: str, loop: str) -> list[str]:
    """`name = [element for loop]` as lines at indent 0, for a place at an indent."""
    flat = f"{name} = [{element} for {loop}]"
    if indent + len(flat) <= LINE:
        return [flat]
    return [f"{name} = [", f"    {element}", f"    for {loop}", "]"]
