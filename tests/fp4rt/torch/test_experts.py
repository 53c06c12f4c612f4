"""Layers of experts with torch: routing as in numpy and without a wait, and the layer against a loop over tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import fp4rt.torch
from fp4cc.supply import artifact
from fp4num import Quantized, dequantize, quantize
from fp4rt import experts as numpys
from fp4rt.errors import ArgumentError, TorchError

pytestmark = pytest.mark.torch

TOKENS, EXPERTS, TOP, D, F = 7, 3, 2, 64, 64


@pytest.mark.parametrize("options", [
    {}, {"renormalize": False}, {"scores": "sigmoid", "scale": 2.5},
    {"scores": "sigmoid", "bias": [0.0, 1, -1, 0, 0.5], "align": 8},
])  # fmt: skip
@pytest.mark.parametrize("tokens", [0, 1, 40])
def test_routing_is_numpys(options: dict[str, Any], tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    logits = rng.integers(-2, 3, (tokens, 5)).astype(np.float32)  # many ties
    bias = options.get("bias")
    given = {**options, **({} if bias is None else {"bias": np.array(bias, np.float32)})}
    wanted = numpys.route(logits, 3, **given)
    found = fp4rt.torch.route(
        torch.from_numpy(logits), 3, **{**options, **({} if bias is None else {"bias": torch.tensor(bias)})}
    )
    for name in ("experts", "offsets", "rows", "places"):
        part = getattr(found, name)
        assert part.dtype == torch.int32
        assert np.array_equal(part.numpy(), getattr(wanted, name)), name
    np.testing.assert_allclose(found.weights.numpy(), wanted.weights, rtol=1e-6)
    y = rng.normal(size=(len(wanted.rows), 4)).astype(np.float32)
    same = numpys.by_expert(wanted.experts, found.weights.numpy(), 5, align=options.get("align", 1))
    d = rng.normal(size=(tokens, 4)).astype(np.float32)
    assert np.array_equal(fp4rt.torch.spread(torch.from_numpy(d), found).numpy(), numpys.spread(d, same))
    assert np.array_equal(fp4rt.torch.combine(torch.from_numpy(y), found).numpy(), numpys.combine(y, same))


@pytest.mark.slow  # torch takes seconds to get ready for tensors without data
def test_nothing_is_read_on_the_host() -> None:
    """Tensors without data: whatever looked at one, as a wait for the device would, is an error."""
    logits, bias = torch.empty(40, 5, device="meta"), torch.empty(5, device="meta")
    y = torch.empty(120, 8, dtype=torch.bfloat16, device="meta")
    for options in ({}, {"scores": "sigmoid", "bias": bias, "scale": 2.5}, {"renormalize": False}):
        routing = fp4rt.torch.route(logits, 3, **options)  # pyright: ignore[reportArgumentType]
        assert routing.offsets.shape == (6,)
        assert fp4rt.torch.combine(y, routing).shape == (40, 8)


def test_arrays_and_tensors_have_functions_of_their_own() -> None:
    with pytest.raises(ArgumentError, match=r"FP6125(.|\n)*call fp4rt.torch.route"):
        numpys.route(torch.zeros(2, 3), 1)
    with pytest.raises(ArgumentError, match=r"FP6125(.|\n)*call fp4rt.experts.route"):
        fp4rt.torch.route(np.zeros((2, 3)), 1)


def layer(seed: int) -> tuple[torch.Tensor, torch.Tensor, Quantized, Quantized]:
    """x, logits and both weights, whose experts have tensor scales of their own."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(TOKENS, D, generator=rng).bfloat16()
    logits = torch.randn(TOKENS, EXPERTS, generator=rng)
    logits[:, 1] -= 20 * (seed % 2)  # nobody takes that one
    spread = torch.tensor([0.1, 1.0, 4.0])[:, None, None]
    up = torch.randn(EXPERTS, 2 * F, D, generator=rng) * spread / 8
    down = torch.randn(EXPERTS, D, F, generator=rng) * spread / 8
    return x, logits, quantize(up, "nvfp4_experts"), quantize(down, "nvfp4_experts")


def loop(x: torch.Tensor, routing: Any, up: Any, down: Any) -> torch.Tensor:
    """The layer for one token and expert after another, in f32."""
    gates, downs = (dequantize(w) if isinstance(w, Quantized) else w for w in (up, down))
    out = torch.zeros(x.shape)
    for t, token in enumerate(x.float()):
        for j, e in enumerate(routing.experts[t].tolist()):
            h = gates[e] @ token
            out[t] += routing.weights[t, j] * (downs[e] @ (torch.nn.functional.silu(h[0::2]) * h[1::2]))
    return out


