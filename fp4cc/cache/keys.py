"""Cache keys: SHA-256 over a canonical JSON of everything that decides the result."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"


def digest(value: Json) -> str:
    """The key of a JSON value: the same for equal values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def compiler_fingerprint() -> str:
    """A hash of the compiler's own sources: Python files, grammar and templates.

    A release number would miss edits in a checkout, and a stale kernel after an edit of a template is the last thing
    that its author would suspect. Reading some hundred small files takes a few milliseconds.
    """
    from fp4cc.resources import grammar_dir, templates_dir

    package = Path(__file__).parents[1]
    hasher = hashlib.sha256()
    for root, pattern in (
        *((root, "*.py") for root in (package, *_runtime_packages())),
        (grammar_dir(), "*"),
        (templates_dir(), "*"),
    ):
        for path in sorted(p for p in root.rglob(pattern) if p.is_file() and "__pycache__" not in p.parts):
            data = path.read_bytes()
            hasher.update(f"{root.name}/{path.relative_to(root)}\0{len(data)}\0".encode())
            hasher.update(data)
    return hasher.hexdigest()


def _runtime_packages() -> list[Path]:
    """The folders of fp4num and fp4rt, found without importing them (fp4num imports numpy)."""
    from importlib.util import find_spec

    folders: list[Path] = []
    for name in ("fp4num", "fp4rt"):
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            folders.append(Path(spec.submodule_search_locations[0]))
    return folders
