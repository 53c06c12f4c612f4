"""The source of the project, parsed once."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@cache
def parsed(path: Path) -> ast.Module:
    """A file's tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def trees() -> dict[Path, ast.Module]:
    """The Python files of the compiler, the runtime and the templates, by their paths in the repository."""
    return {
        path.relative_to(ROOT): parsed(path)
        for folder in ("fp4cc", "runtime", "templates")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
