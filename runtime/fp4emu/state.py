"""What families of instructions remember of a thread, a warp or a CTA: typed, and known to nobody else."""

from __future__ import annotations

from typing import TypeVar, cast

_T = TypeVar("_T")


class State:
    """One object of each class that was asked for. A family keeps a class of its own here (`Copies` for `cp.async`), so
    the machine has no list of families, and the type of what comes back is that of what was asked for."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[type, object] = {}

    def of(self, kind: type[_T]) -> _T:
        """The object of a class, made without arguments when it is first asked for."""
        found = self._held.get(kind)
        if found is None:
            found = self._held[kind] = kind()
        return cast(_T, found)

    def find(self, kind: type[_T]) -> _T | None:
        """The object of a class, if there is one."""
        return cast(_T | None, self._held.get(kind))
