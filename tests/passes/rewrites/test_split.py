"""Kernels in two launches: who computes what, and what lies where in the workspace."""

from __future__ import annotations

import pytest

from fp4cc.codegen.manifest import manifest, plans
from fp4cc.ir.kernel import Kernel
from fp4cc.passes import lower
from fp4cc.passes.rewrites.split import split
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt.derived import Known
from fp4rt.sizes import evaluate

PRODUCT = """
kernel k(M, N, K) {
    in a : nvfp4[M, K]; in b : nvfp4[N, K]; in rng : u64[2]
    out y : bf16[M, N]; out q : fp8_token[M, N]; out qt : fp8_token[N, M]; out s : f32[M]
    h = bf16(a @ b.T)
    y = h
    q = quantize(h)
    qt = quantize(h.T, rounding = stochastic(rng, stream = 1))
    s = sum(h, over = N)
}
"""
ELEMENTS = """
kernel k(M, N) {
    in x : bf16[M, N]
    inout y : f32[M, N]
    out q : fp8_token[M, N]
    h = x + y
    y = h
    q = quantize(h)
}
"""


def kernel(text: str) -> Kernel:
    return analyze(Source("spec.fp4", text), None).raise_errors().kernels[0]


def test_a_product_leaves_its_values_once() -> None:
    """Both outputs quantize the same values, one of them transposed; they are bf16 already, so bf16 carries them."""
    parts = split(kernel(PRODUCT))
    assert parts is not None
    assert [(arg.name, arg.dtype, len(arg.axes)) for arg in parts.carried] == [
        ("q_values", "bf16", 2), ("q_amax", "f32", 1), ("qt_amax", "f32", 1)
    ]  # fmt: skip
    assert [store.arg for store in parts.first.stores] == ["y", "s", "q_values", "q_amax", "qt_amax"]
    assert [store.arg for store in parts.second.stores] == ["q", "qt"]
    assert [arg.name for arg in parts.second.args] == ["rng", "q", "qt", "q_values", "q_amax", "qt_amax"]


def test_without_a_product_values_are_computed_again() -> None:
    """The first launch stores only statistics: the second still reads the old values of `y`."""
    parts = split(kernel(ELEMENTS))
    assert parts is not None
    assert [store.arg for store in parts.first.stores] == ["q_amax"]
    assert [store.arg for store in parts.second.stores] == ["y", "q"]
    assert all(arg.direction == "in" for arg in parts.first.args if arg.name != "q_amax")


def test_values_that_no_input_has_the_axes_of_are_carried() -> None:
    text = "kernel k(M, N) { in x : f32[M]; in y : f32[N]; out q : fp8_token[M, N]; q = quantize(x * y) }"
    parts = split(kernel(text))
    assert parts is not None
    assert [arg.name for arg in parts.carried] == ["q_values", "q_amax"]


@pytest.mark.parametrize("given", ["quantize(x, scale = s)", "quantize(x, scale = 2)"])
def test_scales_that_are_given_take_one_launch(given: str) -> None:
    text = f"kernel k(M, N) {{ in x : f32[M, N]; in s : f32[M]; out q : fp8_token[M, N]; q = {given} }}"
    assert split(kernel(text)) is None


def test_a_name_of_the_spec_is_not_taken() -> None:
    text = "kernel k(M, N) { in q_amax : f32[M, N]; out q : fp8_token[M, N]; q = quantize(q_amax) }"
    parts = split(kernel(text))
    assert parts is not None
    assert [arg.name for arg in parts.carried] == ["q_amax_"]


def test_the_workspace_holds_all_of_it_apart() -> None:
    """With every plan: what is carried, then each kernel's own; nothing overlaps or leaves the workspace."""
    text = PRODUCT + "schedule k on sm_100a when M <= 64 { tile 128 x 64 x 256 }\n"
    lowered = lower(kernel(text), "sm_100a")
    assert list(plans(lowered)) == ["k", "k_v1", "k_2"]
    made = manifest(lowered, {}, {})
    sizes = Known({"M": 96, "N": 160, "K": 64}, made.shared)
    for plan in (made.plan, made.variants[0].plan):
        assert [launch.module for launch in plan.launches] in (["k", "k_2"], ["k_v1", "k_2"])
        names = [m.name for m in plan.tensor_maps]
        assert len(set(names)) == len(names)
        starts = {
            int(evaluate(param.byte_offset, sizes))
            for launch in plan.launches
            for param in launch.params
            if param.source == ".workspace"
        }
        starts |= {int(evaluate(m.byte_offset, sizes)) for m in plan.tensor_maps if m.source == ".workspace"}
        values, row, column = 96 * 160 * 2, 512, 1024
        assert {0, values, values + row} <= starts
        assert all(start < evaluate(plan.workspace, sizes) for start in starts)
        assert min(start for start in starts if start > values + row) == values + row + column - 256
    # The typed kernel in the manifest is the spec's own.
    assert [arg.name for arg in made.kernel.args] == ["a", "b", "rng", "y", "q", "qt", "s"]
