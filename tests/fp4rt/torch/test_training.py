"""Layers for training: forward, dgrad and wgrad are the recipe's kernels, whatever torch does around them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import fp4rt
import fp4rt.torch
from fp4cc.supply import artifact
from fp4num.hadamard import TE_SIGNS
from fp4rt.recipes import RECIPES
from fp4rt.torch import TrainingLinear

pytestmark = pytest.mark.torch

TRAINING = [name for name, recipe in RECIPES.items() if recipe.kind == "training"]
#: Those of which `step_by_hand` knows the order of kernels; test_quartet.py has the other.
BY_HAND = [name for name in TRAINING if "quantize_x" in RECIPES[name].kernels]
#: Those that differ in more than one of their kernels from each other.
WHOLE = ["mxfp8_training", "nvfp4_training"]
NEAREST = ("mxfp8_training", "deepseek_fp8_training", "nvfp4_training_nearest")
STOCHASTIC = [name for name in TRAINING if name not in NEAREST]
M, N, K = 128, 128, 96


def columns(recipe: str) -> int:
    """K where blocks of the recipe fit into it."""
    return -(-K // RECIPES[recipe].rows) * RECIPES[recipe].rows


@functools.cache
def kernel(recipe: str, role: str) -> fp4rt.Kernel:
    file, _, name = RECIPES[recipe].kernels[role].partition("/")
    return artifact(file, name, None).load_kernel("reference")


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def layer(recipe: str, *, bias: bool = False, dtype: torch.dtype = torch.bfloat16) -> TrainingLinear:
    k = columns(recipe)
    plain = torch.nn.Linear(k, N, bias=bias, dtype=dtype)
    plain.weight.data = normal(N, k, seed=1, dtype=dtype)
    return fp4rt.torch.convert(torch.nn.ModuleList([plain]), recipe, artifacts=artifact)[0]


def model(recipe: str, dtype: torch.dtype = torch.bfloat16) -> Any:
    torch.manual_seed(0)
    width, outputs = (128, 128) if recipe == "deepseek_fp8_training" else (64, 32)
    layers = torch.nn.Sequential(torch.nn.Linear(width, N), torch.nn.GELU(), torch.nn.Linear(N, outputs, bias=False))
    return fp4rt.torch.convert(layers.to(dtype), recipe, artifacts=artifact)


def step_by_hand(recipe: str, x: Any, w: Any, dy: Any, rng: Any) -> dict[str, Any]:
    """The recipe's typed kernels on the reference, one after another, and the operands between them."""
    signs = torch.tensor(TE_SIGNS, dtype=torch.float32)

    def quantized(what: str, value: Any) -> tuple[Any, Any]:
        args = {what: value}
        takes = {a.name for a in kernel(recipe, f"quantize_{what}").manifest.kernel.args}
        if "amax" in takes:
            transforms = any(a.name == "signs" for a in kernel(recipe, "largest").manifest.kernel.args)
            args |= kernel(recipe, "largest")(x=value, **({"signs": signs} if transforms else {}))
        args |= {"signs": signs, "rng": rng}
        found = kernel(recipe, f"quantize_{what}")(**{name: v for name, v in args.items() if name in takes})
        return found["q"], found["qt"]

    (qx, qxt), (qw, qwt), (qdy, qdyt) = quantized("x", x), quantized("w", w), quantized("dy", dy)
    return {
        "y": kernel(recipe, "fprop")(x=qx, w=qw)["y"],
        "dx": kernel(recipe, "dgrad")(dy=qdy, wt=qwt)["dx"],
        "dw": kernel(recipe, "wgrad")(dyt=qdyt, xt=qxt)["dw"],
        "operands": {"y": (qx, qw), "dx": (qdy, qwt), "dw": (qdyt, qxt)},
    }


@pytest.mark.parametrize("recipe", BY_HAND)
def test_the_three_products_are_the_recipes_kernels(recipe: str) -> None:
    x, dy = normal(M, columns(recipe)).requires_grad_(), normal(M, N, seed=2)
    module = layer(recipe, dtype=torch.float32)
    rng = torch.randint(-(2**63), 2**63 - 1, (2,), generator=torch.Generator().manual_seed(7))
    module.generator = torch.Generator().manual_seed(7)
    y = module(x)
    y.backward(dy)
    wanted = step_by_hand(recipe, x.detach(), module.weight.detach().bfloat16(), dy, rng)
    assert torch.equal(y, wanted["y"])
    assert torch.equal(x.grad, wanted["dx"])
    assert module.weight.grad.dtype == torch.float32
    assert torch.equal(module.weight.grad, wanted["dw"])
    for name, found in (("y", y), ("dx", x.grad), ("dw", module.weight.grad)):
        near_float64(found.detach(), *wanted["operands"][name])


