"""Schedule blocks as text."""

from __future__ import annotations

from fp4cc.passes.choice.cases import Fields

_WORDS = {True: "yes", False: "no"}


def lines(fields: Fields) -> tuple[str, ...]:
    """The fields of a block as the language writes them: `tile 128 x 64 x 256`."""
    return tuple(
        f"{name} {' x '.join(_WORDS[v] if isinstance(v, bool) else str(v) for v in values)}"
        for name, values in fields.items()
    )
