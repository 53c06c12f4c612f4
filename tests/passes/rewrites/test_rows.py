"""Which weights are made ready once, and the two kernels that a product of them becomes."""

from __future__ import annotations

import pytest

from fp4cc.ir.kernel import Kernel
from fp4cc.passes.rewrites.rows import in_rows, why_no_rows
from fp4cc.sema import analyze
from fp4cc.source import Source

FAST = "matmul(x, w.T, accumulate = fast)"


def kernel(body: str, head: str = "M, N, K") -> Kernel:
    text = f"kernel k({head}) {{ {body} }}"
    return analyze(Source("k.fp4", text), None).raise_errors().kernels[0]


def of(x: str = "e4m3", w: str = "mxfp4", y: str = FAST) -> Kernel:
    return kernel(f"in x : {x}[M, K]; in w : {w}[N, K]; out y : f32[M, N]; y = {y}")


@pytest.mark.parametrize("x", ["e4m3", "e5m2", "fp8_token"])
def test_a_product_of_fp8_by_mxfp4_becomes_one_of_fp8_and_a_factor(x: str) -> None:
    source = of(x, y=f"relu({FAST})")
    assert why_no_rows(source) is None
    made = in_rows(source)
    assert made.arg.name == "w"
    assert (made.rows.dtype, made.factors.dtype) == ("e5m2", "f32")
    assert [axis.name for axis in made.factors.axes] == ["N"]
    assert {arg.name for arg in made.second.args if arg.direction == "in"} >= {"x", "w_rows", "w_factors"}
    values = made.second.values
    product = next(i for i, value in enumerate(values) if value.op == "matmul")
    assert {values[o].dtype for o in values[product].operands} == {"e5m2", "e4m3" if x != "e5m2" else "e5m2"}
    # The factor meets the sums first, then the scales of x's rows, as with weights in registers.
    assert any(value.op == "mul" and product in value.operands for value in values)
    assert made.first.name == "k_rows"
    assert made.second.name == "k"


def test_batches_have_factors_of_their_own() -> None:
    body = f"in x : e4m3[L, M, K]; in w : mxfp4[L, N, K]; out y : f32[L, M, N]; y = {FAST}"
    made = in_rows(kernel(body, "L, M, N, K"))
    assert [axis.name for axis in made.rows.axes] == ["L", "N", "K"]
    assert [axis.name for axis in made.factors.axes] == ["L", "N"]


@pytest.mark.parametrize(
    ("x", "w", "y", "why"),
    [
        ("e4m3", "mxfp4", "x @ w.T", "its sums are not fast"),
        ("e4m3", "nvfp4", "x @ w.T", "its sums are not fast"),
        ("e4m3", "e4m3", FAST, "its right operand is not an input with block scales"),
        ("ds_act", "ds_weight", FAST, "its left operand is not FP8, plain or with a scale for each row"),
    ],
)
def test_others_are_multiplied_as_they_are(x: str, w: str, y: str, why: str) -> None:
    found = why_no_rows(of(x, w, y))
    assert found is not None
    assert found.startswith(why)
