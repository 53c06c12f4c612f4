"""Entries on disk: a folder of files, made elsewhere and renamed into place, with its meta file written last.

An entry counts only if its meta file is there and every file has the size and SHA-256 that it records. Anything else
is removed and built again: a cache may lose work but never give back a wrong byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fp4cc.cache.keys import Json

_META = "meta.json"
#: Changes when entries are laid out differently; older ones are then simply never found.
_LAYOUT = "v1"


def cache_dir() -> Path:
    """FP4CC_CACHE_DIR, or the user's cache folder (XDG_CACHE_HOME on Linux)."""
    override = os.environ.get("FP4CC_CACHE_DIR")
    if override:
        return Path(override).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("fp4cc", appauthor=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """Files by name, and what was recorded about them."""

    files: Mapping[str, bytes]
    info: Mapping[str, Json] = field(default_factory=dict[str, Json])


class Store:
    """The cache at one folder. Safe for threads and processes that share it."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (cache_dir() if root is None else root) / _LAYOUT

    def get(self, key: str) -> Entry | None:
        """The entry of a key, or None. A damaged entry is removed and counts as absent."""
        folder = self._folder(key)
        try:
            meta = json.loads((folder / _META).read_text(encoding="utf-8"))
            files = {name: (folder / name).read_bytes() for name in meta["files"]}
            intact = all(_sha256(data) == meta["files"][name] for name, data in files.items())
        except FileNotFoundError:
            # No entry; or one that another process is replacing, or that lost a file.
            intact, files, meta = False, {}, None
        except (OSError, ValueError, KeyError, TypeError):
            intact, files, meta = False, {}, None
        if intact and meta is not None:
            return Entry(files, meta["info"])
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or not there
        return None

    def put(self, key: str, files: Mapping[str, bytes], info: Mapping[str, Json] | None = None) -> Entry:
        """Store an entry and give it back. If another process was first, its entry stays. Raises OSError."""
        folder = self._folder(key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            for name, data in files.items():
                _write(temporary / name, data)
            meta = {"files": {name: _sha256(data) for name, data in files.items()}, "info": dict(info or {})}
            _write(temporary / _META, json.dumps(meta, indent=1).encode())
            _sync_folder(temporary)
            try:
                temporary.rename(folder)
            except OSError:
                if not (folder / _META).is_file():
                    raise
            else:
                _sync_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return Entry(dict(files), dict(info or {}))

    @contextmanager
    def lock(self, key: str) -> Generator[None]:
        """Hold the key against other processes, so that one of them builds and the others wait for it."""
        from filelock import FileLock

        folder = self._folder(key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            yield

    def usage(self) -> tuple[int, int]:
        """The number of entries and of bytes."""
        entries = 0
        size = 0
        for path in self.root.rglob("*"):
            if path.is_file():
                size += path.stat().st_size
                entries += path.name == _META
        return entries, size

    def _folder(self, key: str) -> Path:
        return self.root / key[:2] / key[2:]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
