"""Specs as the user names them: a path, `-`, or the text itself; and the files they reach by `use`."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from fp4cc.files import MAX_BYTES, MAX_FILES, read_limited, used_path, uses_in

#: How a text given directly is called in diagnostics.
TEXT_NAME = "<text>"


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
    cannot be read or is no plain file, and DiagnosticError for what is not UTF-8 or larger than a spec may be.
    """
    if isinstance(path_or_text, str):
        if path_or_text == "-":
            return Spec("<stdin>", _decode(sys.stdin.buffer.read(MAX_BYTES + 1), "<stdin>"), Path.cwd())
        if "\n" in path_or_text or not path_or_text.endswith(".fp4"):
            return Spec(TEXT_NAME, path_or_text, None)
    path = Path(path_or_text)
    name = os.fsencode(path).decode("utf-8", "replace")  # file names need not be text; this goes into files that are
    return Spec(name, _decode(read_limited(path), name), path.parent)


def spec_at(place: str) -> Spec:
    """The spec in a file of any name, or from standard input (`-`). Raises what `read_spec` raises."""
    return read_spec(place if place == "-" else Path(place))


def _decode(data: bytes, name: str) -> str:
    if len(data) <= MAX_BYTES:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    from fp4cc.frontend.program import decode

    return decode(data, name).text  # raises, with the place


def used_hashes(spec: Spec) -> dict[str, str]:
    """The SHA-256 of every file that `use` reaches, by its path from the spec's folder; none where one is not there."""
    return {
        PurePath(name).as_posix(): hashlib.sha256(data).hexdigest() for name, data in (used_files(spec) or {}).items()
    }


def used_files(spec: Spec) -> dict[str, bytes] | None:
    """Every file that `use` reaches, by its path from the spec's folder; None if one of them cannot be read.

    Found by pattern, not by parsing: this is for cache keys, which must not need the parser. What the front end refuses
    (paths out of the folder, pipes, too large or too many files) makes it None: the front end will say why.
    """
    if spec.folder is None:
        return None if uses_in(spec.text) else {}
    root = Path(os.path.realpath(spec.folder))
    found: dict[str, bytes] = {}
    waiting = [(root, spec.text)]
    while waiting:
        folder, text = waiting.pop()
        for name in uses_in(text):
            path = used_path(root, folder, name)
            key = os.path.relpath(folder / name, root)
            if key in found:
                continue
            try:
                data = None if path is None else read_limited(path)
            except (OSError, ValueError):
                data = None
            if path is None or data is None or len(data) > MAX_BYTES or len(found) == MAX_FILES:
                return None
            found[key] = data
            waiting.append((path.parent, data.decode("utf-8", "replace")))
    return found
