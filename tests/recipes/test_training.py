"""Training recipes, one step each: every tensor against a model in numpy, and the gradients against the exact ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fp4num import FORMATS, dequantize, quantize
from fp4num.hadamard import TE_SIGNS, matrix

from .conftest import Floats, Recipe, Runner, bf16, codes, equal, f32, product

M, N, K = 96, 160, 64


def close(found: Floats, exact: Floats, error: float) -> bool:
    return bool(np.linalg.norm(found - exact) < error * np.linalg.norm(exact))


def transformed(x: Floats, signs: Floats | None, size: int) -> Floats:
    """x @ (diag(signs) H / sqrt(size)) in groups along the last axis, by the definition; exact where f64 is."""
    groups = x.reshape(*x.shape[:-1], -1, size).astype(np.float64)
    if signs is not None:
        groups = groups * signs
    return (groups @ matrix(size) / np.sqrt(size)).reshape(x.shape).astype(np.float32)


@pytest.mark.slow
def test_nvfp4_step(recipe: Callable[[str], Recipe]) -> None:
    rng = np.random.default_rng(0)
    # Small multiples of 1/8: the Hadamard transform of 16 is exact, so its definition can be the model.
    x, dy = (bf16(rng.integers(-24, 25, shape) / 8) for shape in ((M, K), (M, N)))
    w = bf16(rng.integers(-8, 9, (N, K)) / 64)
    signs = np.array(TE_SIGNS, np.float32)
    state = np.array([1234, 5], np.uint64)
    amax_w = np.float32(np.abs(f32(w)).max())

    def chain(run: Runner) -> dict[str, Any]:
        of_x, of_dy = run("largest", x=x, signs=signs), run("largest", x=dy, signs=signs)
        qx = run("quantize_x", x=x, signs=signs, **of_x)
        qw = run("quantize_w", w=w, amax=amax_w)
        qdy = run("quantize_dy", dy=dy, signs=signs, rng=state, **of_dy)
        return {
            "amax": of_x["amax"], "amax_t": of_dy["amax_t"], "x": qx["q"], "xt": qx["qt"], "w": qw["q"], "wt": qw["qt"],
            "dy": qdy["q"], "dyt": qdy["qt"],
            **run("fprop", x=qx["q"], w=qw["q"]),
            **run("dgrad", dy=qdy["q"], wt=qw["qt"]),
            **run("wgrad", dyt=qdy["qt"], xt=qx["qt"]),
        }  # fmt: skip

    found = recipe("nvfp4_training").run(chain)
    dy_t = bf16(transformed(f32(dy).T, signs, 16))
    assert found["amax"] == np.abs(f32(x)).max()
    assert found["amax_t"] == np.abs(f32(dy_t)).max()
    model = {
        "x": quantize(f32(x), "nvfp4"),
        "xt": quantize(f32(bf16(transformed(f32(x).T, signs, 16))), "nvfp4"),
        "w": quantize(f32(w), "nvfp4_2d"),
        "wt": quantize(f32(w).T, "nvfp4_2d"),
        "dy": quantize(f32(dy), "nvfp4", rounding="stochastic", rng=state, stream=0),
        "dyt": quantize(f32(dy_t), "nvfp4", rounding="stochastic", rng=state, stream=1),
    }
    for name, expected in model.items():
        assert equal(found[name], expected), name
    np.testing.assert_array_equal(dequantize(found["wt"]), dequantize(found["w"]).T)
    np.testing.assert_array_equal(codes(found["y"]), bf16(product(model["x"], model["w"])))
    np.testing.assert_array_equal(codes(found["dx"]), bf16(product(model["dy"], model["wt"])))
    np.testing.assert_array_equal(found["dw"], product(model["dyt"], model["xt"]))
    assert close(f32(found["y"]), f32(x) @ f32(w).T, 0.2)
    assert close(f32(found["dx"]), f32(dy) @ f32(w), 0.25)
    assert close(found["dw"], f32(dy).T @ f32(x), 0.3)


def step_in_both_layouts(recipe: Recipe, x: Any, w: Any, dy: Any, formats: dict[str, str]) -> dict[str, Any]:
    """A step whose quantizers make each tensor and its transpose; equal to numpy's, operands and products."""

    def chain(run: Runner) -> dict[str, Any]:
        qx, qw, qdy = run("quantize_x", x=x), run("quantize_w", w=w), run("quantize_dy", dy=dy)
        return {
            "x": qx["q"], "xt": qx["qt"], "w": qw["q"], "wt": qw["qt"], "dy": qdy["q"], "dyt": qdy["qt"],
            **run("fprop", x=qx["q"], w=qw["q"]),
            **run("dgrad", dy=qdy["q"], wt=qw["qt"]),
            **run("wgrad", dyt=qdy["qt"], xt=qx["qt"]),
        }  # fmt: skip

    found = recipe.run(chain)
    given = {"x": x, "w": w, "dy": dy}
    model = {name: quantize(f32(value), formats[name]) for name, value in given.items()}
    model |= {f"{name}t": quantize(f32(value.T), formats[name]) for name, value in given.items()}
    for name, expected in model.items():
        assert equal(found[name], expected), name
    np.testing.assert_array_equal(codes(found["y"]), bf16(product(model["x"], model["w"])))
    np.testing.assert_array_equal(codes(found["dx"]), bf16(product(model["dy"], model["wt"])))
    np.testing.assert_array_equal(found["dw"], product(model["dyt"], model["xt"]))
    return found


