"""Names for the values of a spec in an emitted kernel: the spec's own, unless the file uses them otherwise."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable


class Names:
    """Hands out Python names, each once; a name that is taken gets a number."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {*taken, *dir(builtins), *keyword.kwlist, *keyword.softkwlist}

    def new(self, wanted: str) -> str:
        """`wanted`, or the first free one of wanted2, wanted3, ...."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}{number}"
        self._taken.add(name)
        return name
