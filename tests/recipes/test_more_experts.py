"""Experts of gpt-oss and of DeepSeek-V3: grouped kernels against models in numpy, whole layers against a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import fp4cc
from fp4cc.supply import artifact
from fp4num import Quantized, dequantize, functions, quantize
from fp4rt import Artifact
from fp4rt.experts import Routing, combine, route

from .conftest import RECIPES, bf16, codes, f32

Run = Callable[..., dict[str, Any]]
SIZES: dict[str, dict[str, int]] = {"gate_up": {"N": 192, "K": 192}, "down": {"N": 192, "K": 96}}


@cache
def compiled(file: str, kernel: str, target: str, sizes: tuple[tuple[str, int], ...] = ()) -> Artifact:
    return fp4cc.compile(RECIPES / f"{file}.fp4", target, dict(sizes), kernel, plans=1)


def runner(file: str, target: str | None, dims: dict[str, dict[str, int]] | None = None) -> Run:
    """Kernels of a file on the emulator of a target, or on the reference; `dims`: sizes in place of a kernel's own."""

    def run(name: str, **inputs: Any) -> dict[str, Any]:
        if target is None and dims is None:
            return dict(artifact(file, name, None).load_kernel("reference")(**inputs))
        found = compiled(file, name, target or "sm_100a", tuple((dims or {}).get(name, {}).items()))
        return dict(found.load_kernel("reference" if target is None else "emulator")(**inputs))

    return run


def swiglu_oss(g: np.ndarray, u: np.ndarray) -> np.ndarray:
    """gpt-oss's, one f32 operation after another."""
    g, u = np.minimum(g, np.float32(7)), np.clip(u, np.float32(-7), np.float32(7))
    return g * functions.sigmoid(np.float32(1.702) * g) * (u + np.float32(1))


def by_groups(x: np.ndarray, w: Quantized, offsets: np.ndarray) -> np.ndarray:
    """x @ w.T of each group with its own weights, exact in f32."""
    sums = [x[a:b].astype(np.float64) @ e.T for (a, b), e in zip(pairwise(offsets), dequantize(w), strict=True)]
    return np.concatenate(sums).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("dims", [SIZES, {"gate_up": {"N": 128}, "down": {"N": 64}}], ids=["small", "K = 2880"])
def test_gpt_oss_kernels_are_the_model(target: str, dims: dict[str, dict[str, int]]) -> None:
    rng = np.random.default_rng(3)
    offsets = np.array([0, 3, 3, 12], np.int32)
    run = runner("gpt_oss_experts", target, dims)
    for name in ("gate_up", "down"):
        n, k = (dims[name].get(size, 2880) for size in "NK")
        x = rng.integers(-2, 3, (12, k)).astype(np.float32)
        w = quantize(rng.integers(-3, 4, (3, n, k)).astype(np.float32) / 16, "mxfp4")
        bias = bf16(rng.normal(size=(3, n)))
        both = by_groups(x, w, offsets) + np.repeat(f32(bias), np.diff(offsets), axis=0)
        (found,) = run(name, offsets=offsets, x=bf16(x), w=w, bias=bias).values()
        wanted = swiglu_oss(both[:, 0::2], both[:, 1::2]) if name == "gate_up" else both
        np.testing.assert_array_equal(codes(found), bf16(wanted))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("dims", [SIZES, {"gate_up": {"N": 128}, "down": {"N": 64}}], ids=["small", "K = 2880"])
def test_gpt_oss_kernels_with_mxfp8_are_the_model(target: str, dims: dict[str, dict[str, int]]) -> None:
    rng = np.random.default_rng(3)
    offsets = np.array([0, 3, 3, 12], np.int32)
    sizes = {f"{name}_mxfp8": own for name, own in dims.items()}
    run = runner("gpt_oss_experts", target, {**sizes, "quantize_input": {"K": dims["gate_up"].get("K", 2880)}})
    for name in ("gate_up", "down"):
        n, k = (dims[name].get(size, 2880) for size in "NK")
        x = rng.integers(-2, 3, (12, k)).astype(np.float32)
        q = quantize(x, "mxfp8", offsets=offsets)
        if name == "gate_up":
            made = run("quantize_input", offsets=offsets, x=bf16(x))["q"]
            assert (made.codes == q.codes).all() and (made.scales == q.scales).all()
        w = quantize(rng.integers(-3, 4, (3, n, k)).astype(np.float32) / 16, "mxfp4")
        bias = bf16(rng.normal(size=(3, n)))
        both = by_groups(dequantize(q), w, offsets) + np.repeat(f32(bias), np.diff(offsets), axis=0)
        (found,) = run(f"{name}_mxfp8", offsets=offsets, x=q, w=w, bias=bias).values()
        if name == "down":
            np.testing.assert_array_equal(codes(found), bf16(both))
            continue
        h = quantize(swiglu_oss(both[:, 0::2], both[:, 1::2]), "mxfp8", offsets=offsets)
        np.testing.assert_array_equal(found.codes, h.codes)
        np.testing.assert_array_equal(found.scales, h.scales)


