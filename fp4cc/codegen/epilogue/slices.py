"""Which statements of a sub-tile something needs: of a value there may be several uses, in walks of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fp4cc.codegen.fragments import Fragment, binds, fragment, uses


def needed(steps: Sequence[Fragment], names: Iterable[str]) -> Fragment:
    """Those steps, in order, whose names are among `names` or used by one that is needed.

    A step is statements that stand together.
    """
    wanted = set(names)
    kept: list[Fragment] = []
    for step in reversed(steps):
        if wanted & binds(step):
            kept.append(step)
            wanted |= uses(step)
    return fragment(*reversed(kept))