def near_float64(found: torch.Tensor, left: Any, right: Any) -> None:
    """A product within one rounding to its type, and those of f32 sums, of float64's on the dequantized operands, which
    is what float64 autograd gives for each of the three."""
    a, b = fp4rt.dequantize(left).double(), fp4rt.dequantize(right).double().T
    exact, total, k = a @ b, a.abs() @ b.abs(), a.shape[1]
    unit = 2.0**-9 if found.dtype == torch.bfloat16 else 2.0**-24
    assert ((found.double() - exact).abs() <= 2 * unit * exact.abs() + (k + 4) * 2.0**-24 * total).all()


@pytest.mark.parametrize("recipe", BY_HAND)
def test_gradients_are_near_those_of_the_products_that_were_meant(recipe: str) -> None:
    """On average: the quantized step points where the exact one does, and its errors are those of its formats."""
    x, dy, module = normal(256, columns(recipe)).requires_grad_(), normal(256, N, seed=2), layer(recipe)
    module(x).backward(dy)
    worst = 0.35 if "4" in recipe else 0.12
    exact = {"dx": dy.float() @ module.weight.float(), "dw": dy.float().T @ x.detach().float()}
    for name, found in (("dx", x.grad), ("dw", module.weight.grad)):
        assert (found.float() - exact[name]).norm() < worst * exact[name].norm(), name


