"""Sizes for a call: what is given, what is tried, what cannot be."""

from __future__ import annotations

import pytest

from fp4cc.driver import Request, read_spec
from fp4cc.driver.interpret import interpreted
from fp4cc.driver.request import RequestError
from fp4cc.driver.shapes import interesting_shapes
from fp4cc.driver.sizes import at_sizes, call_sizes
from fp4cc.driver.stages import lower_kernels, manifest_text
from fp4cc.explain.work import choose
from fp4rt.errors import ConstraintError
from fp4rt.manifest import Manifest, loads

SPEC = """\
kernel gemm(L, M, N = 96, K, F = K * 2) where M % 8 == 0 {
    in  a : nvfp4[L, M, K]
    in  b : nvfp4[N, K]
    out c : f32[L, M, N]
    c = a @ b.T
}
"""


def _manifest(text: str) -> Manifest:
    (kernel,), _ = lower_kernels(Request(read_spec(text)))
    return loads(manifest_text(kernel, {}))


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return _manifest(SPEC)


def test_dims_nobody_gave_get_small_sizes_in_the_kernels_order(manifest: Manifest) -> None:
    assert call_sizes(manifest, {}) == {"L": 2, "M": 256, "N": 96, "K": 256, "F": 512}
    assert call_sizes(manifest, {"M": 40, "L": 3}) == {"L": 3, "M": 40, "N": 96, "K": 256, "F": 512}


def test_given_sizes_that_break_a_constraint_name_it(manifest: Manifest) -> None:
    with pytest.raises(ConstraintError, match="M % 8"):
        call_sizes(manifest, {"M": 12})


def test_the_shapes_to_verify_keep_to_the_constraints_and_have_residues(manifest: Manifest) -> None:
    shapes = interesting_shapes(manifest, {"L": 2})
    assert all(s["L"] == 2 and s["N"] == 96 and s["M"] % 8 == 0 and s["F"] == 2 * s["K"] for s in shapes)
    assert any(s["M"] % 128 for s in shapes)
    assert any(s["K"] % 256 for s in shapes)
    assert any(s["M"] == 0 for s in shapes)
    assert len({tuple(s.items()) for s in shapes}) == len(shapes)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"N": 128}, r"N is fixed in the spec \(N = 96\); --set N=... changes it"),
        ({"F": 128}, "F is derived from other dimensions"),
        ({"L": 3}, "L is given twice"),
        ({"Q": 3}, "no kernel has a dimension Q; dimensions: F, K, L, M, N"),
    ],
)
def test_only_dims_that_are_left_open_have_sizes_in_a_call(sizes: dict[str, int], message: str) -> None:
    request = Request(read_spec(SPEC), dims={"L": 2})
    assert at_sizes(request, {"M": 16}) == {"M": 16}
    with pytest.raises(RequestError, match=message):
        at_sizes(request, sizes)


EXPERTS = """\
kernel experts(E, M, N, K) {
    in x : nvfp4[E, M, K]; in w : nvfp4[E, N, K]; in bias : bf16[E, N]; in scale : f32[E]
    out y : bf16[E, M, N]
    y = (x @ w.T + bias) * scale
}
"""
HEADS = """\
kernel heads(B, H, S, D) {
    in x : bf16[B, H, S, D]; in gain : f32[H, D]
    out y : bf16[B, H, S, D]; out top : f32[B, H]
    y = x * gain
    top = max(max(abs(x), over = D), over = S)
}
"""


@pytest.mark.parametrize(("text", "batches"), [(EXPERTS, {"E"}), (HEADS, {"B", "H"}), (SPEC, {"L"})])
def test_batches_are_few_whatever_else_they_are_an_axis_of(text: str, batches: set[str]) -> None:
    """An expert's bias is `[E, N]`: E stands there where rows do, and 256 experts would take minutes."""
    kernel = interpreted(Request(read_spec(text))).manifest
    assert {name for name, size in call_sizes(kernel, {}).items() if size <= 4} == batches
    assert all(shape[name] <= 4 for shape in interesting_shapes(kernel, {}) for name in batches)


def test_a_dim_of_a_product_is_no_batch_though_it_leads_elsewhere() -> None:
    """M is a row of the product; that a bias has it before its last two axes does not make it small."""
    text = """\
kernel k(M, H, D) {
    in x : bf16[M, H]; in w : bf16[D, H]; in t : f32[M, 1, 1]
    out y : bf16[M, D]
    y = x @ w.T
}
"""
    assert call_sizes(interpreted(Request(read_spec(text))).manifest, {})["M"] == 256


@pytest.mark.parametrize(
    "head",
    [
        "k(M, N) where M % 13 == 0",
        "k(M, N) where M % 13 == 0 and N % 11 == 0",
        "k(M, N) where M >= 100000",
        "k(M, N) where M > 1000 and M % 7 == 3",
        "k(M, N) where N == 1234",
        "k(M, N) where M < 3",
        "k(M, N, F = N / 7)",
        "k(M, N, F = N / 21, G = M / 5)",
    ],
)
def test_sizes_meet_what_a_condition_asks_for(head: str) -> None:
    """Of `run` and `verify`, and those that `explain` takes."""
    text = f"kernel {head} {{\n    in  x : f32[M, N]\n    out y : f32[M, N]\n    y = x * 2.0\n}}\n"
    dims = call_sizes(_manifest(text), {})
    assert interesting_shapes(_manifest(text), {})[0] == dims
    (lowered,), _ = lower_kernels(Request(read_spec(text)))
    assert set(choose(lowered, {}).sizes) == set(dims)


def test_conditions_that_nothing_meets_are_named() -> None:
    text = (
        "kernel k(M, N) where M % 4 == 1 and M % 2 == 0 {\n    in  x : f32[M, N]\n    out y : f32[M, N]\n    y = x\n}\n"
    )
    with pytest.raises(ConstraintError, match="M % 4 == 1"):
        call_sizes(_manifest(text), {})


@pytest.mark.parametrize("elsewhere", [False, True])
def test_rows_that_are_in_no_group_are_not_tried(elsewhere: bool) -> None:
    """Groups are few, as batches are, also where the length of offsets alone says how many there are."""
    weights = "in w : f32[E, M, K]; " if elsewhere else ""
    text = (
        f"kernel k(E, T, N{', M, K' if elsewhere else ''}) {{ in offsets : i32[E + 1]; {weights}"
        "in x : bf16[T by offsets, N]; out q : mxfp8[T by offsets, N]; q = quantize(x) }"
    )
    shapes = interesting_shapes(_manifest(text), {})
    assert all(0 < shape["E"] <= 4 or shape["T"] == 0 for shape in shapes)
    assert {shape["E"] for shape in shapes} > {1}
    assert any(shape["T"] == 0 for shape in shapes)
