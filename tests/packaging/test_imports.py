"""What modules import: nothing that leads back to them, wherever in a file the import stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Imports against the layers, each with the reason for it. All are in functions, or for type checkers alone.
EXCEPTIONS = {
    ("fp4rt.artifact", "fp4rt.kernel"): "`artifact.load_kernel()` is a convenience; who only reads artifacts needs "
    "neither devices nor numpy",
    ("fp4rt.artifact", "fp4rt.devices.base"): "the type of what `load_kernel` takes",
    ("fp4rt.kernel", "fp4rt.torch"): "`kernel.as_torch_op()` is a convenience; kernels work without torch, which is "
    "an optional dependency",
}


def _modules(root: Path) -> dict[str, Path]:
    """The modules of our packages, by dotted name."""
    found: dict[str, Path] = {}
    for base, pattern in ((root / "runtime", "*/**/*.py"), (root, "fp4cc/**/*.py")):
        for path in base.glob(pattern):
            parts = path.relative_to(base).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(module: str, path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """The modules of ours that a file imports: at its top, in a function, or for type checkers."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                home = ".".join([*parent, *([home] if home else [])])
            for alias in node.names:
                name = f"{home}.{alias.name}"
                if name in modules:
                    yield name
                elif home in modules:
                    yield home


def _graph(root: Path) -> dict[str, set[str]]:
    modules = _modules(root)
    return {name: set(_imports(name, path, modules)) - {name} for name, path in modules.items()}


@cache
def _whole() -> dict[str, set[str]]:
    return _graph(ROOT)


def _ours() -> dict[str, set[str]]:
    """The graph of this repository, to be changed."""
    return {name: set(targets) for name, targets in _whole().items()}


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, [] if there are none."""
    left = {name: set(targets) for name, targets in graph.items()}
    while True:
        leaves = {name for name, targets in left.items() if not targets & left.keys()}
        if not leaves:
            break
        left = {name: targets for name, targets in left.items() if name not in leaves}
    if not left:
        return []
    way = [min(left)]
    while True:
        following = min(left[way[-1]] & left.keys())
        if following in way:
            return [*way[way.index(following) :], following]
        way.append(following)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = _ours()
    assert len(graph) > 300
    for importer, imported in EXCEPTIONS:
        graph[importer].discard(imported)
    assert not (found := _cycle(graph)), " -> ".join(found)


def test_exceptions_are_needed() -> None:
    """Each stands in the code, is part of a circle, and is not an import at the top of a module."""
    for importer, imported in EXCEPTIONS:
        graph = _ours()
        assert imported in graph[importer], (importer, imported)
        for other in EXCEPTIONS:
            if other != (importer, imported):
                graph[other[0]].discard(other[1])
        assert _cycle(graph), (importer, imported)
        text = _modules(ROOT)[importer].read_text(encoding="utf-8")
        top = {node.module for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)}
        assert imported not in top, (importer, imported)


@pytest.mark.parametrize(
    "back",
    [
        "from fp4cc.a import f",
        "from fp4cc import a",
        "from . import a",
        "from .a import f",
        "import fp4cc.a",
        "def g():\n    from fp4cc.a import f\n    return f",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fp4cc.a import f",
    ],
)
def test_a_circle_is_found_wherever_the_import_stands(back: str, tmp_path: Path) -> None:
    (tmp_path / "fp4cc").mkdir()
    (tmp_path / "runtime").mkdir()
    (tmp_path / "fp4cc" / "__init__.py").write_text("")
    (tmp_path / "fp4cc" / "a.py").write_text("from fp4cc.b import g\n")
    (tmp_path / "fp4cc" / "b.py").write_text("import json\n")
    assert _cycle(_graph(tmp_path)) == []
    (tmp_path / "fp4cc" / "b.py").write_text(back + "\n")
    assert _cycle(_graph(tmp_path)) == ["fp4cc.a", "fp4cc.b", "fp4cc.a"]
