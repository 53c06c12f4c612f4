"""Lines of generated code, and which of them something needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fp4cc.codegen.context import mentions


@dataclass(frozen=True, slots=True)
class Step:
    """Lines that stand together and give values to `names`."""

    names: tuple[str, ...]
    lines: tuple[str, ...]


def needed(steps: Sequence[Step], names: Iterable[str]) -> list[str]:
    """The lines of those steps, in order, that names and each other need."""
    wanted = set(names)
    kept: list[Step] = []
    for step in reversed(steps):
        if wanted.intersection(step.names):
            kept.append(step)
            text = "\n".join(step.lines)
            wanted.update(name for other in steps for name in other.names if mentions(text, name))
    return [line for step in reversed(kept) for line in step.lines]