@pytest.mark.parametrize("recipe", [*WHOLE, "deepseek_fp8_training"])
@pytest.mark.parametrize("lead", [(3, 7), (33,), (1,), ()])
def test_any_number_of_rows_and_axes(recipe: str, lead: tuple[int, ...]) -> None:
    """Rows of zeros fill up the last block: gradients are those of the rows that are there."""
    module, k = layer(recipe, bias=True), columns(recipe)
    shape, unit = (*lead, k), RECIPES[recipe].rows
    x = normal(*shape).requires_grad_()
    module.generator = torch.Generator().manual_seed(7)
    y = module(x)
    y.backward(torch.ones_like(y))
    rows = x.detach().reshape(-1, k)
    filled = torch.zeros(-(-len(rows) // unit) * unit, k, dtype=torch.bfloat16)
    filled[: len(rows)] = rows
    dy = torch.zeros(len(filled), N, dtype=torch.bfloat16)
    dy[: len(rows)] = 1
    rng = torch.randint(-(2**63), 2**63 - 1, (2,), generator=torch.Generator().manual_seed(7))
    wanted = step_by_hand(recipe, filled, module.weight.detach(), dy, rng)
    assert torch.equal(y, (wanted["y"][: len(rows)] + module.bias.detach()).reshape(*shape[:-1], N))
    assert torch.equal(x.grad, wanted["dx"][: len(rows)].reshape(shape))
    assert torch.equal(module.weight.grad, wanted["dw"].bfloat16())
    assert torch.equal(module.bias.grad, torch.full((N,), len(rows), dtype=torch.bfloat16))


def gradients(recipe: str, run: Callable[[Any, Any], Any], seed: int = 3, dtype: torch.dtype = torch.bfloat16) -> Any:
    net = model(recipe, dtype)
    x = normal(40, net[0].in_features, dtype=dtype).requires_grad_()
    torch.manual_seed(seed)
    run(net, x).float().square().mean().backward()
    return [x.grad, *(p.grad for p in net.parameters())]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) > 2 and all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("recipe", TRAINING)
def test_a_seed_repeats_a_step_and_checkpointing_does_not_change_it(recipe: str) -> None:
    plain = gradients(recipe, lambda net, x: net(x))
    assert same(plain, gradients(recipe, lambda net, x: net(x)))
    assert same(plain, gradients(recipe, lambda net, x: net(x), seed=4)) == (recipe not in STOCHASTIC)
    for reentrant in (True, False):
        again = gradients(recipe, lambda net, x, r=reentrant: checkpoint(net, x, use_reentrant=r))
        assert same(plain, again)


@pytest.mark.parametrize("recipe", [*WHOLE, "quartet"])
def test_a_compiled_step_repeats_itself(recipe: str) -> None:
    def compiled(net: Any, x: Any) -> Any:
        return torch.compile(net, fullgraph=True, backend="aot_eager")(x)

    found = gradients(recipe, compiled)
    assert same(found, gradients(recipe, compiled))
    if recipe not in STOCHASTIC:  # the compiler may draw in another order
        assert same(found, gradients(recipe, lambda net, x: net(x)))


def test_autocast_takes_float32_to_bfloat16_and_is_refused_for_another_type() -> None:
    def cast(net: Any, x: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return net(x)

    found = gradients("mxfp8_training", cast, dtype=torch.float32)
    assert all(g.dtype == torch.float32 and g.isfinite().all() and g.any() for g in found)
    module = layer("mxfp8_training", dtype=torch.float32)
    with pytest.raises(fp4rt.TorchError, match=r"FP6144: x is torch.float32.*\n.*autocast"):
        module(normal(M, K).float())
    with torch.autocast("cpu", dtype=torch.float16), pytest.raises(fp4rt.TorchError, match="FP6144: autocast to torch"):
        module(normal(M, K))


@pytest.mark.parametrize("recipe", WHOLE)
def test_gradients_accumulate(recipe: str) -> None:
    """Two halves of a batch, one after another: the sum of their gradients, each by itself."""
    module, halves = layer(recipe, dtype=torch.float32), [normal(32, K, seed=i) for i in (4, 5)]
    each = []
    for whole in (False, True):
        torch.manual_seed(0)
        module.weight.grad = None
        for x in halves:
            module(x).float().square().sum().backward()
            each.append(module.weight.grad.clone())
            if not whole:
                module.weight.grad = None
    assert torch.equal(each[3], each[0] + each[1])


def test_what_needs_no_gradient_gets_none() -> None:
    module, x = layer("mxfp8_training"), normal(M, K)
    module(x).sum().backward()
    assert module.weight.grad is not None and x.grad is None
    module.weight.requires_grad_(False)
    y = module(x.requires_grad_())
    y.sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        assert torch.equal(module(x), y)


def test_a_gradient_of_a_gradient_is_refused() -> None:
    x = normal(M, K).requires_grad_()
    (first,) = torch.autograd.grad(layer("mxfp8_training")(x).float().square().sum(), x, create_graph=True)
    with pytest.raises(fp4rt.TorchError, match="FP6145: .*no second derivative"):
        first.sum().backward()


@pytest.mark.parametrize("recipe", ["mxfp8_training", "quartet", "nvfp4_qat"])
def test_transforms_of_torch_func_are_refused(recipe: str) -> None:
    net, x = model(recipe), normal(2, 32, 64)
    for transformed in (
        lambda: torch.vmap(net)(x),
        lambda: torch.func.grad(lambda x: net(x).float().sum())(x),
        lambda: torch.func.jvp(net, (x,), (x,)),
    ):
        with pytest.raises(fp4rt.TorchError, match=rf"FP6148: a layer of {recipe} was called inside a transform"):
            transformed()


@pytest.mark.parametrize("recipe", [*WHOLE, "quartet"])
def test_training_lowers_the_loss(recipe: str) -> None:
    torch.manual_seed(1)
    net, x = model(recipe), normal(128, 64)
    with torch.no_grad():
        target = torch.tanh(x.float() @ normal(64, 32, seed=9).float() / 8)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        loss = (net(x).float() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_a_layer_is_copied_moved_to_another_type_and_saved() -> None:
    net, x = model("nvfp4_training", torch.float32), normal(32, 64)
    y = net(x)
    other = copy.deepcopy(net)
    assert torch.equal(other(x), y)
    assert torch.equal(copy.deepcopy(net).bfloat16()(x), y)  # the weight was rounded to bf16 anyway
    for p in other.parameters():
        p.data.zero_()
    other.load_state_dict(net.state_dict())
    assert set(net.state_dict()) == {"0.weight", "0.bias", "2.weight"}
    assert torch.equal(other(x), y)
