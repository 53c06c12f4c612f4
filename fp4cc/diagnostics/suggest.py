"""Words for help lines: the nearest known name, and lists."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None if none is near."""
    candidates = list(dict.fromkeys(known))
    folded = {c.casefold(): c for c in reversed(candidates)}
    if name.casefold() in folded:
        return folded[name.casefold()]
    # A third of a name more or less is another word: `softmax` is no slip for `max`.
    near = [c for c in candidates if abs(len(c) - len(name)) <= max(1, max(len(c), len(name)) // 3)]
    found = get_close_matches(name[:80], near, n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A help line that offers the nearest known name, or "" if none is near."""
    found = nearest(name, known)
    return f"did you mean `{found}`?" if found else ""


def listed(names: Iterable[str], conjunction: str = "or") -> str:
    """`a`, `b` or `c`, each in backquotes."""
    quoted = [f"`{n}`" for n in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} {conjunction} {quoted[-1]}"
