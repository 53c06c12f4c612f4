"""The front end: text to tree."""

from fp4cc.frontend.parse import parse

__all__ = ["parse"]
