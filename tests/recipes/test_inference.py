"""Inference recipes: quantize, multiply, quantize in the epilogue, multiply; each against a model in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fp4num import dequantize, functions, quantize

from .conftest import Recipe, Runner, bf16, codes, equal, f32, product


@pytest.mark.parametrize("m", [1, 130])
def test_ptq_linear(recipe: Callable[[str], Recipe], m: int) -> None:
    n, k = 72, 64
    rng = np.random.default_rng(m)
    x = bf16(rng.uniform(-3, 3, (m, k)))
    weights = rng.uniform(-1, 1, (n, k)).astype(np.float32)
    bias = bf16(rng.normal(size=n))
    w = quantize(weights, "nvfp4", quantizer="nvfp4_modelopt")  # as a checkpoint has it
    input_scale = np.float32(3 / 2688)

    def chain(run: Runner) -> dict[str, Any]:
        q = run("quantize_input", x=x, input_scale=input_scale)["q"]
        return {"q": q, **run("linear", x=q, w=w, bias=bias)}

    found = recipe("ptq_linear").run(chain)
    q = quantize(f32(x), "nvfp4", tensor_scale=input_scale)
    assert equal(found["q"], q)
    np.testing.assert_array_equal(codes(found["y"]), bf16(product(q, w) + f32(bias)))
    exact = f32(x) @ weights.T + f32(bias)
    assert np.linalg.norm(f32(found["y"]) - exact) < 0.2 * np.linalg.norm(exact)


@pytest.mark.parametrize("m", [3, 129])
def test_a_quantized_output_feeds_the_next_product(recipe: Callable[[str], Recipe], m: int) -> None:
    """Quantize -> GEMM with a quantized output -> GEMM: the whole chain on the emulator is the whole chain of the
    reference and of the model, to the byte."""
    n, k, out = 128, 64, 40
    rng = np.random.default_rng(m)
    x = bf16(rng.uniform(-1, 1, (m, k)))
    up, down = (
        quantize(rng.uniform(-0.3, 0.3, shape).astype(np.float32), "nvfp4") for shape in ((n, k), (out, n // 2))
    )
    residual = bf16(rng.normal(size=(m, out)))
    scales = np.float32(1 / 2688), np.float32(4 / 2688)

    def chain(run: Runner) -> dict[str, Any]:
        q = run("quantize_input", x=x, ts=scales[0])["q"]
        h = run("gate_up", x=q, w=up, ts=scales[1])["q"]
        return {"q": q, "h": h, **run("down", x=h, w=down, r=residual)}

    found = recipe("gated_mlp").run(chain)
    q = quantize(f32(x), "nvfp4", tensor_scale=scales[0])
    both = product(q, up)
    gate, other = both[:, 0::2], both[:, 1::2]
    h = quantize(functions.silu(gate) * other, "nvfp4", tensor_scale=scales[1])
    assert equal(found["q"], q)
    assert equal(found["h"], h)
    np.testing.assert_array_equal(codes(found["y"]), bf16(product(h, down) + f32(residual)))


def test_deepseek_linear(recipe: Callable[[str], Recipe]) -> None:
    m, n, k = 33, 136, 256
    rng = np.random.default_rng(4)
    x, w = (rng.integers(-56, 57, shape).astype(np.float32) for shape in ((m, k), (n, k)))
    x[:, ::128] = w[:, ::128] = 56  # every block's scale is 56 / 448, a power of two: sums are exact
    x, w = bf16(x), bf16(w)

    def chain(run: Runner) -> dict[str, Any]:
        qx, qw = run("quantize_input", x=x)["q"], run("quantize_weight", w=w)["q"]
        return {"x": qx, "w": qw, **run("linear", x=qx, w=qw)}

    found = recipe("deepseek_linear").run(chain)
    qx, qw = quantize(f32(x), "ds_act"), quantize(f32(w), "ds_weight")
    assert equal(found["x"], qx)
    assert equal(found["w"], qw)
    np.testing.assert_array_equal(codes(found["y"]), bf16(product(qx, qw)))
    exact = f32(x) @ f32(w).T
    assert np.linalg.norm(f32(found["y"]) - exact) < 0.05 * np.linalg.norm(exact)


def test_svdquant_linear(recipe: Callable[[str], Recipe]) -> None:
    m, n, k, r = 70, 136, 64, 32
    rng = np.random.default_rng(5)
    x = bf16(rng.integers(-16, 17, (m, k)) / 8)
    smooth = np.exp2(rng.integers(-1, 2, k)).astype(np.float32)
    up, down = (bf16(rng.integers(-2, 3, shape) / 16) for shape in ((n, r), (r, k)))
    weights = rng.uniform(-1, 1, (n, k)).astype(np.float32)
    scale = np.float32(4 / 2688)
    w = quantize(weights / smooth - f32(up) @ f32(down), "nvfp4")

    def chain(run: Runner) -> dict[str, Any]:
        prepared = run("prepare", x=x, smooth=smooth, ts=scale)
        xr = run("project", x=prepared["xs"], down=down)["xr"]
        return {**prepared, "xr": xr, **run("linear", x=prepared["q"], w=w, xr=xr, up=up)}

    found = recipe("svdquant_linear").run(chain)
    smoothed = f32(x) * smooth
    q = quantize(smoothed, "nvfp4", tensor_scale=scale)
    np.testing.assert_array_equal(f32(found["xs"]), smoothed)
    assert equal(found["q"], q)
    np.testing.assert_array_equal(codes(found["xr"]), bf16(smoothed @ f32(down).T))
    low_rank = (f32(found["xr"]).astype(np.float64) @ f32(up).T).astype(np.float32)
    np.testing.assert_array_equal(codes(found["y"]), bf16(product(q, w) + low_rank))
    exact = f32(x) @ weights.T
    assert np.linalg.norm(f32(found["y"]) - exact) < 0.2 * np.linalg.norm(exact)


@pytest.mark.parametrize("m", [3, 130])
def test_w4a16_decode(recipe: Callable[[str], Recipe], m: int) -> None:
    """Few rows and many: each takes its plan."""
    n, k = 72, 96
    rng = np.random.default_rng(6)
    x, weights = bf16(rng.integers(-8, 9, (m, k)) / 4), bf16(rng.uniform(-1, 1, (n, k)))
    bias, scale = bf16(rng.normal(size=n)), np.float32(1 / 2688)

    def chain(run: Runner) -> dict[str, Any]:
        q = run("quantize_weight", w=weights, weight_scale=scale)["q"]
        return {"q": q, **run("linear", x=x, w=q, bias=bias)}

    found = recipe("w4a16_decode").run(chain)
    q = quantize(f32(weights), found["q"].format, tensor_scale=scale)
    assert equal(found["q"], q)
    value = f32(x).astype(np.float64) @ dequantize(q, tensor_scale=False).T
    np.testing.assert_array_equal(codes(found["y"]), bf16(value.astype(np.float32) * scale + f32(bias)))
    exact = f32(x) @ f32(weights).T + f32(bias)
    assert np.linalg.norm(f32(found["y"]) - exact) < 0.2 * np.linalg.norm(exact)
