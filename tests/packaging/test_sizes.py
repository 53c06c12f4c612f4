"""Files of one concern, functions that fit on a screen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Lines of a file ("about 400") and of a function, its signature and docstring included.
FILE, FUNCTION = 410, 60


def _long_functions(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if (node.end_lineno or node.lineno) - node.lineno >= FUNCTION:
            yield node.name


def test_no_file_is_long() -> None:
    paths = [p for folder in ("fp4cc", "runtime", "templates") for p in (ROOT / folder).rglob("*")]
    lines = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n")
        for path in paths
        if path.suffix in (".py", ".j2", ".lark")
    }
    assert len(lines) > 350
    assert {name: count for name, count in lines.items() if count > FILE} == {}


def test_no_function_is_long(trees: dict[Path, ast.Module]) -> None:
    found = {f"{path.as_posix()}:{name}" for path, tree in trees.items() for name in _long_functions(tree)}
    assert found == set()


def test_a_long_function_is_found() -> None:
    method = ["class A:", "    @property", "    def f(self):", *["        x = 1"] * (FUNCTION - 1)]
    assert list(_long_functions(ast.parse("\n".join(method)))) == []
    assert list(_long_functions(ast.parse("\n".join([*method, "        y = 1"])))) == ["f"]
