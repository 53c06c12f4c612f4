"""Gradients of every recipe for training against float64: exactly with its quantizers off, and within a stated bound of
float64 autograd on the dequantized operands with them on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.autograd.gradcheck import GradcheckError, gradcheck

import fp4rt
import fp4rt.torch
from fp4cc.supply import artifact
from fp4num import Quantized
from fp4rt.recipes import RECIPES
from fp4rt.torch import QatLinear, TrainingLinear, unquantized

pytestmark = pytest.mark.torch

TRAINING = [name for name, recipe in RECIPES.items() if recipe.kind in ("training", "qat")]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def layer(recipe: str, n: int, k: int, *, bias: bool = False, dtype: torch.dtype = torch.float32) -> Any:
    plain = torch.nn.Linear(k, n, bias=bias)
    plain.weight.data = normal(n, k, seed=1, dtype=torch.float32) / 4
    return fp4rt.torch.convert(torch.nn.ModuleList([plain]), recipe, artifacts=artifact)[0].to(dtype)


@pytest.mark.parametrize("recipe", TRAINING)
def test_without_quantizers_gradients_are_finite_differences(recipe: str) -> None:
    """And y and all gradients are float64 autograd's, for rows that are filled up. Only transforms want sizes."""
    n, k = (32, 32) if recipe == "quartet" else (5, 6)
    module = layer(recipe, 128, 128, bias=True, dtype=torch.float64)
    module.weight = torch.nn.Parameter(module.weight[:n, :k].contiguous())
    module.bias = torch.nn.Parameter(module.bias[:n].contiguous())
    x, dy = normal(2, 1, k, dtype=torch.float64).requires_grad_(), normal(2, 1, n, seed=2, dtype=torch.float64)
    inputs = (x, module.weight, module.bias)
    first, rest = (part.detach() for part in module.weight.split([2, n - 2]))

    def of_two_rows(x: Any, rows: Any, bias: Any) -> Any:
        return torch.func.functional_call(module, {"weight": torch.cat([rows, rest]), "bias": bias}, (x,))

    with unquantized(module):
        y = module(x)
        found = (y.detach(), *torch.autograd.grad(y, inputs, dy))
        assert gradcheck(of_two_rows, (x, first.requires_grad_(), module.bias))
    z = torch.nn.functional.linear(*inputs)
    for ours, theirs in zip(found, (z.detach(), *torch.autograd.grad(z, inputs, dy)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("role", "change"), [("dgrad", 1.01), ("wgrad", 1.01), ("quantize_dy", -1)])
def test_gradcheck_finds_a_wrong_backward_pass(role: str, change: float) -> None:
    module, x = layer("nvfp4_training", 32, 32, dtype=torch.float64), normal(3, 6, dtype=torch.float64).requires_grad_()
    module.weight = torch.nn.Parameter(module.weight[:5, :6].contiguous())
    with unquantized(module):
        right = module._step.operators[role]
        module._step.operators[role] = lambda **args: {k: v * change for k, v in right(**args).items()}
        with pytest.raises(GradcheckError):
            gradcheck(lambda x, w: module(x), (x, module.weight))


def test_quantizers_are_on_again_after_an_error() -> None:
    module, x = layer("nvfp4_training", 32, 32), normal(32, 32)
    wanted = module(x)
    with pytest.raises(ZeroDivisionError), unquantized(torch.nn.Sequential(module)):
        assert not torch.equal(module(x), wanted)
        raise ZeroDivisionError
    assert torch.equal(module(x), wanted)
    with pytest.raises(fp4rt.TorchError, match="FP6144"):
        module(x.double())


class Recorder:
    """An operator that keeps what it was called with."""

    def __init__(self, operator: Any) -> None:
        self.operator, self.args = operator, {}

    def __call__(self, **args: Any) -> Any:
        self.args = args
        return self.operator(**args)


def real(x: Any) -> torch.Tensor:
    return (fp4rt.dequantize(x) if isinstance(x, Quantized) else x.detach()).double()


def transform(x: torch.Tensor) -> torch.Tensor:
    """The orthogonal Hadamard transform of 32 along the last axis."""
    h = torch.ones(1, 1, dtype=torch.float64)
    while len(h) < 32:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return (x.unflatten(-1, (-1, 32)) @ (h / 32**0.5)).flatten(-2)


def operands(recipe: str, module: Any, x: torch.Tensor, dy: torch.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a step gave, and the float64 operands of its three products, with the masks of their results."""
    if isinstance(module, QatLinear):
        y = module(x)
        y.backward(dy)
        left, right = real(module.input(x)), real(module.kernel(module.weight.bfloat16()))
        pairs = {"y": (left, right, 1), "dx": (real(dy), right.T, 1), "dw": (real(dy).T, left.T, 1)}
    else:
        assert isinstance(module, TrainingLinear)
        step = module._step
        seen = {role: Recorder(step.operators[role]) for role in ("fprop", "dgrad", "wgrad")}
        step.operators.update(seen)
        y = module(x)
        y.backward(dy)
        a, b, c = (seen[role].args for role in ("fprop", "dgrad", "wgrad"))
        masks = (real(b.get("mask", torch.ones(()))), real(c.get("mask", torch.ones(()))))
        pairs = {
            "y": (real(a["x"]), real(a["w"]), 1),
            "dx": (real(b["dy"]), real(b["wt"]), masks[0]),
            "dw": (real(c["dyt"]), real(c["xt"]), masks[1]),
        }
    return {"y": y.detach(), "dx": x.grad, "dw": module.weight.grad}, pairs


def autograd(left: torch.Tensor, right: torch.Tensor, mask: Any, quartet: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """left right^T as the gradient of z = v right with respect to v, whose own gradient is `left`; and the bound's sum
    of the magnitudes of its terms. Quartet's v is transformed and masked, and the product has a factor."""
    v = torch.zeros(len(left), len(right), dtype=torch.float64, requires_grad=True)
    seen = transform(v) * mask * (16 / 9) if quartet else v
    (seen @ right).backward(left)
    terms = left.abs() @ right.abs().T
    if quartet:  # a transform adds 32 of them, each divided by sqrt(32)
        sums = (terms * mask * (16 / 9)).unflatten(-1, (-1, 32)).sum(-1, keepdim=True) / math.sqrt(32)
        terms = sums.expand(-1, -1, 32).flatten(-2)
    assert v.grad is not None
    return v.grad, terms


@pytest.mark.parametrize("recipe", TRAINING)
def test_products_are_within_the_stated_bound_of_float64_autograd(recipe: str) -> None:
    """docs/torch.md, "Training": twice the rounding to the result's type, and those of sums in f32."""
    n, k = 128, 128 if RECIPES[recipe].rows == 128 else 96
    module, x, dy = layer(recipe, n, k), normal(128, k).requires_grad_(), normal(128, n, seed=2)
    found, pairs = operands(recipe, module, x, dy)
    for name, result in found.items():
        left, right, mask = pairs[name]
        quartet = recipe == "quartet" and name != "y"
        exact, terms = autograd(left, right, mask, quartet)
        rounding = 2.0**-9 if result.dtype == torch.bfloat16 or recipe == "nvfp4_qat" else 2.0**-24
        more = 4 + 40 * quartet
        bound = 2 * rounding * exact.abs() + (left.shape[1] + more) * 2.0**-24 * terms
        assert ((result.double() - exact).abs() <= bound).all(), name
        assert float(exact.norm()) > 1
