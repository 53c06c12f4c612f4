"""Quartet's step: the recipe's kernels in their order, masks where the forward pass clipped, gradients without bias."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

import fp4rt
import fp4rt.torch
from fp4cc.supply import artifact
from fp4rt.recipes import RECIPES
from fp4rt.torch.quartet import unclipped

pytestmark = pytest.mark.torch

M, N, K = 64, 128, 96


@functools.cache
def kernel(role: str) -> fp4rt.Kernel:
    file, _, name = RECIPES["quartet"].kernels[role].partition("/")
    return artifact(file, name, None).load_kernel("reference")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def layer() -> Any:
    plain = torch.nn.Linear(K, N, bias=False)
    plain.weight.data = normal(N, K, seed=1).float()
    return fp4rt.torch.convert(torch.nn.ModuleList([plain]), "quartet", artifacts=artifact)[0]


def mask_of(found: dict[str, Any]) -> torch.Tensor:
    """By the scales where the format says that they are, one block after another."""
    scales = np.exp2(found["q"].numpy().scale_grid()[0].astype(np.float64) - 127)
    bound = torch.from_numpy(np.repeat(scales, 32, axis=-1) * 6)
    return found["h"].double().abs() < bound


def hadamard(x: torch.Tensor) -> torch.Tensor:
    """The orthogonal transform of 32 along the last axis, in float64."""
    h = torch.ones(1, 1, dtype=torch.float64)
    while len(h) < 32:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return (x.double().reshape(-1, 32) @ (h / 32**0.5)).reshape(x.shape)


def test_a_step_is_the_recipes_kernels_by_hand() -> None:
    x, dy, module = normal(M, K).requires_grad_(), normal(M, N, seed=2), layer()
    module.generator = torch.Generator().manual_seed(7)
    y = module(x)
    y.backward(dy)
    drawn = torch.Generator().manual_seed(7)
    rng = torch.randint(-(2**63), 2**63 - 1, (3, 2), generator=drawn)
    signs = (torch.randint(0, 2, (32,), generator=drawn) * 2 - 1).float()
    fx, fw = kernel("quantize")(x=x.detach()), kernel("quantize")(x=module.weight.detach().bfloat16())
    assert torch.equal(fx["v"].float(), fp4rt.dequantize(fx["q"]))
    xt, wt = (kernel("transpose")(v=f["v"], signs=signs, rng=rng[i])["qt"] for f, i in ((fx, 1), (fw, 2)))
    q = kernel("quantize_dy")(dy=dy, signs=signs, rng=rng[0])
    masks = [mask_of(f) for f in (fx, fw)]
    assert all(0 < int((~m).sum()) < m.numel() / 10 for m in masks)
    dx = kernel("dgrad")(dy=q["q"], wt=wt, mask=masks[0].bfloat16())["dx"]
    dw = kernel("wgrad")(dyt=q["qt"], xt=xt, mask=masks[1].bfloat16())["dw"]
    assert torch.equal(y, kernel("fprop")(x=fx["q"], w=fw["q"])["y"])
    assert torch.equal(x.grad, dx)
    assert torch.equal(module.weight.grad, dw)
    for found, left, right, mask in ((dx, q["q"], wt, masks[0]), (dw, q["qt"], xt, masks[1])):
        a, b = fp4rt.dequantize(left).double(), fp4rt.dequantize(right).double().T
        exact = hadamard(a @ b * (16 / 9) * mask)
        assert ((found.double() - exact).abs() <= 2.0**-8 * exact.abs() + 1e-5 * exact.abs().max()).all()


@pytest.mark.parametrize("shape", [(1, 32), (128, 128), (200, 96), (130, 288)])
def test_masks_are_where_the_scales_lie(shape: tuple[int, int]) -> None:
    x = normal(*shape, seed=3) * torch.exp2(torch.arange(shape[1]) // 32 % 7 - 3.0).bfloat16()
    found = kernel("quantize")(x=x)
    assert torch.equal(unclipped(found["h"], found["q"]), mask_of(found))


def test_gradients_are_right_on_average() -> None:
    """Of many draws: the transforms cancel, 16/9 undoes 3/4, and what the mean misses shrinks with their number."""
    x, dy, module = normal(32, K).requires_grad_(), normal(32, N, seed=2), layer()
    module.generator = torch.Generator().manual_seed(5)
    fx, fw = kernel("quantize")(x=x.detach()), kernel("quantize")(x=module.weight.detach().bfloat16())
    exact = {
        "dx": hadamard(dy.double() @ fw["v"].double() * mask_of(fx)),
        "dw": hadamard(dy.double().T @ fx["v"].double() * mask_of(fw)),
    }
    total = {"dx": torch.zeros(32, K).double(), "dw": torch.zeros(N, K).double()}
    errors: dict[str, list[float]] = {"dx": [], "dw": []}
    for i in range(64):
        x.grad = module.weight.grad = None
        module(x).backward(dy)
        for name, grad in (("dx", x.grad), ("dw", module.weight.grad)):
            total[name] += grad.double()
            if i in (0, 63):
                errors[name].append(float((total[name] / (i + 1) - exact[name]).norm() / exact[name].norm()))
    for name, (one, many) in errors.items():
        assert one < 0.45 and many < one / 5, name  # 1/8 for draws that are independent