@pytest.mark.parametrize("recipe", ["nvfp4_experts", "w4a16_nvfp4_experts"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_layer_is_near_the_loop(recipe: str, seed: int) -> None:
    x, logits, up, down = layer(seed)
    routing = fp4rt.torch.route(logits, TOP)
    scales = (torch.tensor(4 / 2688), torch.tensor(300 / 2688)) if recipe == "nvfp4_experts" else None
    y = fp4rt.torch.experts(x, routing, up, down, recipe=recipe, scales=scales, artifacts=artifact)
    wanted = loop(x, routing, up, down)
    assert y.dtype == torch.bfloat16
    assert torch.linalg.norm(y.float() - wanted) < (0.01 if scales is None else 0.2) * torch.linalg.norm(wanted)


def test_a_layer_of_deepseek_is_near_the_loop() -> None:
    """All of gate before all of up, an activation in a kernel of its own, and sigmoids of the logits."""
    rng = torch.Generator().manual_seed(2)
    x = torch.randn(5, 128, generator=rng).bfloat16()
    up, down = (torch.randn(shape, generator=rng) / 11 for shape in ((3, 256, 128), (3, 128, 128)))
    routing = fp4rt.torch.route(torch.randn(5, 3, generator=rng), TOP, scores="sigmoid", scale=2.5)
    weights = quantize(up, "ds_weight"), quantize(down, "ds_weight")
    y = fp4rt.torch.experts(x, routing, *weights, recipe="deepseek_experts", artifacts=artifact)
    turns = up.reshape(3, 2, 128, 128).transpose(1, 2).reshape(3, 256, 128)  # gate and up by turns, as `loop` has them
    wanted = loop(x, routing, turns, down)
    assert torch.linalg.norm(y.float() - wanted) < 0.1 * torch.linalg.norm(wanted)


@pytest.mark.slow
def test_a_layer_of_gpt_oss_takes_biases() -> None:
    """Weights of zero leave the biases alone: those of the hidden tensor meet the clamped SwiGLU and then nothing."""
    x, zeros = torch.randn(2, 2880).bfloat16(), (quantize(torch.zeros(3, n, 2880), "mxfp4") for n in (5760, 2880))
    routing = fp4rt.torch.route(torch.randn(2, 3), TOP)
    biases = torch.randn(3, 5760).bfloat16(), torch.randn(3, 2880).bfloat16()
    y = fp4rt.torch.experts(x, routing, *zeros, recipe="gpt_oss_experts", biases=biases, artifacts=artifact)
    wanted = (routing.weights[:, :, None] * biases[1].float()[routing.experts.long()]).sum(1)
    torch.testing.assert_close(y.float(), wanted, rtol=0.02, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("recipe", ["nvfp4_experts", "w4a16_nvfp4_experts"])
def test_the_emulator_gives_what_the_reference_does(recipe: str, target: str) -> None:
    x, logits, up, down = layer(1)
    routing = fp4rt.torch.route(logits, TOP)
    scales = (torch.tensor(4 / 2688), torch.tensor(300 / 2688)) if recipe == "nvfp4_experts" else None
    found, wanted = (
        fp4rt.torch.experts(x, routing, up, down, recipe=recipe, scales=scales, artifacts=artifact, **where)
        for where in ({"device": "emulator", "target": target}, {})
    )
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05 * float(wanted.float().abs().max()))


def test_what_a_layer_is_not_given() -> None:
    x, logits, up, down = layer(0)
    routing = fp4rt.torch.route(logits, TOP)
    with pytest.raises(TorchError, match="FP6126: .* take scales, and none are given"):
        fp4rt.torch.experts(x, routing, up, down, artifacts=artifact)
    with pytest.raises(TorchError, match="FP6126: .* take no biases, and some are given"):
        ones = (torch.ones(()), torch.ones(()))
        fp4rt.torch.experts(x, routing, up, down, scales=ones, biases=ones, artifacts=artifact)
    with pytest.raises(TorchError, match=r"FP6142: nvfp4 is a recipe for inference(.|\n)*nvfp4_experts"):
        fp4rt.torch.experts(x, routing, up, down, recipe="nvfp4", artifacts=artifact)
    with pytest.raises(TorchError, match=r"FP6142: nvfp4_experts is a recipe for layers of experts"):
        fp4rt.torch.convert(torch.nn.Sequential(torch.nn.Linear(64, 64)), "nvfp4_experts", artifacts=artifact)
