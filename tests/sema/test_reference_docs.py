"""docs/language.md: its examples are right, and it leaves nothing of the language out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fp4cc.diagnostics import render
from fp4cc.resources import grammar_text
from fp4cc.sema import analyze, prelude_scope
from fp4cc.sema.schedules import FIELDS, TARGETS
from fp4cc.sema.scope import BUILT_INS, TENSOR_TYPES
from fp4cc.source import Source

PAGE = (Path(__file__).parents[2] / "docs" / "language.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```fp4\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples(text: str) -> None:
    checked = analyze(Source("example.fp4", text))
    assert not checked.diagnostics, render(checked.diagnostics)
    assert checked.kernels or checked.formats or checked.layouts


def test_nothing_is_left_out() -> None:
    words = set(re.findall(r"\w+", PAGE))
    keywords = set(re.findall(r'"([a-z_]+)"', grammar_text("fp4.lark")))
    scope = prelude_scope()
    wanted = {*keywords, *BUILT_INS, *TENSOR_TYPES, *FIELDS, *TARGETS, *scope.formats, *scope.layouts, *scope.functions}
    assert wanted <= words, sorted(wanted - words)
