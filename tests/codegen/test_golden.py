"""Each stage of the back half as a golden file: the lowered kernel and the kernel file, for every target.

Examples are kept as text, to be read; recipes, which are several times as long, as one digest a kernel and stage.
Where a target refuses a kernel, its diagnostics stand in its place.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import plans
from fp4cc.diagnostics import DiagnosticError, render
from fp4cc.driver.dump import dump
from fp4cc.ir.kernel import Kernel
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4cc.targets import NAMES
from fp4cc.version import version

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
SPECS = sorted([*(ROOT / "examples").glob("*.fp4"), *(ROOT / "tests" / "sema" / "specs").glob("*.fp4")])
RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.fp4"))


@cache
def _stages(path: Path, target: str) -> dict[str, dict[str, str]]:
    """The stages of each kernel of a file as text, by name of the kernel; a refusal is the text of both."""
    kernels = analyze(Source(path.name, path.read_text(encoding="utf-8")), path.parent).raise_errors().kernels
    return {kernel.name: dict(_texts(kernel, target)) for kernel in kernels}


def _texts(kernel: Kernel, target: str) -> Iterator[tuple[str, str]]:
    try:
        lowered = lower(kernel, target)
    except DiagnosticError as refused:
        yield from dict.fromkeys(("lowered", "python"), render(refused.diagnostics)).items()
        return
    yield "lowered", dump(lowered, skip=frozenset(("kernel", "whole", "marked")))
    files = "\n\n".join(emit(plan) for plan in plans(lowered).values())
    yield "python", files.replace(f"Emitted by fp4cc {version()}.", "Emitted by fp4cc VERSION.")


@pytest.mark.parametrize("stage", ["lowered", "python"])
@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_examples(path: Path, target: str, stage: str, golden: Callable[[Path, str], None]) -> None:
    texts = [stages[stage] for stages in _stages(path, target).values()]
    golden(GOLDEN / stage / target / f"{path.stem}.txt", "\n\n".join(texts))


@pytest.mark.parametrize("target", NAMES)
def test_recipes(target: str, golden: Callable[[Path, str], None]) -> None:
    lines = [
        f"{path.stem}.{name} {stage} {hashlib.sha256(text.encode()).hexdigest()}\n"
        for path in RECIPES
        for name, stages in _stages(path, target).items()
        for stage, text in stages.items()
    ]
    golden(GOLDEN / "recipes" / f"{target}.txt", "".join(lines))


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_comments_stand_with_what_they_are_about(path: Path, target: str) -> None:
    """Inside a function nothing is at column 0: Python lets comments be, so only a look at the text finds one."""
    for name, stages in _stages(path, target).items():
        lines = stages["python"].splitlines()
        if stages["python"] != stages["lowered"]:
            stray = [line for line in lines[lines.index("@cute.kernel") :] if line.startswith("#")]
            assert not stray, f"{name}: {stray}"


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_file_has_what_it_uses_and_nothing_else(path: Path, target: str) -> None:
    """Every name that a file reads is Python's or defined in it, and something uses every function and import in it."""
    for name, stages in _stages(path, target).items():
        if stages["python"] == stages["lowered"]:
            continue
        tree = ast.parse(stages["python"])
        read, defined = names_read(tree), names_defined(tree)
        assert read <= defined | set(dir(builtins)) | {"__name__"}, f"{name}: {sorted(read - defined)}"
        unused = {word for word in defined - read if not word.isupper()}
        assert not unused, f"{name}: {sorted(unused)}"


def names_read(tree: ast.Module) -> set[str]:
    """The names that functions and statements of a file read and do not bind themselves."""
    found: set[str] = set()
    for statement in tree.body:
        parts = [part for part in ast.walk(statement) if isinstance(part, ast.Name)]
        bound = {part.id for part in parts if isinstance(part.ctx, ast.Store)}
        bound |= {part.arg for part in ast.walk(statement) if isinstance(part, ast.arg)}
        bound |= {
            part.name for part in ast.walk(statement) if isinstance(part, ast.FunctionDef) and part is not statement
        }
        found |= {part.id for part in parts if isinstance(part.ctx, ast.Load)} - bound
    return found


def names_defined(tree: ast.Module) -> set[str]:
    """The functions, classes, constants and imports of a file."""
    found: set[str] = set()
    for statement in tree.body:
        match statement:
            case ast.FunctionDef() | ast.ClassDef():
                found.add(statement.name)
            case ast.Import() | ast.ImportFrom():
                found |= {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
            case ast.Assign(targets=[ast.Name() as target]):
                found.add(target.id)
            case _:
                pass
    return found