@pytest.mark.slow
def test_a_layer_of_gpt_oss_is_near_the_loop() -> None:
    """On the reference, at the model's own K; swiglu in float64, as OpenAI's."""
    rng = np.random.default_rng(4)
    d, f = 2880, 2880
    x = bf16(rng.normal(size=(4, d)))
    up = quantize((rng.normal(size=(3, 2 * f, d)) / d**0.5).astype(np.float32), "mxfp4")
    down = quantize((rng.normal(size=(3, d, f)) / f**0.5).astype(np.float32), "mxfp4")
    biases = bf16(rng.normal(size=(3, 2 * f))), bf16(rng.normal(size=(3, d)))
    routing, run = route(rng.normal(size=(4, 3)).astype(np.float32), 2), runner("gpt_oss_experts", None)
    h = run("gate_up", offsets=routing.offsets, x=x[routing.rows], w=up, bias=biases[0])["h"]
    y = combine(run("down", offsets=routing.offsets, x=h, w=down, bias=biases[1])["y"], routing)
    wanted = np.zeros((4, d))
    for t in range(4):
        for e, weight in zip(routing.experts[t], routing.weights[t], strict=True):
            both = dequantize(up)[e] @ f32(x)[t].astype(np.float64) + f32(biases[0])[e]
            g, u = np.minimum(both[0::2], 7), np.clip(both[1::2], -7, 7)
            wanted[t] += weight * (dequantize(down)[e] @ (g / (1 + np.exp(-1.702 * g)) * (u + 1)) + f32(biases[1])[e])
    assert np.linalg.norm(f32(codes(y)) - wanted) < 0.01 * np.linalg.norm(wanted)


def deepseek(run: Run, x: np.ndarray, routing: Routing, up: Quantized, down: Quantized) -> np.ndarray:
    """The layer with contiguous rows: bf16 codes of all rows, before they are combined."""
    offsets = routing.offsets
    q = run("quantize_input", offsets=offsets, x=x[routing.rows])["q"]
    h = run("gate_up", offsets=offsets, x=q, w=up)["h"]
    a = run("activation", offsets=offsets, x=h)["q"]
    return codes(run("down", offsets=offsets, x=a, w=down)["y"])


def deepseek_masked(run: Run, x: np.ndarray, routing: Routing, up: Quantized, down: Quantized) -> np.ndarray:
    """The layer with room for five rows more than the largest expert has; what is not used is NaN."""
    counts = np.diff(routing.offsets).astype(np.int32)
    room = np.full((len(counts), counts.max() + 5, x.shape[1]), 0x7FC0, np.uint16)
    used = np.arange(room.shape[1])[None, :] < counts[:, None]
    room[used] = x[routing.rows]
    q = run("quantize_input_masked", counts=counts, x=room)["q"]
    h = run("gate_up_masked", counts=counts, x=q, w=up)["h"]
    a = run("activation_masked", counts=counts, x=h)["q"]
    return codes(run("down_masked", counts=counts, x=a, w=down)["y"])[used]


def deepseek_layer(target: str | None, tokens: int) -> None:
    """Contiguous and masked give the same bytes, and are near the loop in float64."""
    rng = np.random.default_rng(tokens)
    d = f = 128
    x = bf16(rng.normal(size=(tokens, d)))
    weights = [(rng.normal(size=shape) / 11).astype(np.float32) for shape in ((3, 2 * f, d), (3, d, f))]
    up, down = (quantize(w, "ds_weight") for w in weights)
    logits = rng.normal(size=(tokens, 3)).astype(np.float32)
    logits[:, 2] -= 9  # an expert without a row
    routing = route(logits, 2, scores="sigmoid", scale=2.5)
    run = runner("deepseek_experts", target)
    rows = deepseek(run, x, routing, up, down)
    np.testing.assert_array_equal(deepseek_masked(run, x, routing, up, down), rows)
    found, wanted = f32(combine(rows, routing)), np.zeros((tokens, d))
    for t in range(tokens):
        for e, weight in zip(routing.experts[t], routing.weights[t], strict=True):
            both = weights[0][e].astype(np.float64) @ f32(x)[t]
            wanted[t] += weight * (weights[1][e] @ (both[:f] / (1 + np.exp(-both[:f])) * both[f:]))
    assert np.linalg.norm(found - wanted) < 0.1 * np.linalg.norm(wanted)


def test_a_layer_of_deepseek_is_near_the_loop() -> None:
    deepseek_layer(None, 9)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("tokens", [5, 140])
def test_a_compiled_layer_of_deepseek_is_near_the_loop(target: str, tokens: int) -> None:
    deepseek_layer(target, tokens)
