"""Names for the values of a spec in an emitted kernel: the spec's own, unless the file uses them otherwise."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable


class Names:
    """Hands out Python names, each once; a name that is taken gets underscores."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {*taken, *dir(builtins), *keyword.kwlist, *keyword.softkwlist}

    def new(self, wanted: str) -> str:
        """`wanted`, or the first free name that starts with it."""
        name = wanted
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def numbered(self, stem: str) -> str:
        """The first free name of stem1, stem2, ..."""
        number = 1
        while f"{stem}{number}" in self._taken:
            number += 1
        return self.new(f"{stem}{number}")
