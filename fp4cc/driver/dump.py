"""Trees of dataclasses as indented text, for `fp4cc emit`: one field a line, spans as line:column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from fp4cc.source import Source, Span

#: A value whose text is no longer than this stays on its line.
_ONE_LINE = 88


def dump(value: object, *, skip: frozenset[str] = frozenset()) -> str:
    """The text of a value. Fields named in `skip` are left out, wherever they are."""
    return "\n".join(_lines(value, skip)) + "\n"


def _lines(value: object, skip: frozenset[str]) -> Iterator[str]:
    short = _short(value, skip)
    if short is not None and len(short) <= _ONE_LINE:
        yield short
    elif is_dataclass(value) and not isinstance(value, type):
        place = getattr(value, "span", None)
        yield type(value).__name__ + (f" @{_place(place)}" if isinstance(place, Span) else "")
        for name, item in _shown(value, skip):
            yield from _field(name, item, skip)
    elif isinstance(value, Mapping):
        yield "{}" if not value else "map"
        for key, item in value.items():
            yield from _field(str(key), item, skip)
    elif isinstance(value, tuple | list | frozenset):
        yield "list"
        for item in value:
            first, *rest = _lines(item, skip)
            yield f"  - {first}"
            yield from (f"    {line}" for line in rest)
    else:
        yield str(short)


def _field(name: str, item: object, skip: frozenset[str]) -> Iterator[str]:
    first, *rest = _lines(item, skip)
    yield f"  {name}: {first}"
    yield from (f"  {line}" for line in rest)


def _shown(value: object, skip: frozenset[str]) -> list[tuple[str, object]]:
    """The fields worth printing: not the node's own span, not what takes no part in its representation."""
    return [
        (f.name, getattr(value, f.name))
        for f in fields(value)  # type: ignore[arg-type]
        if f.repr and f.name not in skip and not (f.name == "span" and isinstance(getattr(value, f.name), Span))
    ]


def _short(value: object, skip: frozenset[str]) -> str | None:
    """The value on one line; None for a dataclass with fields of its own kind."""
    if isinstance(value, Span):
        return f"@{_place(value)}"
    if isinstance(value, Source):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        parts = [(name, _short(item, skip)) for name, item in _shown(value, skip)]
        if any(text is None for _, text in parts):
            return None
        return f"{type(value).__name__}({', '.join(f'{name}={text}' for name, text in parts)})"
    if isinstance(value, Mapping):
        parts = [(str(key), _short(item, skip)) for key, item in value.items()]
        return None if any(text is None for _, text in parts) else "{" + ", ".join(f"{k}: {v}" for k, v in parts) + "}"
    if isinstance(value, tuple | list):
        items = [_short(item, skip) for item in value]
        return None if any(text is None for text in items) else f"({', '.join(map(str, items))})"
    return repr(value)


def _place(span: Span) -> str:
    line, column = span.source.line_column(span.start)
    return f"{line}:{column}"
