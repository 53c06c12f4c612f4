"""Entries on disk: a folder of files, made elsewhere and renamed into place, with its meta file written last.

An entry counts only if its meta file is there, bears its own SHA-256 and the entry's key, and every file has the
SHA-256 that it records. Anything else is removed and built again: a cache may lose work but never give back a wrong
byte. Beyond a size, the entries that were used least recently are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
import time
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from fp4cc.cache.keys import Json, digest
from fp4cc.leftovers import Claimed, sweep

_META = "meta.json"
#: Changes when entries are laid out differently; older ones are then never found, until the cache is cleared.
_LAYOUT = "v2"
_LAYOUTS = ("v1", _LAYOUT)
_LOCKS, _NEW, _OLD = "locks", ".new-", ".old-"
#: What FP4CC_CACHE_SIZE may be, and is if it is not set.
_SIZE = re.compile(r"(\d{1,12})([KMGT]?)B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
DEFAULT_SIZE = 2 << 30
#: A full cache is emptied to this share of its size, so that the next entries fit without looking again.
_SHARE = 0.9


def cache_dir() -> Path:
    """FP4CC_CACHE_DIR, or the user's cache folder (XDG_CACHE_HOME on Linux)."""
    override = os.environ.get("FP4CC_CACHE_DIR")
    if override:
        return Path(override).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("fp4cc", appauthor=False)


def cache_limit() -> int:
    """FP4CC_CACHE_SIZE in bytes, such as 500M or 10G; 2G where it is not set or cannot be read (which is said)."""
    text = os.environ.get("FP4CC_CACHE_SIZE", "")
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        if text:
            warnings.warn(f"fp4cc: FP4CC_CACHE_SIZE={text} is no size such as 500M or 10G; it is 2G", stacklevel=2)
        return DEFAULT_SIZE
    return int(found[1]) * _UNITS[found[2].upper()]


@dataclass(frozen=True, slots=True)
class Entry:
    """Files by name, and what was recorded about them."""

    files: Mapping[str, bytes]
    info: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Usage:
    """The number of entries, their bytes, and the temporary folders beside them, live ones included."""

    entries: int
    size: int
    temporary: int