@pytest.mark.slow
def test_mx_step(recipe: Callable[[str], Recipe]) -> None:
    rng = np.random.default_rng(1)
    x, w, dy = (bf16(rng.integers(-100, 101, shape) / 64) for shape in ((M, K), (N, K), (M, N)))

    formats = {"x": "mxfp8_e4m3", "w": "mxfp8_e4m3", "dy": "mxfp8_e5m2"}
    found = step_in_both_layouts(recipe("mx_training"), x, w, dy, formats)
    assert close(f32(found["y"]), f32(x) @ f32(w).T, 0.05)
    assert close(f32(found["dx"]), f32(dy) @ f32(w), 0.1)
    assert close(found["dw"], f32(dy).T @ f32(x), 0.1)


@pytest.mark.slow
def test_deepseek_step(recipe: Callable[[str], Recipe]) -> None:
    rng = np.random.default_rng(5)
    m, n, k = 128, 256, 128
    # The largest of each block is 7, whose scale is a power of two, so that products are exact in any order.
    x, w, dy = (rng.integers(-6, 7, shape) for shape in ((m, k), (n, k), (m, n)))
    for value in (x, w, dy):
        value[:, ::128] = value[::128] = 7
    x, w, dy = bf16(x), bf16(w), bf16(dy)

    formats = {"x": "ds_act", "w": "ds_weight", "dy": "ds_act"}
    found = step_in_both_layouts(recipe("deepseek_training"), x, w, dy, formats)
    np.testing.assert_array_equal(dequantize(found["wt"]), dequantize(found["w"]).T)
    assert close(f32(found["y"]), f32(x) @ f32(w).T, 0.01)
    assert close(f32(found["dx"]), f32(dy) @ f32(w), 0.01)
    assert close(found["dw"], f32(dy).T @ f32(x), 0.01)


def test_quartet_forward(recipe: Callable[[str], Recipe]) -> None:
    rng = np.random.default_rng(2)
    x, w = (bf16(rng.integers(-24, 25, shape) / 8) for shape in ((M, K), (N, K)))

    def chain(run: Runner) -> dict[str, Any]:
        qx, qw = run("quantize_x", x=x)["q"], run("quantize_w", w=w)["q"]
        return {"x": qx, "w": qw, **run("forward", x=qx, w=qw)}

    found = recipe("quartet_forward").run(chain)
    for name, value in (("x", x), ("w", w)):
        expected = quantize(transformed(f32(value), None, 32), FORMATS["mxfp4"], quantizer="quest_mxfp4")
        np.testing.assert_array_equal(found[name].codes, expected.codes)
        np.testing.assert_array_equal(found[name].scales, expected.scales)
    np.testing.assert_array_equal(codes(found["y"]), bf16(product(found["x"], found["w"])))
    assert close(f32(found["y"]), f32(x) @ f32(w).T, 0.3)


def test_qat(recipe: Callable[[str], Recipe]) -> None:
    rng = np.random.default_rng(3)
    x, w, dq = (bf16(rng.uniform(-2, 2, shape)) for shape in ((M, K), (N, K), (M, K)))
    scales = np.float32(1.5 / 2688), np.float32(2 / 2688)

    def chain(run: Runner) -> dict[str, Any]:
        qx, qw = run("quantize", x=x, ts=scales[0])["q"], run("quantize", x=w, ts=scales[1])["q"]
        fake = run("fake_quantize", x=x, ts=scales[0])["y"]
        back = run("straight_through", x=x, ts=scales[0], dq=dq)
        return {"x": qx, "w": qw, "fake": fake, **run("forward", x=qx, w=qw), **back}

    found = recipe("qat_linear").run(chain)
    qx, qw = quantize(f32(x), "nvfp4", tensor_scale=scales[0]), quantize(f32(w), "nvfp4", tensor_scale=scales[1])
    assert equal(found["x"], qx)
    assert equal(found["w"], qw)
    np.testing.assert_array_equal(codes(found["y"]), bf16(product(qx, qw)))
    inside = np.abs(f32(x)) <= np.float32(2688) * scales[0]
    assert 0 < inside.sum() < inside.size
    np.testing.assert_array_equal(f32(found["dx"]), np.where(inside, f32(dq), 0))
    np.testing.assert_array_equal(codes(found["fake"]), bf16(dequantize(qx)))
    assert close(dequantize(qx)[inside], f32(x)[inside], 0.15)
    assert not close(dequantize(qx)[~inside], f32(x)[~inside], 0.1)
