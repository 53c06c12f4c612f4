"""Scale layouts drawn as SVG: the logical grid of an atom beside its bytes in memory, in matching colors."""

from __future__ import annotations

from colorsys import hls_to_rgb
from html import escape

from fp4cc.layout.atom import Atom, atom_of
from fp4cc.layout.text import MEMORY_LINE
from fp4num import ScaleLayout, cute

_CELL_W, _CELL_H = 38, 16
_MARGIN, _TITLE, _GAP = 48, 64, 90


def draw_svg(layout: ScaleLayout) -> str:
    """An SVG document. A cell's hue is its row, its lightness its k: the same block has one color in both views."""
    atom = atom_of(layout)
    size = max(atom.owners) + 1
    memory_lines = -(-size // MEMORY_LINE)
    memory_columns = min(size, MEMORY_LINE)
    memory_x = _MARGIN + atom.ks * _CELL_W + _GAP
    width = memory_x + memory_columns * _CELL_W + _MARGIN
    height = _TITLE + max(atom.rows, memory_lines) * _CELL_H + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="ui-monospace, monospace" font-size="10" text-anchor="middle">',
        f"<title>{escape(str(layout))}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(
            _MARGIN,
            20,
            f"{layout.name}   {cute.text(layout.atom_shape)} : {cute.text(layout.atom_stride)}",
            'text-anchor="start" font-size="13" font-weight="bold"',
        ),
        _text(_MARGIN, 38, "block (row, k) -> offset", 'text-anchor="start"'),
        _text(memory_x, 38, "offset -> row.k", 'text-anchor="start"'),
    ]
    parts.extend(_logical(atom))
    parts.extend(_memory(atom, size, memory_x))
    parts.append("</svg>\n")
    return "\n".join(parts)


def _logical(atom: Atom) -> list[str]:
    parts = [_text(_MARGIN + (k + 0.5) * _CELL_W, _TITLE - 5, f"k {k}") for k in range(atom.ks)]
    for row in range(atom.rows):
        y = _TITLE + row * _CELL_H
        parts.append(_text(_MARGIN - 6, y + 12, str(row), 'text-anchor="end"'))
        for k in range(atom.ks):
            parts.append(_cell(_MARGIN + k * _CELL_W, y, _color(atom, row, k), str(atom.offsets[row][k])))
    return parts


def _memory(atom: Atom, size: int, x: int) -> list[str]:
    parts: list[str] = []
    for offset in range(size):
        line, column = divmod(offset, MEMORY_LINE)
        y = _TITLE + line * _CELL_H
        if column == 0:
            parts.append(_text(x - 6, y + 12, str(offset), 'text-anchor="end"'))
        owner = atom.owners.get(offset)
        label, color = ("", "#eeeeee") if owner is None else (f"{owner[0]}.{owner[1]}", _color(atom, *owner))
        parts.append(_cell(x + column * _CELL_W, y, color, label))
    return parts


def _color(atom: Atom, row: int, k: int) -> str:
    hue = round(300 * row / max(atom.rows, 2))
    lightness = 88 - round(22 * k / max(atom.ks, 2))
    # Plain hexadecimal: some programs that draw SVG know no other way to write a color.
    red, green, blue = (round(255 * x) for x in hls_to_rgb(hue / 360, lightness / 100, 0.7))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _cell(x: float, y: float, color: str, label: str) -> str:
    box = f'<rect x="{x}" y="{y}" width="{_CELL_W}" height="{_CELL_H}" fill="{color}" stroke="#ffffff"/>'
    return box + _text(x + _CELL_W / 2, y + 12, label)


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{" " + attributes if attributes else ""}>{escape(text)}</text>'
