"""The call of a function of one element for the columns of a sub-tile: two columns at a time where the target can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4cc.codegen.fragments import Call, Listed
from fp4cc.codegen.library import PACKED_TARGETS


@dataclass(frozen=True, slots=True)
class Column:
    """An argument that has a value for each column: the name of their list."""

    values: str

    @property
    def one(self) -> str:
        """It for column j."""
        return f"{self.values}[j]"

    @property
    def two(self) -> str:
        """It for columns j and j + 1."""
        return f"two({self.values}, j)"


@dataclass(frozen=True, slots=True)
class Scalar:
    """An argument that is the same for all columns."""

    one: str

    @property
    def two(self) -> str:
        """It for columns j and j + 1."""
        return self.one


Argument = Column | Scalar


def element_call(
    function: str, arguments: Sequence[Argument], lists: Sequence[str], columns: int, target: str
) -> Listed:
    """The lists of what the function returns, one for each of its results."""
    several = len(lists) > 1
    if target not in PACKED_TARGETS or not any(isinstance(argument, Column) for argument in arguments):
        before, after = ("zip(*[", "])") if several else ("[", "]")
        call = Call(function, tuple(argument.one for argument in arguments))
        return Listed(", ".join(lists), call, f"j in range({columns})", before, after)
    before, after = ("map(singles, zip(*[", "]))") if several else ("singles([", "])")
    call = Call(function, tuple(argument.two for argument in arguments))
    return Listed(", ".join(lists), call, f"j in range(0, {columns}, 2)", before, after)
