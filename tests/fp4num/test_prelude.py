"""The language's prelude and fp4num name the same formats and layouts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fp4cc.sema.check import prelude_scope
from fp4num import FORMATS, LAYOUTS, RULES
from fp4num.rules import rule


def test_the_same_names() -> None:
    assert set(prelude_scope().formats) == set(FORMATS)
    assert set(prelude_scope().layouts) == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_equal_and_proved(name: str) -> None:
    assert prelude_scope().layouts[name] == LAYOUTS[name]
    LAYOUTS[name].prove()


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_equal_and_their_quantizers_fit(name: str) -> None:
    found = prelude_scope().formats[name]
    assert found is not None
    assert replace(found, name="") == replace(FORMATS[name], name="")
    assert FORMATS[name].quantizer in RULES
    rule(FORMATS[name].quantizer).check(FORMATS[name])
