"""The normal form of sizes: it has the value of the expression, and equal sizes have one form."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4cc.ir.kernel import Expr
from fp4cc.ir.polynomial import polynomial
from fp4rt.sizes import SizeError, evaluate, text

NAMES = st.sampled_from(["M", "N", "a.K"])
EXPRS: st.SearchStrategy[Expr] = st.recursive(
    st.integers(0, 9) | NAMES,
    lambda inner: (
        st.tuples(
            st.sampled_from(["add", "sub", "mul", "div", "floordiv", "mod", "min", "max", "ceildiv"]), inner, inner
        )
        | st.tuples(st.just("neg"), inner)
    ),
    max_leaves=8,
)
DIMS = st.fixed_dictionaries({"M": st.integers(1, 60), "N": st.integers(1, 60), "a.K": st.integers(1, 60)})


def exact(expr: Expr, dims: dict[str, int]) -> Fraction | None:
    """The value with `div` as a fraction; None where it has none."""
    try:
        return Fraction(int(evaluate(expr, dims)))
    except SizeError:
        return None


@given(EXPRS, DIMS)
def test_the_normal_form_has_the_value_of_the_expression(expr: Expr, dims: dict[str, int]) -> None:
    value = exact(expr, dims)
    if value is not None:
        assert exact(polynomial(expr).expr(), dims) in (value, None), text(expr)


@given(EXPRS)
def test_the_normal_form_of_a_normal_form_is_itself(expr: Expr) -> None:
    once = polynomial(expr)
    assert polynomial(once.expr()) == once


@given(EXPRS, EXPRS)
def test_sums_and_products_commute(a: Expr, b: Expr) -> None:
    for operator in ("add", "mul", "min", "max"):
        if operator in ("add", "mul"):
            assert polynomial((operator, a, b)) == polynomial((operator, b, a))
    assert (polynomial(a) - polynomial(a)).constant == 0


@pytest.mark.parametrize(
    ("expr", "shown"),
    [
        (("mul", ("div", "N", 2), 2), "N"),
        (("div", "N", 2), "N / 2"),
        (("sub", ("mul", 3, "N"), ("add", "N", 4)), "2 * N - 4"),
        (("sub", 4, "N"), "-1 * N + 4"),
        (("ceildiv", 4096, 16), "256"),
        (("div", 1, 0), "1 / 0"),
        (("floordiv", ("add", "N", "N"), 3), "2 * N // 3"),
        (0, "0"),
    ],
)
def test_text(expr: Expr, shown: str) -> None:
    assert text(polynomial(expr).expr()) == shown


def test_solves_for_what_occurs_once() -> None:
    difference = polynomial(("sub", ("div", "N", 2), "K"))
    assert {name: text(value.expr()) for name, value in difference.solutions()} == {"N": "2 * K", "K": "N / 2"}
    assert not list(polynomial(("sub", ("mul", "N", "N"), 4)).solutions())
    assert [n for n, _ in polynomial(("sub", ("floordiv", "N", 2), ("add", "N", "K"))).solutions()] == ["K"]
