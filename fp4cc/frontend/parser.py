"""The parser of units: the grammar's tables, kept between processes, and one lock around them."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, UnexpectedInput

from fp4cc.cache import cache_dir
from fp4cc.frontend.build import Builder, BuildError
from fp4cc.resources import grammar_text
from fp4cc.source import Source

#: The rules that a unit can be; `fp4cc/frontend/units.py` says which stands where.
STARTS = (
    "use", "function", "kernel_head", "layout_head", "format_head", "schedule_head",
    "statement", "layout_field", "format_field", "schedule_field",
)  # fmt: skip

_lock = threading.Lock()


@cache
def _tables() -> tuple[Lark, Builder]:
    builder = Builder()
    file = _cache_file()
    if file is not None and not _intact(file):
        try:
            file.unlink(missing_ok=True)
        except OSError:  # damaged, and in a folder that can only be read
            file = None
    lark = Lark(
        grammar_text("fp4.lark"),
        parser="lalr",
        start=list(STARTS),
        keep_all_tokens=True,
        maybe_placeholders=False,
        transformer=builder,  # type: ignore[arg-type]  # any object with a method a rule
        cache=False if file is None else str(file),
    )
    if file is not None:
        _seal(file)
    return lark, builder


def _intact(file: Path) -> bool:
    """Whether the tables are those that were written: Lark checks what they were made from, not what they are."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == file.with_suffix(".sha256").read_text("ascii")
    except (OSError, ValueError):
        return False


def _seal(file: Path) -> None:
    """Record the hash of tables that have just been written. One of half a file is met as damage, and made anew."""
    seal = file.with_suffix(".sha256")
    with contextlib.suppress(OSError):  # a cache that can only be read, or is full
        if not seal.exists() or seal.stat().st_mtime_ns < file.stat().st_mtime_ns:
            seal.write_text(hashlib.sha256(file.read_bytes()).hexdigest(), encoding="ascii")


def _cache_file() -> Path | None:
    """Where the tables are kept for the next process (Lark checks grammar and version); None if nowhere can be."""
    folder = cache_dir() / "grammar"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    # Lark reads a pickle from there: only a folder that nobody else can write is trusted.
    status = folder.stat()
    own = not hasattr(status, "st_uid") or status.st_uid == _user()
    return folder / "tables" if own and not status.st_mode & 0o022 else None


def _user() -> int:
    import os

    return os.getuid()


@contextmanager
def session(source: Source, text: str) -> Generator[UnitParser]:
    """A parser for the units of one source, whose `text` may have blanks for some of it; other threads wait."""
    with _lock:
        lark, builder = _tables()
        builder.source = source
        yield UnitParser(lark, builder, text)


class UnitParser:
    """Parses stretches of one source."""

    def __init__(self, lark: Lark, builder: Builder, text: str) -> None:
        self._lark = lark
        self._builder = builder
        self._text = text

    def parse(self, start: str, begin: int, end: int) -> Any:
        """The node of a unit. Raises lark's UnexpectedInput, whose places count from `begin`, or BuildError."""
        # Not lark's TextSlice, which counts the newlines before each unit anew: quadratic in the size of the file.
        self._builder.offset = begin
        return self._lark.parse(self._text[begin:end], start=start)


__all__ = ["STARTS", "BuildError", "UnexpectedInput", "UnitParser", "session"]
