"""The front end: text to tree."""

from fp4cc.frontend.parse import parse
from fp4cc.frontend.program import Program, load, prelude

__all__ = ["Program", "load", "parse", "prelude"]
