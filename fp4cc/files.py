"""Reading specs: plain files of a spec's size, and for `use` only those in the folder of the main file.

Both the front end and the cache keys read through here, so that neither waits for a pipe, reads a device without end,
or looks outside the folder.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path, PurePosixPath

#: Specs over this many bytes are refused (FP1009).
MAX_BYTES = 1 << 18
#: A spec may use this many files, directly and through one another (FP1014).
MAX_FILES = 64

#: A comment, a string, or a `use` with its path, as the language's tokens are cut: a `use` in a comment is none.
_USE = re.compile(r'#[^\n]*|\buse[ \t\r]*"([^"\n]*)"|"[^"\n]*"')


def read_limited(path: Path) -> bytes:
    """The bytes of a plain file, at most MAX_BYTES + 1 of them.

    Raises OSError for what is no plain file (a folder, a pipe, a device) or cannot be read; never waits for a writer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a plain file; give the text of a pipe as `-`", str(path))
        return file.read(MAX_BYTES + 1)


def used_path(root: Path, folder: Path, written: str) -> Path | None:
    """The file that `use "written"` means in a file of `folder`; None if it is not in `root`, or leads out by a link.

    `root` is the folder of the main file. The path has no links any more.
    """
    path = PurePosixPath(written)
    if not written or path.is_absolute() or ".." in path.parts or "\\" in written or "\0" in written:
        return None
    inside = os.path.realpath(root)
    found = os.path.realpath(folder / path)
    return Path(found) if found.startswith(inside.rstrip(os.sep) + os.sep) else None


def uses_in(text: str) -> list[str]:
    """The paths that a text uses, found without parsing it (where its `use` stand wrongly, possibly too many)."""
    return [m.group(1) for m in _USE.finditer(text) if m.group(1) is not None]
