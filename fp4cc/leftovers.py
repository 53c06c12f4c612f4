"""Temporary folders that say whether their maker lives, so that what a killed process left can be removed.

A folder holds a file `alive`, on which its maker has a lock (flock(2)) that the kernel drops when the process ends,
however it ends. A folder whose lock can be taken is nobody's. The lock is taken before the file gets its name, so that
no folder looks dead while it is made; one without the file is left alone, until it is a day old where the caller says
that all folders of that name are ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType

_ALIVE, _MAKING = "alive", ".alive"
#: Seconds after which a folder without the file counts as left behind: making one takes a moment.
_OLD = 86400


class Claimed:
    """A fresh folder in `parent`, ours until it is released or the process ends."""

    def __init__(self, parent: Path | None, prefix: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(self.path / _MAKING, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(OSError):  # a file system without locks: its folders are removed by age
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (self.path / _MAKING).rename(self.path / _ALIVE)
        except OSError:
            self.remove()
            raise

    def __enter__(self) -> Claimed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    @staticmethod
    def owns(name: str) -> bool:
        """Whether a file of this name in a claimed folder is this module's own."""
        return name in (_ALIVE, _MAKING)

    def rename(self, target: Path) -> None:
        """Give the folder, without our file in it, another name. Raises OSError where there is one with files."""
        (self.path / _ALIVE).unlink()
        self.path.rename(target)

    def remove(self) -> None:
        """Remove the folder, if it has still this name, and release it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def sweep(parent: Path, prefix: str, *, ours: bool) -> int:
    """Remove the folders of that prefix whose makers are gone; how many there were.

    `ours` says that nobody else makes folders with this prefix there.
    """
    try:
        found = [entry for entry in os.scandir(parent) if entry.name.startswith(prefix)]
    except OSError:
        return 0
    removed = 0
    for entry in found:
        with contextlib.suppress(OSError):  # somebody else's, or removed in the meantime
            if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid():
                removed += _remove_dead(Path(entry.path), ours=ours)
    return removed


def _remove_dead(folder: Path, *, ours: bool) -> bool:
    try:
        descriptor = os.open(folder / _ALIVE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if not ours or time.time() - folder.stat().st_mtime < _OLD:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its maker lives
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
    return True
