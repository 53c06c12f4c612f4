"""Emitted kernels are to be read: what a reviewer would ask of a file written by hand, held for every example.

The golden files are the kernels (test_golden.py), with each kernel's file one after the other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "python"
FILES = sorted(GOLDEN.rglob("*.txt"))
_WIDEST = 120
#: Lines of a function, docstring included, that a reader can hold; a kernel's own body is its warps' roles in order.
_LONGEST = 60
#: Arguments of a call that their places tell from each other.
_BY_PLACE = 7
ARGUMENTS = ", ".join("abcdefgh")
_BARRIER = re.compile(r"prims\.(barrier_cta_sync|barrier_cluster_\w+|bar_warp_sync)\(.*\)$")


@cache
def texts(path: Path) -> list[str]:
    """The kernel files of an example, without what the target refuses of it."""
    found = re.split(r'(?m)^(?="""\w+: |error\[)', path.read_text(encoding="utf-8"))
    return [text for text in found if "@cute.kernel" in text]


def functions(text: str) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))


def is_kernel(function: ast.FunctionDef) -> bool:
    return any(isinstance(each, ast.Attribute) and each.attr == "kernel" for each in function.decorator_list)


def faults(text: str) -> Iterator[str]:
    """What a reader would stumble over."""
    lines = text.splitlines()
    spec_ends = len((ast.get_docstring(ast.parse(text), clean=False) or "").splitlines())  # the user's own lines
    for number, line in enumerate(lines[spec_ends:], spec_ends + 1):
        quoted = line.lstrip().startswith('"""')  # a line of the spec, as it was written
        if (len(line) > _WIDEST and not quoted) or line != line.rstrip():
            yield f"{number}: {len(line)} columns, or spaces at the end"
    statements = [line.split("  #")[0].rstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for before, after in pairwise(statements):
        if before == after and _BARRIER.match(before.strip()):
            yield f"the same warps meet twice: {after.strip()}"
    if re.search(r"\n{4}", text):
        yield "more than two empty lines"
    for function in functions(text):
        if not is_kernel(function):
            if ast.get_docstring(function) is None:
                yield f"{function.name} does not say what it does"
            if (function.end_lineno or 0) - function.lineno >= _LONGEST:
                yield f"{function.name} is long"
    yield from _by_place(list(functions(text)))


def _by_place(found: list[ast.FunctionDef]) -> Iterator[str]:
    """Calls of functions of the file by places alone. What is called as the parameter is tells itself apart."""
    known = {each.name: each for each in found if not is_kernel(each)}
    for function in found:
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            called = known.get(ast.unparse(call.func))
            if called is not None:
                pairs = zip(called.args.args, call.args, strict=False)
                count = sum(1 for parameter, given in pairs if ast.unparse(given) != parameter.arg)
                if count > _BY_PLACE:
                    yield f"{called.name} takes {count} arguments by their places"


def roles_without_words(text: str) -> Iterator[str]:
    """The parts of a kernel that only some warps run, without a comment above that says what these do."""
    lines = text.splitlines()
    start = lines.index("@cute.kernel")
    for number, line in enumerate(lines[start:], start):
        of_warps = re.match(r"    if warp (<|>=|==) [A-Z]\w+.*:$", line) and len(_block(lines, number)) > 12
        if of_warps and not lines[number - 1].startswith("    # "):
            yield line.strip()


def _block(lines: list[str], number: int) -> list[str]:
    found: list[str] = []
    for line in lines[number + 1 :]:
        if line.strip() and not line.startswith("        "):
            break
        found.append(line)
    return found


def test_examples_are_found() -> None:
    assert sum(len(texts(path)) for path in FILES) >= 50


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_kernel_reads_well(path: Path) -> None:
    for text in texts(path):
        assert [*faults(text), *roles_without_words(text)] == []


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        ("def f(x):\n    return x\n", "f does not say what it does"),
        (
            "def f(a, b, c, d, e, f, g, h, i):\n    '''Do.'''\n    return f(a, 1, 2, 3, 4, 5, 6, 7, 8)\n",
            "takes 8 arguments by their places",
        ),
        ("x = 1  \n", "spaces at the end"),
        (f"x = {'1' * 120}\n", "124 columns"),
        ("    prims.barrier_cta_sync(1)  # a\n    # b\n    prims.barrier_cta_sync(1)\n", "meet twice"),
        ("x = 1\n\n\n\ny = 1\n", "more than two empty lines"),
        ("def f(x):\n    '''Do.'''\n" + "    x += 1\n" * 60, "f is long"),
    ],
)
def test_a_fault_is_found(mistake: str, found: str) -> None:
    text = mistake if mistake[0] != " " else f"def f():\n    '''Do.'''\n{mistake}"
    assert any(found in fault for fault in faults(text)), list(faults(text))


def test_a_role_without_words_is_found() -> None:
    body = "        x = 1\n" * 13
    assert list(roles_without_words(f"@cute.kernel\ndef k():\n    if warp == LOAD_WARP:\n{body}")) == [
        "if warp == LOAD_WARP:"
    ]
    assert not list(roles_without_words(f"@cute.kernel\ndef k():\n    # It loads.\n    if warp == LOAD_WARP:\n{body}"))
