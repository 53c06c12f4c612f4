"""Specs as the user names them: a path, `-`, or the text itself; and the files they reach by `use`."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

#: How a text given directly is called in diagnostics.
TEXT_NAME = "<text>"
#: Far over any spec; the front end has its own, tighter limit with a better message.
_MAX_BYTES = 16 << 20
_USE = re.compile(r'\buse[ \t]+"([^"\n]*)"')


@dataclass(frozen=True, slots=True)
class Spec:
    """A spec's text. `name` is what diagnostics print, `folder` what `use` is relative to (None: it cannot be used)."""

    name: str
    text: str = field(repr=False)
    folder: Path | None

    @property
    def base_name(self) -> str:
        """The name without its folder: what goes into files, so that they do not depend on where they were built."""
        return Path(self.name).name


def read_spec(path_or_text: str | os.PathLike[str]) -> Spec:
    """The spec at a path, from standard input (`-`), or the text itself.

    A string is a path if it has one line and ends in `.fp4`; anything else is text. Raises OSError for a path that
    cannot be read and DiagnosticError for a file that is not UTF-8.
    """
    if isinstance(path_or_text, str):
        if path_or_text == "-":
            return Spec("<stdin>", _decode(sys.stdin.buffer.read(_MAX_BYTES), "<stdin>"), Path.cwd())
        if "\n" in path_or_text or not path_or_text.endswith(".fp4"):
            return Spec(TEXT_NAME, path_or_text, None)
    path = Path(path_or_text)
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES)
    return Spec(str(path), _decode(data, str(path)), path.parent)


def spec_at(place: str) -> Spec:
    """The spec in a file of any name, or from standard input (`-`). Raises what `read_spec` raises."""
    return read_spec(place if place == "-" else Path(place))


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        from fp4cc.frontend.program import decode

        return decode(data, name).text  # raises, with the place


def used_files(spec: Spec) -> dict[str, bytes] | None:
    """Every file that `use` may reach, by its path from the spec's folder; None if one of them cannot be read.

    Found by pattern, not by parsing, and so possibly too many (a `use` in a comment): this is for cache keys, which
    must not need the parser.
    """
    if spec.folder is None:
        return {} if not _USE.search(spec.text) else None
    found: dict[str, bytes] = {}
    waiting = [(spec.folder, spec.text)]
    while waiting:
        folder, text = waiting.pop()
        for name in _USE.findall(text):
            path = folder / name
            key = os.path.relpath(path, spec.folder)
            if key in found:
                continue
            try:
                found[key] = path.read_bytes()
            except (OSError, ValueError):
                return None
            waiting.append((path.parent, found[key].decode("utf-8", "replace")))
    return found
