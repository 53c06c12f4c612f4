"""Size expressions: exact, 64-bit, and safe to read from a manifest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4rt.sizes import MAX_DEPTH, SizeError, evaluate, names, substitute, text

DIMS = {"M": 7, "N": 64, "Z": 0}


@pytest.mark.parametrize("expr, value", [
    (5, 5), ("N", 64), (["mul", "N", 2, 3], 384), (["div", "N", 4], 16), (["floordiv", "M", 2], 3),
    (["ceildiv", "M", 2], 4), (["mod", "M", 4], 3), (["sub", "M", 9], -2),
    (["neg", "M"], -7), (["min", "M", "N", 3], 3),
    (["max", "M", "N"], 64), (["eq", "M", 7], True), (["ne", "M", 7], False),
    (["and", ["lt", "M", 8], ["ge", "N", 64]], True),
    (["or", ["gt", "M", 8], ["le", "N", 3]], False), (["not", ["eq", "M", 7]], False),
    (["where", ["eq", "Z", 0], 1, ["div", 1, "Z"]], 1),
    (["and", ["ne", "Z", 0], ["eq", ["mod", "M", "Z"], 0]], False), (["ceildiv", -7, 2], -3),
])  # fmt: skip
def test_values(expr: Any, value: object) -> None:
    result = evaluate(expr, DIMS)
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize("expr", [
    "Q", ["div", "M", 2], ["div", 1, 0], ["mod", 1, "Z"], ["floordiv", 1, 0], ["ceildiv", 1, 0], ["pow", 2, 3],
    [], [5, 1],
    ["add"], ["sub", 1], ["neg", 1, 2], ["where", 1, 2], None, 1.5, {"a": 1}, ["mul", 2**40, 2**40],
    2**63, ["neg", -(2**63)],
])  # fmt: skip
def test_refused(expr: Any) -> None:
    with pytest.raises(SizeError):
        evaluate(expr, DIMS)


def test_depth_is_bounded() -> None:
    expr: Any = 1
    for _ in range(MAX_DEPTH + 1):
        expr = ["neg", expr]
    with pytest.raises(SizeError, match="deep"):
        evaluate(expr, {})


def test_text_and_names() -> None:
    assert text(("eq", ("mod", "K", 16), 0)) == "K % 16 == 0"
    assert text(("mul", ("add", "a", 1), ("sub", "b", ("sub", "c", 2)))) == "(a + 1) * (b - (c - 2))"
    assert (
        text(("or", ("and", ("lt", "a", 1), ("not", ("eq", "b", 2))), ("gt", ("neg", "c"), 3)))
        == "a < 1 and not b == 2 or -c > 3"
    )
    assert text(("ceildiv", "M", 128)) == "ceildiv(M, 128)"
    assert list(names(("add", "M", ("mul", "N", "M")))) == ["M", "N", "M"]
    assert substitute(("add", "M", ("mul", "N", 2)), {"M": 3, "N": "J"}) == ("add", 3, ("mul", "J", 2))


_exprs = st.recursive(
    st.integers(-100, 100) | st.sampled_from(["M", "N"]),
    lambda inner: st.tuples(st.sampled_from(["add", "sub", "mul", "floordiv", "mod", "min", "max"]), inner, inner),
    max_leaves=12,
)


@given(_exprs)
def test_text_means_the_same(expr: Any) -> None:
    """The text, read as Python with our operators, has the expression's value."""
    try:
        wanted = evaluate(expr, DIMS)
    except SizeError:
        return
    assert eval(text(expr), {"__builtins__": {}, "min": min, "max": max}, DIMS) == wanted  # noqa: S307
