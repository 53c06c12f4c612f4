"""Weights of experts with a tensor scale each: kernels of every engine against the reference, it against a loop."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fp4num
import fp4rt
from fp4cc.ir.serialize import to_typed
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt import Artifact, random_inputs
from fp4rt.errors import ArgumentError
from fp4rt.manifest import Manifest, Plan
from tests.e2e.conftest import Compiler
from tests.e2e.test_groups import EPILOGUE, FEW, SIZES, TWO, check, check_masked, masked, plain

EXPERTS = plain("nvfp4", "nvfp4_experts")
DIVIDES = "format div extends nvfp4 { tensor_scale f32 divides per batch }\n" + plain("nvfp4", "div")
BATCHED = (
    "kernel k(E, M, N, K) {\n in x : A[E, M, K]; in w : nvfp4_experts[E, N, K]\n in bias : bf16[E, N]\n"
    " out y : bf16[E, M, N]\n y = x @ w.T + bias\n}\n"
)


def loop(inputs: dict[str, Any], offsets: np.ndarray) -> np.ndarray:
    """bf16 of x[rows] @ w[e].T times the tensor scales of both, one expert after another."""
    x, w = (inputs[name] for name in "xw")
    assert isinstance(x, fp4num.Quantized) and isinstance(w, fp4num.Quantized)
    out = np.zeros((x.shape[0], w.shape[1]), np.float32)
    rows, weights = fp4num.operand_values(x), fp4num.operand_values(w)
    divides = w.format.tensor_scale == "divides"
    for e, (first, last) in enumerate(pairwise(offsets)):
        sums = (rows[first:last] @ weights[e].T).astype(np.float32)
        mine = np.float32(w.tensor_scale[e])
        out[first:last] = sums * x.tensor_scale / mine if divides else sums * (x.tensor_scale * mine)
    return fp4num.encode(out, "bf16")


@settings(max_examples=12)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 999), st.sampled_from([EXPERTS, DIVIDES]))
def test_the_reference_is_a_loop_over_experts(counts: list[int], seed: int, text: str) -> None:
    kernel = reference(text)
    offsets = np.cumsum([0, *counts]).astype(np.int32)
    dims = {"E": len(counts), "M": int(offsets[-1]), "N": 8, "K": 32}
    inputs: dict[str, Any] = {
        **random_inputs(kernel.manifest, dims, seed, given={"offsets": offsets}),
        "offsets": offsets,
    }
    assert (kernel(**inputs)["y"].view(np.uint16) == loop(inputs, offsets).view(np.uint16)).all()


@cache
def reference(text: str) -> Any:
    """The kernel of a spec that only the reference runs."""
    typed = to_typed(analyze(Source("k.fp4", text), None).raise_errors().kernels[0])
    return Artifact.build(Manifest(typed.name, "sm_100a", typed, Plan(())), {}).load_kernel("reference")


def test_a_call_names_the_wrong_tensor_scale() -> None:
    kernel = reference(EXPERTS)
    inputs: dict[str, Any] = dict(random_inputs(kernel.manifest, {"E": 2, "M": 3, "N": 8, "K": 32}))
    w = inputs["w"]
    assert isinstance(w, fp4num.Quantized)
    with pytest.raises(ArgumentError, match=r"one number a batch, of shape \(2,\)"):
        kernel(**{**inputs, "w": replace(w, tensor_scale=w.tensor_scale[:1])})
    one = fp4rt.quantize(np.ones((2, 8, 32), np.float32), "nvfp4")
    with pytest.raises(ArgumentError, match="of each batch is expected, one of the whole tensor found"):
        kernel(**{**inputs, "w": one})


def test_ragged_rows(compiler: Compiler) -> None:
    check(compiler, EXPERTS, [(1, 0, 65)], N=40, K=64)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("text", [
    EXPERTS, DIVIDES, plain("bf16", "nvfp4_experts"), EPILOGUE.replace("w : nvfp4[", "w : nvfp4_experts["),
    TWO.replace(" : nvfp4[E", " : nvfp4_experts[E"),
])  # fmt: skip
def test_every_kind_of_kernel(compiler: Compiler, target: str, text: str) -> None:
    check(compiler, text, SIZES if text is EXPERTS else FEW, target, N=128, K=128)
    if "inout" not in text and "over = M" not in text:
        check_masked(compiler, masked(text), target, N=128, K=128)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "schedule"), [
    ("sm_100a", ""), ("sm_90a", ""), ("sm_90a", "schedule k on sm_90a when M <= 16 { }"),
])  # fmt: skip
@pytest.mark.parametrize("a", ["nvfp4", "bf16", "nvfp4_experts"])
def test_batches(compiler: Compiler, target: str, schedule: str, a: str) -> None:
    """`bf16` on Hopper are the engines with weights in registers; few rows those that share K by warps."""
    artifact = compiler.artifact(BATCHED.replace("A[", f"{a}[") + schedule, target)
    for seed, m in enumerate((5, 130)):
        dims = {"E": 3, "M": m, "N": 72, "K": 128}
        inputs: dict[str, Any] = dict(random_inputs(artifact.manifest, dims, seed=seed))
        kernels: list[Any] = [artifact.load_kernel(device) for device in ("emulator", "reference")]
        found, want = (kernel(**inputs)["y"] for kernel in kernels)
        assert (found.view(np.uint16) == want.view(np.uint16)).all()
