"""The cache gives back what was put, never a damaged byte, and survives processes that race."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fp4cc.cache import DEFAULT_SIZE, Store, cache_dir, cache_limit, compiler_fingerprint, digest
from fp4cc.cache import store as store_module

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
    assert store.usage().entries == 1


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
path = Path({str(store.root / "locks" / KEY[:3])!r} + ".lock")
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


def test_no_bit_of_an_entry_can_be_wrong(tmp_path: Path) -> None:
    """Flipped anywhere, in the meta file or another, it gives the entry as it was, or none."""
    store = Store(tmp_path)
    info = {"kernels": [{"name": "k", "files": ["k.cubin", "k.ptx"], "python": []}]}
    good = store.put(KEY, FILES, info)  # type: ignore[arg-type]
    whole = {path.name: path.read_bytes() for path in _folder(store).iterdir()}
    rng = random.Random(0)
    for name, content in whole.items():
        for bit in rng.sample(range(len(content) * 8), min(400, len(content) * 8)):
            _folder(store).mkdir(exist_ok=True)
            for each, data in whole.items():
                (_folder(store) / each).write_bytes(data)
            spoiled = bytearray(content)
            spoiled[bit // 8] ^= 1 << bit % 8
            (_folder(store) / name).write_bytes(spoiled)
            found = store.get(KEY)
            assert found is None or found == good, f"{name}, bit {bit}"
            assert found is not None or not _folder(store).exists()
    store.put(KEY, FILES, info)  # type: ignore[arg-type]
    assert store.get(KEY) == good


def test_an_entry_in_another_ones_place_does_not_count(tmp_path: Path) -> None:
    store, other = Store(tmp_path), digest("another")
    store.put(KEY, FILES)
    (store.root / other[:2]).mkdir(exist_ok=True)
    shutil.copytree(_folder(store), store.root / other[:2] / other[2:])
    assert store.get(other) is None
    assert store.get(KEY) is not None


# what killed processes leave


@contextmanager
def _writer(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that is in the middle of writing an entry."""
    child = f"""
import time
from pathlib import Path
from fp4cc.cache import store
store._sync_folder = lambda path: (print("writing", flush=True), time.sleep(60))
store.Store(Path({str(root)!r})).put({KEY!r}, {FILES!r})
"""
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        try:
            yield process
        finally:
            process.kill()


def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_known", {})


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    with _writer(tmp_path) as process:
        assert store.usage().temporary == 1
        for _ in range(2):
            _fresh_process(monkeypatch)
            store.put(digest("other"), FILES)
            store.clear()
            assert store.usage().temporary == 1, "the writer lives"
        process.kill()
        process.wait()
        _fresh_process(monkeypatch)
        store.put(digest("third"), FILES)
    assert store.usage().temporary == 0
    assert store.get(KEY) is None


def test_leftovers_without_a_lock_go_when_they_are_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a version that had no locks, or of a process that was killed between two system calls."""
    store = Store(tmp_path)
    group = _folder(store).parent
    for name, age in ((".new-old", 100_000), (".new-fresh", 10), (".old-gone", 0)):
        (group / name).mkdir(parents=True)
        os.utime(group / name, (time.time() - age,) * 2)
    store.put(KEY, FILES)
    assert sorted(path.name for path in group.iterdir()) == sorted([".new-fresh", KEY[2:]])


# size


def _filled(store: Store, names: str) -> list[str]:
    """Entries of about 10 kB, each used a second after the one before it."""
    keys = [digest(name) for name in names]
    for age, key in enumerate(keys):
        store.put(key, {"k.ptx": bytes(10_000)})
        for path in (store.root / key[:2] / key[2:]).iterdir():
            os.utime(path, (1e9 + age,) * 2)
    return keys


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    store = Store(tmp_path, limit=45_000)
    a, b, c, d = _filled(store, "abcd")
    assert store.get(a) is not None  # used now
    store.put(digest("e"), {"k.ptx": bytes(10_000)})
    assert store.get(b) is None
    assert store.get(a) is not None
    assert store.get(digest("e")) is not None
    assert store.usage().size <= 45_000
    assert (store.get(c), store.get(d)) != (None, None)


def test_an_entry_larger_than_the_cache_is_kept_until_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path, limit=100)
    (a, b) = _filled(store, "ab")
    assert store.get(a) is None
    assert store.get(b) is not None


def test_another_process_counts_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _filled(Store(tmp_path), "abcdef")
    _fresh_process(monkeypatch)
    store = Store(tmp_path, limit=30_000)
    store.put(KEY, FILES)
    assert store.usage().size <= 30_000
    assert store.get(KEY) is not None


@pytest.mark.parametrize(
    ("text", "size"),
    [("", DEFAULT_SIZE), ("0", 0), ("500M", 500 << 20), ("10G", 10 << 30), ("3kb", 3 << 10), (" 7T ", 7 << 40)],
)
def test_the_size_can_be_set(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("FP4CC_CACHE_SIZE", text)
    assert cache_limit() == size
    assert Store(Path("/nowhere")).limit == size


@pytest.mark.parametrize("text", ["x", "-1", "1.5G", "9" * 30, "G"])
def test_a_size_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FP4CC_CACHE_SIZE", text)
    with pytest.warns(UserWarning, match="FP4CC_CACHE_SIZE=.* is no size such as 500M"):
        assert cache_limit() == DEFAULT_SIZE


def test_clear_removes_entries_of_every_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    _filled(store, "abc")
    (tmp_path / "v1" / "ab" / "cdef").mkdir(parents=True)
    (tmp_path / "v1" / "ab" / "cdef" / "meta.json").write_text("{}")
    (tmp_path / "unrelated").write_text("stays")
    with store.lock(KEY):
        assert store.clear().entries == 3
    assert store.usage().entries == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["unrelated", "v2"]
    assert [path.name for path in store.root.iterdir()] == ["locks"]
    store.put(KEY, FILES)
    assert store.get(KEY) is not None


def test_processes_that_write_read_evict_and_clear_at_once(tmp_path: Path) -> None:
    """Whatever happens beside it, an entry is whole or absent."""
    child = f"""
import random, sys
from pathlib import Path
from fp4cc.cache import Store, digest
rng, store = random.Random(int(sys.argv[1])), Store(Path({str(tmp_path)!r}), limit=5000)
for _ in range(60):
    name = rng.choice("abcdefgh")
    content = {{"k": name.encode() * 1000}}
    if rng.random() < 0.5:
        store.put(digest(name), content, {{"name": name}})
    found = store.get(digest(name))
    assert found is None or (found.files == content and found.info == {{"name": name}})
    if rng.random() < 0.02:
        store.clear()
"""
    processes = [subprocess.Popen([sys.executable, "-c", child, str(seed)]) for seed in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert Store(tmp_path).usage().temporary == 0


def test_a_hit_is_cheap(tmp_path: Path) -> None:
    """Neither numpy, nor the parser, nor the lock's library is imported for it."""
    Store(tmp_path).put(KEY, FILES)
    child = f"""
import sys
from pathlib import Path
from fp4cc.cache import Store
assert Store(Path({str(tmp_path)!r})).get({KEY!r}) is not None
assert not {{"numpy", "lark", "filelock", "jinja2", "platformdirs"}} & set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", child], check=False).returncode == 0
