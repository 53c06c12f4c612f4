"""Scale layouts and block formats for people: described in words, drawn as text and as SVG."""

from __future__ import annotations

from fp4cc.layout.describe import describe_format, describe_layout, describe_tensor
from fp4cc.layout.svg import draw_svg
from fp4cc.layout.text import draw_atom, draw_memory

__all__ = ["describe_format", "describe_layout", "describe_tensor", "draw_atom", "draw_memory", "draw_svg"]
