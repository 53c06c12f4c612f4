"""Diagnostics as text, for people, and as JSON, for machines.

The text is stable (snapshots hold it); color is ANSI and only on request, so that a pipe or a file never has it.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fp4cc.diagnostics.core import Diagnostic, Label
from fp4cc.source import Source, Span

_TAB = 4
_WIDTH = 160  # columns of a source line that are shown; longer ones are cut around the span
_NARROWEST = 40  # columns: narrower terminals get lines of this width
_MOST = 128  # diagnostics that are shown as text; JSON has all of them

_RED, _YELLOW, _BLUE, _CYAN, _BOLD, _RESET = (
    "\x1b[1;31m",
    "\x1b[1;33m",
    "\x1b[1;34m",
    "\x1b[1;36m",
    "\x1b[1m",
    "\x1b[0m",
)


def render(diagnostics: Iterable[Diagnostic], *, color: bool = False, width: int | None = None) -> str:
    """Diagnostics as text, a blank line between them, with a closing count of errors. After 128 the rest is counted.

    `width`: columns of the terminal to wrap at; without one lines are as long as they are, the same everywhere.
    """
    found = tuple(diagnostics)
    paint = _Paint(color, None if width is None else max(width, _NARROWEST))
    blocks = ["\n".join(_block(d, paint)) for d in found[:_MOST]]
    if len(found) > _MOST:
        blocks.append(f"... and {len(found) - _MOST} more")
    errors = sum(d.severity == "error" for d in found)
    if errors:
        blocks.append(paint(_BOLD, f"{errors} error{'s' if errors > 1 else ''}"))
    return "\n\n".join(blocks) + "\n" if blocks else ""


def to_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, object]]:
    """Diagnostics as JSON-ready objects; offsets are in characters, lines and columns count from one."""
    return [
        {
            "code": d.code,
            "severity": d.severity,
            "title": d.title,
            "labels": [{**_json_span(label.span), "text": label.text} for label in d.labels],
            "notes": list(d.notes),
            "help": list(d.help),
        }
        for d in diagnostics
    ]


def _json_span(span: Span) -> Mapping[str, object]:
    line, column = span.source.line_column(span.start)
    end_line, end_column = span.source.line_column(span.end)
    return {
        "file": span.source.name,
        "start": span.start,
        "end": span.end,
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
    }


@dataclass(frozen=True, slots=True)
class _Paint:
    """How text is shown: in color or not, and wrapped at a width or not."""

    color: bool
    width: int | None = None

    def wrapped(self, text: str, indent: int) -> list[str]:
        """The lines of a text whose first starts at column `indent`, as all others will."""
        if self.width is None or indent + len(text) <= self.width:
            return [text]
        room = max(self.width - indent, _NARROWEST // 2)
        return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [text]

    def __call__(self, style: str, text: str) -> str:
        return f"{style}{text}{_RESET}" if self.color and text else text


def _block(d: Diagnostic, paint: _Paint) -> list[str]:
    tint = _RED if d.severity == "error" else _YELLOW
    mark = f"{d.severity}[{d.code}]"
    head, *rest = paint.wrapped(_printable(d.title), len(mark) + 2)
    lines = [
        f"{paint(tint, mark)}{paint(_BOLD, f': {head}')}",
        *(" " * (len(mark) + 2) + paint(_BOLD, r) for r in rest),
    ]
    numbers = [label.span.source.line_column(label.span.start)[0] for label in d.labels]
    gutter = max((len(str(n)) for n in numbers), default=1) + 1
    pad = " " * gutter
    for source, labels in _by_source(d.labels):
        arrow = "-->" if source is d.labels[0].span.source else ":::"
        first = next(label for label in d.labels if label.span.source is source)
        lines.append(f"{pad}{paint(_BLUE, arrow)} {_printable(str(first.span))}")
        lines.append(f"{pad} {paint(_BLUE, '|')}")
        lines.extend(_excerpt(source, labels, d.labels[0], gutter, tint, paint))
    for kind, remarks in (("note", d.notes), ("help", d.help)):
        for remark in remarks:
            parts = _printable(remark).split("\n")
            head, *rest = [line for part in parts for line in paint.wrapped(part, len(pad) + 9)]
            lines.append(f"{pad} {paint(_BLUE, '=')} {paint(_CYAN if kind == 'help' else _BOLD, f'{kind}:')} {head}")
            lines.extend(f"{pad}         {line}" for line in rest)
    return lines


def _by_source(labels: tuple[Label, ...]) -> list[tuple[Source, list[Label]]]:
    groups: dict[int, tuple[Source, list[Label]]] = {}
    for label in labels:
        groups.setdefault(id(label.span.source), (label.span.source, []))[1].append(label)
    return list(groups.values())


def _excerpt(source: Source, labels: list[Label], primary: Label, gutter: int, tint: str, paint: _Paint) -> list[str]:
    by_line: dict[int, list[Label]] = {}
    for label in labels:
        by_line.setdefault(source.line_column(label.span.start)[0], []).append(label)
    lines: list[str] = []
    bar = paint(_BLUE, "|")
    previous = None
    for number in sorted(by_line):
        if previous is not None and number > previous + 1:
            lines.append(f"{' ' * gutter} {paint(_BLUE, '...' if number > previous + 2 else '|')}")
        previous = number
        raw = source.line_text(number)
        spans = [_columns(source, number, label.span, raw) for label in by_line[number]]
        room = _WIDTH if paint.width is None else min(paint.width - gutter - 3, _WIDTH)
        text, shift = _cut(_expand(raw), min(s for s, _ in spans), room)
        lines.append(f"{paint(_BLUE, str(number).rjust(gutter))} {bar} {text}".rstrip())
        # The rightmost label first, so that remarks do not cross the marks to their left.
        for label, (start, end) in sorted(zip(by_line[number], spans, strict=True), key=lambda pair: -pair[1][0]):
            start, end = max(start - shift, 0), min(end - shift, max(len(text), 1))
            mark = ("^" if label is primary else "-") * max(end - start, 1)
            style = tint if label is primary else _BLUE
            lines.extend(
                _marked(mark, _printable(label.text), start, f"{' ' * gutter} {bar} ", gutter + 3, style, paint)
            )
    return lines


def _marked(mark: str, text: str, start: int, edge: str, indent: int, style: str, paint: _Paint) -> list[str]:
    """The mark under a span with its remark beside it; below it where the terminal is too narrow."""
    beside = indent + start + len(mark) + 1
    if paint.width is None or beside + len(text) <= paint.width:
        return [edge + " " * start + paint(style, f"{mark} {text}".rstrip())]
    at = min(start, max(paint.width - indent - _NARROWEST // 2, 0))
    below = [edge + " " * at + paint(style, line) for line in paint.wrapped(text, indent + at)]
    return [edge + " " * start + paint(style, mark), *below]


def _columns(source: Source, number: int, span: Span, raw: str) -> tuple[int, int]:
    """The span's first line as display columns [start, end)."""
    begin = source.line_starts[number - 1]
    start = span.start - begin
    end = min(span.end - begin, len(raw))
    return len(_expand(raw[:start])), len(_expand(raw[: max(end, start)]))


def _expand(text: str) -> str:
    """Tabs to blanks, control characters to visible signs, wide characters followed by a filler blank."""
    text = text.rstrip("\r")
    if text.isascii() and text.isprintable():
        return text
    out: list[str] = []
    columns = 0
    for c in text:
        columns += len(out[-1]) if out else 0
        if c == "\t":
            out.append(" " * (_TAB - columns % _TAB))
        elif unicodedata.east_asian_width(c) in "WF":
            out.append(c + "\u200b")  # a wide character fills two columns: count it as two
        else:
            out.append(_visible(c))
    return "".join(out)


def _visible(c: str) -> str:
    if c < " ":
        return chr(0x2400 + ord(c))
    if c == "\x7f":
        return "\u2421"
    return "\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else c


def _printable(text: str) -> str:
    return "".join(c if c == "\n" else _visible(c) for c in text)


def _cut(text: str, start: int, width: int) -> tuple[str, int]:
    """The part of a long line around column `start`, and how many columns were dropped on its left."""
    if len(text) <= width:
        return text, 0
    shift = max(0, min(start - width // 3, len(text) - width))
    return text[shift : shift + width], shift
