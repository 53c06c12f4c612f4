"""The parser's tables are kept between processes: a damaged file must never be parsed with."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fp4cc.frontend import parse, parser
from fp4cc.source import Source

TEXT = "kernel k(M) { in x : f32[M]; out y : f32[M]\n y = relu(x) }\n"


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("FP4CC_CACHE_DIR", str(tmp_path))
    parser._tables.cache_clear()
    parse(Source("a.fp4", TEXT))
    yield tmp_path / "grammar" / "tables"
    parser._tables.cache_clear()


def test_tables_are_used_again(tables: Path) -> None:
    before = tables.stat().st_mtime_ns
    parser._tables.cache_clear()
    parse(Source("a.fp4", TEXT))
    assert tables.stat().st_mtime_ns == before
    assert parser._intact(tables)


def test_damaged_tables_are_made_again(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, expected = tables.read_bytes(), repr(parse(Source("a.fp4", TEXT)))
    rng = random.Random(0)
    for damage in ("flip", "truncate", "empty", "seal", "no seal"):
        spoiled = bytearray(good)
        if damage == "flip":
            spoiled[rng.randrange(len(good) // 2, len(good))] ^= 4
        elif damage in ("truncate", "empty"):
            del spoiled[len(good) // 2 if damage == "truncate" else 0 :]
        tables.write_bytes(spoiled)
        if damage == "seal":
            tables.with_suffix(".sha256").write_bytes(b"\xff")
        elif damage == "no seal":
            tables.with_suffix(".sha256").unlink()
        assert not parser._intact(tables)
        parser._tables.cache_clear()
        assert repr(parse(Source("a.fp4", TEXT))) == expected
        assert parser._intact(tables), damage