class Store:
    """The cache at one folder. Safe for threads and processes that share it."""

    def __init__(self, root: Path | None = None, limit: int | None = None) -> None:
        self.base = cache_dir() if root is None else root
        self.root = self.base / _LAYOUT
        self._limit = limit

    @property
    def limit(self) -> int:
        """The bytes that entries may take."""
        return cache_limit() if self._limit is None else self._limit

    def get(self, key: str) -> Entry | None:
        """The entry of a key, or None. A damaged entry is removed and counts as absent."""
        folder = self._folder(key)
        try:
            text = (folder / _META).read_bytes()
        except OSError:
            if folder.is_dir():  # an entry that lost its meta file
                self._remove(folder)
            return None
        try:
            meta = _checked_meta(text, key)
            hashes = cast("Mapping[str, str]", meta["files"])
            files = {name: (folder / name).read_bytes() for name in hashes}
            if any(_sha256(data) != hashes[name] for name, data in files.items()):
                raise ValueError("a file differs from its hash")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            self._remove(folder)
            return None
        with contextlib.suppress(OSError):  # a cache that can only be read
            os.utime(folder / _META)
        return Entry(files, cast("Mapping[str, Json]", meta["info"]))

    def put(self, key: str, files: Mapping[str, bytes], info: Mapping[str, Json] | None = None) -> Entry:
        """Store an entry and give it back. If another process was first, its entry stays. Raises OSError."""
        folder = self._folder(key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        content: dict[str, Json] = {
            "key": key,
            "files": {name: _sha256(data) for name, data in files.items()},
            "info": dict(info or {}),
        }
        meta = json.dumps({**content, "sha256": digest(content)}, indent=1).encode()
        with Claimed(folder.parent, _NEW) as temporary:
            for name, data in files.items():
                _write(temporary.path / name, data)
            _write(temporary.path / _META, meta)
            _sync_folder(temporary.path)
            try:
                temporary.rename(folder)
            except OSError:
                if not (folder / _META).is_file():
                    raise
            else:
                _sync_folder(folder.parent)
        self._added(sum(map(len, files.values())) + len(meta), folder)
        return Entry(dict(files), dict(info or {}))

    @contextmanager
    def lock(self, key: str) -> Generator[None]:
        """Hold the key against other processes, so that one of them builds and the others wait for it.

        The lock files are 4096 in number and stay: removing one while somebody waits for it would let two in.
        """
        from filelock import FileLock

        locks = self.root / _LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{key[:3]}.lock"):
            yield

    def usage(self) -> Usage:
        """What is in the cache."""
        entries = self._entries()
        temporary = sum(
            1 for group in _folders(self.root) for path in _folders(group) if path.name.startswith((_NEW, _OLD))
        )
        return Usage(len(entries), sum(size for _, size, _ in entries), temporary)

    def clear(self) -> Usage:
        """Remove all entries, those of older versions too, and what killed processes left; what there was.

        A folder that another process is writing stays; so do the lock files of this version.
        """
        before = self.usage()
        for layout in _LAYOUTS:
            for group in _folders(self.base / layout):
                if group.name == _LOCKS:
                    continue
                self._sweep(group)
                for entry in _folders(group):
                    if not entry.name.startswith((_NEW, _OLD)):
                        self._remove(entry)
                with contextlib.suppress(OSError):  # it holds what somebody is writing
                    group.rmdir()
        for rest in ("v1", "grammar"):  # the parser's tables (fp4cc.frontend.parser), which it makes again
            shutil.rmtree(self.base / rest, ignore_errors=True)
        _known.pop(str(self.root), None)
        return before

    # the size

    def _added(self, size: int, folder: Path) -> None:
        """Count an entry, and remove others where the cache has become too large.

        The total is found by looking once a process; what other processes add meanwhile is seen by the next one.
        """
        with _lock:
            total = _known.get(str(self.root))
            if total is None:
                for group in _folders(self.root):
                    self._sweep(group)
                total = sum(size for _, size, _ in self._entries())
            else:
                total += size
            if total > self.limit:
                total = self._evict(folder)
            _known[str(self.root)] = total

    def _evict(self, keep: Path) -> int:
        """Remove entries, those used least recently first; the bytes that are left."""
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        for _, size, folder in entries:
            if total <= self.limit * _SHARE:
                break
            if folder != keep:
                self._remove(folder)
                total -= size
        return total

    def _entries(self) -> list[tuple[float, int, Path]]:
        """The last use, the bytes and the folder of each entry."""
        found: list[tuple[float, int, Path]] = []
        for group in _folders(self.root):
            for folder in _folders(group):
                if folder.name.startswith("."):
                    continue
                with contextlib.suppress(OSError):  # removed in the meantime
                    files = [file.stat(follow_symlinks=False) for file in os.scandir(folder)]
                    used = max((status.st_mtime for status in files), default=0.0)
                    found.append((used, sum(status.st_size for status in files), folder))
        return found

    def _sweep(self, group: Path) -> None:
        """Remove what killed processes left: entries that were being written, or removed."""
        sweep(group, _NEW, ours=True)
        for path in _folders(group):
            if path.name.startswith(_OLD):
                shutil.rmtree(path, ignore_errors=True)

    def _remove(self, folder: Path) -> None:
        """Remove an entry at once as far as readers can see: none finds half of it."""
        away = folder.with_name(f"{_OLD}{os.getpid()}-{time.monotonic_ns()}")
        with contextlib.suppress(OSError):  # it is not there any more, or the cache can only be read
            folder.rename(away)
        shutil.rmtree(away, ignore_errors=True)

    def _folder(self, key: str) -> Path:
        return self.root / key[:2] / key[2:]


#: The bytes in each cache that this process has written to.
_known: dict[str, int] = {}
_lock = threading.Lock()


def _checked_meta(text: bytes, key: str) -> dict[str, Json]:
    """The meta file's content, if it is what was written for this key; ValueError, KeyError or TypeError otherwise."""
    meta = json.loads(text)
    recorded = meta.pop("sha256")
    if recorded != digest(meta) or meta["key"] != key:
        raise ValueError("the meta file differs from its hash")
    return meta


def _folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


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
