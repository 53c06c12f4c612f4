"""Rows of the text report."""

from __future__ import annotations

Row = tuple[str, str]


def us(seconds: float) -> str:
    """A time in microseconds."""
    return f"{seconds * 1e6:.2f} us"
