"""The source of the project, parsed once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def trees() -> dict[Path, ast.Module]:
    """The Python files of the compiler, the runtime and the templates, by their paths in the repository."""
    return {
        path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8"))
        for folder in ("fp4cc", "runtime", "templates")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
