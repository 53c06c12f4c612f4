"""What fp4num raises: every message names the thing that is wrong and what would be right."""

from __future__ import annotations


class NumericsError(ValueError):
    """Base of all errors that a caller's data or definitions can cause."""


class FormatError(NumericsError):
    """A block format that cannot mean anything, or a quantizer that does not fit it."""


class DataError(NumericsError):
    """An array of the wrong shape, dtype or size for its format."""


class LayoutError(NumericsError):
    """A scale layout that is no bijection.

    `first` and `second` are two coordinates of one atom, by name, that land on the same `offset`. For an offset
    outside the atom `second` is None. Both are None when the atom's shape does not fit its coordinates.
    """

    def __init__(
        self,
        message: str,
        *,
        first: dict[str, int] | None = None,
        second: dict[str, int] | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message)
        self.first = first
        self.second = second
        self.offset = offset
