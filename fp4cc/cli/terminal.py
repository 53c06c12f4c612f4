"""What the terminal can show: color, progress, tables."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO

#: Seconds before anything is shown: quick work stays silent.
_PATIENCE = 0.7
_FRAME = 0.1
_SIGNS = "|/-\\"
_BAR = 20


def ready_streams() -> None:
    """Make the standard streams fit for any text, and give closed ones (`fp4cc ... 2>&-`) a way that leads nowhere.

    Else the next file that is opened would get the number of a stream, and what others print would go there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # until the process ends
        elif mode == "w" and isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # a file's name, or a sign that a terminal does not have


def wants_color(stream: IO[str]) -> bool:
    """Color only on a terminal, and never with NO_COLOR set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width_of(stream: IO[str]) -> int | None:
    """Columns to wrap at: those of the terminal; None (no wrapping) where the stream is none."""
    return shutil.get_terminal_size((120, 24)).columns if stream.isatty() else None


def bar(done: int, total: int) -> str:
    """How far it is: `[######..............] 12 of 40`."""
    full = _BAR * done // max(total, 1)
    return f"[{'#' * full}{'.' * (_BAR - full)}] {done} of {total}"


class Progress:
    """A line on standard error that names the current step and its seconds; only on a terminal, erased at the end."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._wanted = enabled
        self._enabled = enabled and sys.stderr.isatty()
        self._lock = threading.Lock()
        self._what = ""
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def step(self, what: str) -> None:
        """Name what is being done from now on."""
        self._what = what
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """A line of its own on standard error, above the one that is drawn; nothing where progress is not wanted."""
        if self._wanted:
            with self._lock:
                sys.stderr.write(f"\r\x1b[2K{text}\n" if self._enabled else f"{text}\n")
                sys.stderr.flush()

    def _draw(self) -> None:
        shown = False
        frame = 0
        while not self._stop.wait(_FRAME):
            seconds = time.monotonic() - self._started
            if seconds < _PATIENCE or not self._what:
                continue
            with self._lock:
                sys.stderr.write(f"\r\x1b[2K{_SIGNS[frame % len(_SIGNS)]} {self._what} ({seconds:.0f} s)")
                sys.stderr.flush()
            shown = True
            frame += 1
        if shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    def start(self) -> None:
        """Begin drawing, on a terminal."""
        if self._enabled:
            self._thread = threading.Thread(target=self._draw, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Erase the line."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


@contextmanager
def progress(*, enabled: bool = True) -> Generator[Progress]:
    """A progress line for the duration of a `with`."""
    line = Progress(enabled=enabled)
    line.start()
    try:
        yield line
    finally:
        line.stop()


def definitions(rows: Sequence[tuple[str, str]], *, indent: str = "  ") -> list[str]:
    """Lines of a name and its text, the texts wrapped to the terminal in a column of their own."""
    column = max((len(name) for name, _ in rows), default=0) + 2
    room = max(shutil.get_terminal_size((120, 24)).columns - len(indent) - column, 40)
    lines: list[str] = []
    for name, text in rows:
        wrapped = textwrap.wrap(text, room, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for i, line in enumerate(wrapped or [""]):
            lines.append(f"{indent}{'' if i else name:<{column}}{line}".rstrip())
    return lines


def table(rows: Sequence[Sequence[str]], header: Sequence[str], *, indent: str = "") -> list[str]:
    """Lines of left-aligned columns under a header; columns whose cells are all numbers are right-aligned."""
    everything = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in everything) for i in range(len(header))]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(widths))]
    return [
        (
            indent + "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        ).rstrip()
        for row in everything
    ]


def _is_number(cell: str) -> bool:
    head = cell.replace(",", "").split(" ")[0].rstrip("%")
    try:
        float(head)
    except ValueError:
        return cell in ("", "-")
    return True
