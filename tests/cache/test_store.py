"""The cache gives back what was put, never a damaged byte, and survives processes that race."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fp4cc.cache import Store, cache_dir, compiler_fingerprint, digest

KEY = digest({"kernel": "text"})
FILES = {"k.cubin": b"\x7fELF", "k.ptx": b".version 9.0\n"}


def _folder(store: Store) -> Path:
    return store.root / KEY[:2] / KEY[2:]


def test_an_entry_comes_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.get(KEY) is None
    store.put(KEY, FILES, {"registers": 40})
    entry = store.get(KEY)
    assert entry is not None
    assert entry.files == FILES
    assert entry.info == {"registers": 40}
    assert store.usage()[0] == 1


@pytest.mark.parametrize("name", ["k.cubin", "k.ptx"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_file_makes_the_entry_absent_and_it_can_be_put_again(tmp_path: Path, name: str, damage: str) -> None:
    store = Store(tmp_path)
    store.put(KEY, FILES)
    path = _folder(store) / name
    if damage == "flip":
        path.write_bytes(bytes([FILES[name][0] ^ 1]) + FILES[name][1:])
    elif damage == "truncate":
        path.write_bytes(FILES[name][:-1])
    else:
        path.unlink()
    assert store.get(KEY) is None
    store.put(KEY, FILES)
    entry = store.get(KEY)
    assert entry is not None
    assert entry.files == FILES


@pytest.mark.parametrize(
    "meta", ["", "{", "[]", "{}", '{"files": 3, "info": {}}', '{"files": {"../x": "0"}, "info": {}}']
)
def test_a_damaged_meta_file_makes_the_entry_absent(tmp_path: Path, meta: str) -> None:
    store = Store(tmp_path)
    store.put(KEY, FILES)
    (_folder(store) / "meta.json").write_text(meta)
    assert store.get(KEY) is None
    assert not _folder(store).exists()


def test_an_entry_without_its_commit_marker_does_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = _folder(store)
    folder.mkdir(parents=True)
    (folder / "k.ptx").write_bytes(b"half written")
    assert store.get(KEY) is None


def test_the_first_of_two_writers_wins(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(KEY, FILES, {"who": "first"})
    store.put(KEY, FILES, {"who": "second"})
    entry = store.get(KEY)
    assert entry is not None
    assert entry.info == {"who": "first"}
    assert [p.name for p in _folder(store).parent.iterdir()] == [KEY[2:]]


def test_the_lock_keeps_another_process_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    child = f"""
import sys
from pathlib import Path
from filelock import Timeout, FileLock
path = Path({str(_folder(store))!r} + ".lock")
try:
    FileLock(path).acquire(timeout=0.05)
except Timeout:
    sys.exit(7)
"""
    with store.lock(KEY):
        assert subprocess.run([sys.executable, "-c", child], check=False).returncode == 7
    assert subprocess.run([sys.executable, "-c", child], check=False).returncode == 0


def test_the_folder_can_be_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FP4CC_CACHE_DIR", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    monkeypatch.delenv("FP4CC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "fp4cc"


def test_keys_depend_on_content_only() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(compiler_fingerprint()) == 64


def test_meta_records_the_hash_of_each_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(KEY, FILES)
    meta = json.loads((_folder(store) / "meta.json").read_text())
    assert set(meta["files"]) == set(FILES)
