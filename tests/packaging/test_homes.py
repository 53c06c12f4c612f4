"""Engines and feeds are known in their own homes only: no other file asks which of them it has before it.

What others need of one is data on it (`Feed.by`, `Conversion.extent`), or a line in a registry that is found by its
name. Classes and names are read from the source, so that a new engine or feed is held to the same.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .conftest import parsed

ROOT = Path(__file__).resolve().parents[2]
COMPILER = ROOT / "fp4cc"
DATA = COMPILER / "ir" / "lowered"
#: Beside the module with its data, where an engine or a feed is at home: what plans it, and what makes its text.
HOMES = ("passes/engines/", "passes/feeds/", "codegen/feeds/")
#: The registries whose imports are the homes of engines' text and of engines' invariants.
REGISTRIES = ("codegen/engines.py", "ir/verify_engines.py")


def files() -> list[Path]:
    return sorted(COMPILER.rglob("*.py"))


def data_modules() -> list[Path]:
    return [*DATA.glob("*.py"), *(COMPILER / "ir").glob("lowered_*.py")]


def fields(cls: ast.ClassDef) -> dict[str, str]:
    """What is text by default in a class: fields with a default, and properties that return a constant."""
    found: dict[str, str] = {}
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                found[node.target.id] = node.value.value
        elif isinstance(node, ast.FunctionDef):
            for line in node.body:
                if isinstance(line, ast.Return) and isinstance(line.value, ast.Constant):
                    found[node.name] = str(line.value.value)
    return found


def parts() -> dict[str, str]:
    """The name in registries of each engine and each feed, by its class."""
    found: dict[str, str] = {}
    for path in data_modules():
        for cls in (node for node in parsed(path).body if isinstance(node, ast.ClassDef)):
            texts = fields(cls)
            if {"kind", "by", "into"} <= texts.keys():
                found[cls.name] = texts["kind"]
            elif "name" in texts:
                found[cls.name] = texts["name"]
    return found


@cache
def registered() -> tuple[str, ...]:
    """Paths below fp4cc of what registries import: `codegen/context_X.py` or a folder, and `ir/verify_X.py`."""
    found: set[str] = set()
    for registry in REGISTRIES:
        for node in ast.walk(parsed(COMPILER / registry)):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    room, *path = name.removeprefix("fp4cc.").split(".")
                    if (
                        len(path) > 1
                        and (COMPILER / room / path[0]).is_dir()
                        and path[0] not in ("epilogue", "lowered")
                    ):
                        found.add(f"{room}/{path[0]}/")
                    elif path and path[0].startswith(("context_", "verify_")):
                        found.add(f"{room}/{path[0]}.py")
    return tuple(sorted(found))


def at_home(path: Path) -> bool:
    below = str(path.relative_to(COMPILER))
    return below.startswith((*HOMES, *registered())) or path in data_modules()


def questions(code: ast.AST, known: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Places where code asks for the class or the name of an engine or a feed."""
    for node in ast.walk(code):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("isinstance", "issubclass", "engine_as"):
                yield from ((node.lineno, name) for name in _names(node) & known.keys())
        elif isinstance(node, ast.MatchClass):
            yield from ((node.cls.lineno, name) for name in _names(node.cls) & known.keys())
        elif isinstance(node, ast.Compare | ast.MatchValue):
            sides = [node.value] if isinstance(node, ast.MatchValue) else [node.left, *node.comparators]
            yield from ((side.lineno, name) for side in sides for name in _names(side) & known.keys())
            if isinstance(node, ast.MatchValue) or any(_asks_for_a_name(side) for side in sides):
                texts = {str(each.value) for side in sides for each in ast.walk(side) if isinstance(each, ast.Constant)}
                yield from ((sides[0].lineno, text) for text in texts & {*known.values()})


def _names(node: ast.AST) -> set[str]:
    """Names in code, with or without their module's before them; Python's own `ast` has a `Load` too."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    attributes = [each for each in ast.walk(node) if isinstance(each, ast.Attribute)]
    of_python = {id(each) for each in attributes if isinstance(each.value, ast.Name) and each.value.id == "ast"}
    return names | {each.attr for each in attributes if id(each) not in of_python}


def _asks_for_a_name(node: ast.AST) -> bool:
    """`feed.kind`, `engine.name`: not the `kind` of an instruction or the `name` of an argument."""
    if not isinstance(node, ast.Attribute) or node.attr not in ("kind", "name"):
        return False
    return bool(_names(node.value) & {"feed", "conversion", "engine"})


def test_the_parts_are_found() -> None:
    known = parts()
    assert (
        known.items()
        >= {
            "Tcgen05": "tcgen05",
            "Wgmma": "wgmma",
            "Load": "tma",
            "Relaid": "relaid",
            "Dequantized": "dequantized",
            "Converted": "converted",
        }.items()
    )
    assert not at_home(COMPILER / "explain" / "tiles.py")
    assert not at_home(COMPILER / "ir" / "verify_rings.py")
    assert not at_home(COMPILER / "codegen" / "epilogue" / "stores.py")
    assert not at_home(COMPILER / "codegen" / "context.py")
    assert at_home(COMPILER / "codegen" / "tcgen05" / "loads.py")
    assert at_home(COMPILER / "ir" / "verify_wgmma.py")


@pytest.mark.parametrize(
    "code",
    [
        "isinstance(plan.engine, Tcgen05)",
        "isinstance(feed, Load | lowered_converters.Relaid)",
        "plan.engine_as(Wgmma)",
        "type(feed) is Converted",
        "match feed:\n    case Dequantized(name=name):\n        pass",
        "feed.kind == 'relaid'",
        "match plan.engine.name:\n    case 'wgmma':\n        pass",
        "plan.engine.name in ('tcgen05', 'other')",
    ],
)
def test_a_question_is_found(code: str) -> None:
    assert list(questions(ast.parse(code), parts()))


def test_nobody_else_asks_which_engine_or_feed_it_is() -> None:
    known = parts()
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files()
        if not at_home(path)
        for line, name in questions(parsed(path), known)
    ]
    assert not found
