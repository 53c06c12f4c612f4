"""Files of one concern and functions that fit on a screen, where kernels are planned, written and explained."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

COMPILER = Path(__file__).resolve().parents[2] / "fp4cc"
MOST_LINES, MOST_OF_A_FUNCTION = 400, 60


@pytest.mark.parametrize("room", ["passes", "codegen", "ir", "explain"])
def test_nothing_is_long(room: str) -> None:
    long: list[str] = []
    for path in sorted((COMPILER / room).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > MOST_LINES:
            long.append(str(path.relative_to(COMPILER)))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > MOST_OF_A_FUNCTION:
                long.append(f"{path.relative_to(COMPILER)}: {node.name}")
    assert not long
