"""Quantization-aware training: the values of the deployed layer, and a gradient that passes straight through."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import fp4rt
import fp4rt.torch
from fp4cc.supply import artifact
from fp4rt.recipes import RECIPES
from fp4rt.torch import FakeQuantize, QatLinear
from fp4rt.torch.kernels import RecipeKernels

pytestmark = pytest.mark.torch


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def fake(scale: float | None = None) -> FakeQuantize:
    return FakeQuantize(RecipeKernels(RECIPES["nvfp4_qat"], None, None, artifact), "cpu", scale)


def through_nvfp4(x: torch.Tensor, **options: Any) -> torch.Tensor:
    return fp4rt.dequantize(fp4rt.quantize(x, "nvfp4", **options)).bfloat16()


def test_values_are_those_of_the_format_and_the_gradient_passes() -> None:
    x, dy = normal(3, 8, 64).requires_grad_(), normal(3, 8, 64, seed=1)
    y = fake()(x)
    y.backward(dy)
    assert torch.equal(y, through_nvfp4(x.detach().reshape(-1, 64)).reshape(3, 8, 64))
    assert torch.equal(x.grad, dy)
    assert not fake()(torch.zeros(4, 64, dtype=torch.bfloat16)).any()


def test_a_given_scale_clips_and_no_gradient_passes_there() -> None:
    x, dy, scale = normal(32, 64).requires_grad_(), normal(32, 64, seed=1), 1.5 / 2688
    y = fake(scale)(x)
    y.backward(dy)
    inside = x.detach().float().abs() <= torch.tensor(2688.0) * torch.tensor(scale)
    assert 0 < int(inside.sum()) < inside.numel()
    assert torch.equal(y, through_nvfp4(x.detach(), tensor_scale=torch.tensor(scale)))
    assert torch.equal(x.grad, torch.where(inside, dy, 0))


def test_a_layer_computes_what_the_deployed_one_will_and_learns() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.ReLU(), torch.nn.Linear(96, 32)).bfloat16()
    net, x = fp4rt.torch.convert(copy.deepcopy(plain), "nvfp4_qat", artifacts=artifact), normal(32, 64)
    assert type(net[0]) is QatLinear and set(net.state_dict()) == set(plain.state_dict())
    first = net[0](x)
    linear = torch.nn.functional.linear
    assert torch.equal(first, linear(through_nvfp4(x), through_nvfp4(plain[0].weight.detach()), plain[0].bias))
    deployed = fp4rt.torch.convert(copy.deepcopy(plain), "nvfp4", artifacts=artifact)
    with torch.no_grad():
        assert (deployed[0](x).float() - first.float()).norm() < 0.01 * first.float().norm()
    target, losses = normal(32, 32, seed=2), []
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(20):
        loss = (net(x) - target).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_autocast_compile_and_types() -> None:
    plain = torch.nn.Sequential(torch.nn.Linear(64, 96))
    net, x = fp4rt.torch.convert(plain, "nvfp4_qat", artifacts=artifact), normal(32, 64)
    with pytest.raises(fp4rt.TorchError, match="FP6144: x is torch.float32: nvfp4_qat takes bfloat16"):
        net(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net(x.float())
        y.float().sum().backward()
    assert torch.equal(y, net(x)) and net[0].weight.grad.dtype == torch.float32
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), y)
    net[0].input.tensor_scale = torch.tensor(0.001)
    assert torch.equal(copy.deepcopy(net).bfloat16()(x), net(x))
