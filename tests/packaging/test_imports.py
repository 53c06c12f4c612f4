"""What modules import: nothing that leads back to them, wherever in a file the import stands."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

#: Imports against the layers, each with the reason for it. All are in functions, or for type checkers alone.
EXCEPTIONS = {
    ("fp4rt.artifact", "fp4rt.kernel"): "`artifact.load_kernel()` is a convenience; who only reads artifacts needs "
    "neither devices nor numpy",
    ("fp4rt.artifact", "fp4rt.devices.base"): "the type of what `load_kernel` takes",
    ("fp4rt.kernel", "fp4rt.torch"): "`kernel.as_torch_op()` is a convenience; kernels work without torch, which is "
    "an optional dependency",
}


def _graph(trees: dict[Path, ast.Module]) -> dict[str, set[str]]:
    """The modules that each imports, by dotted name: at its top, in a function, or for type checkers."""
    modules = {_name(path): path for path in trees if path.parts[0] in ("fp4cc", "runtime")}
    return {name: set(_imports(name, path, trees[path], modules)) - {name} for name, path in modules.items()}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts[path.parts[0] == "runtime" :]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(module: str, path: Path, tree: ast.Module, modules: dict[str, Path]) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
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


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, [] if there are none."""
    left = dict(graph)
    while leaves := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in leaves}
    if not left:
        return []
    way = [min(left)]
    while (following := min(left[way[-1]] & left.keys())) not in way:
        way.append(following)
    return [*way[way.index(following) :], following]


def _without(graph: dict[str, set[str]], edges: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    return {name: targets - {b for a, b in edges if a == name} for name, targets in graph.items()}


@pytest.fixture(scope="module")
def graph(trees: dict[Path, ast.Module]) -> dict[str, set[str]]:
    return _graph(trees)


def test_no_modules_import_each_other_in_a_circle(graph: dict[str, set[str]]) -> None:
    assert len(graph) > 300
    assert not (found := _cycle(_without(graph, EXCEPTIONS))), " -> ".join(found)


def test_exceptions_are_needed(trees: dict[Path, ast.Module], graph: dict[str, set[str]]) -> None:
    """Each makes a circle by itself, and is not an import at the top of a module."""
    files = {_name(path): tree for path, tree in trees.items()}
    for importer, imported in EXCEPTIONS:
        assert imported in graph[importer], (importer, imported)
        assert _cycle(_without(graph, EXCEPTIONS.keys() - {(importer, imported)})), (importer, imported)
        top = {node.module for node in files[importer].body if isinstance(node, ast.ImportFrom)}
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
def test_a_circle_is_found_wherever_the_import_stands(back: str) -> None:
    def cycle(b: str) -> list[str]:
        texts = {"__init__": "", "a": "from fp4cc.b import g", "b": b}
        return _cycle(_graph({Path("fp4cc", f"{name}.py"): ast.parse(text) for name, text in texts.items()}))

    assert cycle("import json") == []
    assert cycle(back) == ["fp4cc.a", "fp4cc.b", "fp4cc.a"]
