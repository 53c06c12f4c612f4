"""Prose in the documentation has lines of at most 120 columns. Tables, code and headings are as wide as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 120
PAGES = sorted(path for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md") for path in ROOT.glob(pattern))


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines that can be broken anywhere between words, numbered from 1."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("|", "#", "    ", "<!--")):
            yield number, line


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_lines_of_prose_fit(page: Path) -> None:
    long = [number for number, line in prose(page.read_text(encoding="utf-8")) if len(line) > WIDTH]
    assert long == []


def test_what_is_prose() -> None:
    text = "# heading\nprose\n```text\ncode\n```\n| a | b |\n    code\n- item\n"
    assert list(prose(text)) == [(2, "prose"), (8, "- item")]
