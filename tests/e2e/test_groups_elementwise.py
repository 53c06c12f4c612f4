"""Kernels without a product over ragged and masked rows: quantizers, elementwise functions, reductions along a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fp4num
from fp4rt import random_inputs
from tests.e2e.conftest import Compiler
from tests.e2e.test_experts import reference
from tests.e2e.test_groups import FEW, SIZES, check, check_masked, masked, ragged

HEAD = "kernel k(E, M, N) {\n in offsets : i32[E + 1]\n in x : bf16[M by offsets, N]\n "
QUANTIZER = HEAD + "in ts : f32[]\n out q : nvfp4[M by offsets, N]\n q = quantize(x, tensor_scale = ts)\n}\n"
#: An input of a group's own that is as large as the rows comes first: it says nothing of what the rows are.
KERNELS = {
    "quantizer": QUANTIZER,
    "elements": "kernel k(E, M, N) {\n in offsets : i32[E + 1]\n in bias : f32[E, N]; in g : f32[E]\n"
    " in x : bf16[M by offsets, N]; in s : f32[M by offsets]; in rng : u64[2]; param beta : f32 = 0.5\n"
    " inout y : bf16[M by offsets, N]; out q : mxfp8[M by offsets, N]; out top : f32[M by offsets]\n"
    " h = silu(x * g + bias) * s\n y = h + beta * y\n q = quantize(h, rounding = stochastic(rng))\n"
    " top = max(abs(h), over = N)\n}\n",
    "sums": HEAD + "out s : f32[M by offsets]; out t : f32[M by offsets]; out m : f32[M by offsets]\n"
    " s = sum(x, over = N)\n t = mean_square(x, over = N)\n m = min(x, over = N)\n}\n",
    "two launches": HEAD + "out q : fp8_token[M by offsets, N]\n q = quantize(x)\n}\n",
    "panels": HEAD + "in ts : f32[]\n out q : ds_act[M by offsets, N]; out p : nvfp4_2d[M by offsets, N]\n"
    " q = quantize(x)\n p = quantize(hadamard(x, over = N, size = 16), tensor_scale = ts)\n}\n",
    "gated": "kernel k(E, M, N, F = N / 2) {\n in offsets : i32[E + 1]\n in x : bf16[M by offsets, N]\n"
    " in b : bf16[E, N]; in ts : f32[]\n out q : nvfp4[M by offsets, F]; out s : f32[M by offsets]\n"
    " g, u = unzip(x + b, N -> F, group = 1)\n h = swiglu(g, u)\n q = quantize(h, tensor_scale = ts)\n"
    " s = sum(h, over = F)\n}\n",
    "vectors": "kernel k(E, M) {\n in offsets : i32[E + 1]\n in x : f32[M by offsets]; in g : f32[E]\n"
    " out y : f32[M by offsets]\n y = rsqrt(x * x + 1) * g\n}\n",
    "bias alone": "kernel k(E, M, N) {\n in offsets : i32[E + 1]\n in b : f32[E, N]; in x : f32[M by offsets]\n"
    " out q : mxfp8[M by offsets, N]\n q = quantize(x * b)\n}\n",
}  # fmt: skip
ACROSS = (
    "kernel k(E, M, N) {\n in offsets : i32[E + 1]\n in x : bf16[N, M by offsets]\n out y : f32[M by offsets, N]\n"
    " out most : f32[N]; out top : f32[]\n h = 2 * x.T\n y = h\n most = min(h, over = M)\n top = max(h, over = all)\n"
    "}\n"
)
SUMS = (
    "kernel k(E, M, N, K) {\n in offsets : i32[E + 1]\n in x : nvfp4[M by offsets, K]; in w : nvfp4[E, N, K]\n"
    " out s : f32[M by offsets]; out t : f32[M by offsets]\n h = x @ w.T\n s = sum(h, over = N)\n"
    " t = max(abs(h), over = N)\n}\n"
)

GEMM = "kernel k(E, M, N, K) {\n in offsets : i32[E + 1]\n "
SECOND = {
    "a scale for a row": GEMM + "in x : nvfp4[M by offsets, K]; in w : nvfp4[E, N, K]; in bias : bf16[E, N]\n"
    " out q : fp8_token[M by offsets, N]; out y : bf16[M by offsets, N]\n h = x @ w.T + bias\n q = quantize(h)\n"
    " y = h\n}\n",
    "wide blocks": "kernel k(E, M, F, K) {\n in offsets : i32[E + 1]\n in x : nvfp4[M by offsets, K]\n"
    " in wg : nvfp4[E, F, K]; in wu : nvfp4[E, F, K]\n out q : ds_act[M by offsets, F]\n"
    " q = quantize(swiglu(x @ wg.T, x @ wu.T))\n}\n",
    "gated FP8": "kernel k(E, M, N, F = N / 2, K) where N % 256 == 0 and K % 128 == 0 {\n in offsets : i32[E + 1]\n"
    " in x : ds_act[M by offsets, K]; in w : ds_weight[E, N, K]\n out q : ds_act[M by offsets, F]\n"
    " g, u = unzip(x @ w.T, N -> F, group = 64)\n q = quantize(swiglu(g, u))\n}\n",
}


def test_quantizes_in_the_layout_that_a_grouped_product_reads(compiler: Compiler) -> None:
    check(compiler, QUANTIZER, [(1, 0, 129)], N=96)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("name", KERNELS)
def test_every_kind_of_kernel(compiler: Compiler, target: str, name: str) -> None:
    text, dims = KERNELS[name], {} if name == "vectors" else {"N": 512 if name == "panels" else 320}
    check(compiler, text, SIZES if name == "quantizer" else FEW, target, **dims)
    if "inout" not in text:
        check_masked(compiler, masked(text), target, **dims)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_rows_that_lie_across_and_reductions_over_them(compiler: Compiler, target: str) -> None:
    artifact = compiler.artifact(ACROSS, target)
    for seed, counts in enumerate([*FEW, (1, 70)]):
        assert ragged(artifact, counts, seed=seed, N=40).equal


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_sums_along_the_rows_of_grouped_products(compiler: Compiler, target: str) -> None:
    check(compiler, SUMS, FEW, target, N=300, K=128)
    check_masked(compiler, masked(SUMS), target, N=300, K=128)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("name", SECOND)
def test_grouped_products_in_two_launches(compiler: Compiler, target: str, name: str) -> None:
    """The second launch has no product, and finds the groups as the first does."""
    dims = {"F": 256} if name == "wide blocks" else {"N": 512}
    check(compiler, SECOND[name], FEW, target, K=256, **dims)
    check_masked(compiler, masked(SECOND[name]), target, K=256, **dims)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("name", ["quantizer", "elements", "sums"])
def test_random_groups(compiler: Compiler, target: str, name: str) -> None:
    artifact = compiler.artifact(KERNELS[name], target)

    @settings(max_examples=60)
    @given(
        st.lists(st.one_of(st.just(0), st.integers(1, 40), st.integers(120, 140)), min_size=1, max_size=70),
        st.integers(0, 1000), st.integers(1, 9), st.integers(0, 99), st.sampled_from([32, 160]),
    )  # fmt: skip
    def every(counts: list[int], seed: int, sms: int, poisoned: int, n: int) -> None:
        trial = ragged(artifact, counts, seed=seed, sms=sms, poisoned=poisoned % len(counts), N=n)
        assert trial.equal, trial.comparisons

    every()


@settings(max_examples=6)
@given(st.lists(st.integers(0, 140), min_size=1, max_size=6), st.integers(0, 999))
def test_the_reference_quantizes_each_group_by_itself(counts: list[int], seed: int) -> None:
    """Scales of a group start at an atom row of its own, as those of a tensor of its rows alone."""
    kernel = reference(QUANTIZER)
    offsets = np.cumsum([0, *counts]).astype(np.int32)
    dims = {"E": len(counts), "M": int(offsets[-1]), "N": 64}
    inputs: dict[str, Any] = {
        **random_inputs(kernel.manifest, dims, seed, given={"offsets": offsets}),
        "offsets": offsets,
    }
    q = kernel(**inputs)["q"]
    x, atom = fp4num.decode(inputs["x"], "bf16"), 0
    for e, rows in enumerate(counts):
        first = offsets[e]
        alone = fp4num.quantize(x[first : first + rows], "nvfp4", tensor_scale=inputs["ts"])
        assert (q.codes[first : first + rows] == alone.codes).all()
        atoms = -(-rows // 128)
        assert (q.scales[atom * 512 : (atom + atoms) * 512] == alone.scales).all()
        atom += atoms
