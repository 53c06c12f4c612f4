"""Layers of recipes on a GPU beside the reference: eager, compiled, exported, checkpointed and in a CUDA graph.

Kernels come from `FP4RT_ARTIFACTS`, a folder made by `fp4cc recipes build RECIPE.. -o DIR --target sm_90a` of all
recipes.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import fp4rt.torch
from fp4num import quantize
from fp4rt.recipes import RECIPES

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _compiled_afresh() -> None:
    """torch.compile gives up on a function that it has compiled for many layers."""
    torch._dynamo.reset()


INFERENCE = [name for name, recipe in RECIPES.items() if recipe.kind == "inference"]
TRAINING = [name for name, recipe in RECIPES.items() if recipe.kind == "training"]


def whole(*shape: int, seed: int) -> torch.Tensor:
    """Numbers whose products have exact sums; the largest of rows and columns is 7, whose scale is a power of two."""
    x = (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2).round().clamp(-6, 6)
    x[:, 0] = x[0] = 7
    return x.bfloat16()


def layer(recipe: str, device: str) -> Any:
    plain = torch.nn.Linear(128, 128, bias=False, dtype=torch.bfloat16)
    plain.weight.data = whole(128, 128, seed=1)
    return fp4rt.torch.convert(torch.nn.Sequential(plain).to(device), recipe)


def gradients(net: Any, run: Any = None) -> list[torch.Tensor]:
    device = net[0].weight.device
    x = whole(96, 128, seed=2).to(device).requires_grad_()
    net.zero_grad()
    y = (run or net)(x)
    y.backward(whole(96, 128, seed=3).to(device))
    return [t.detach().cpu() for t in (y, x.grad, net[0].weight.grad)]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) == 3 and all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("recipe", INFERENCE)
def test_inference_eager_compiled_and_exported(recipe: str) -> None:
    net, x = layer(recipe, "cuda"), whole(96, 128, seed=2)
    with torch.no_grad():
        wanted = layer(recipe, "cpu")(x)
        assert torch.equal(net(x.cuda()).cpu(), wanted)
        assert torch.equal(torch.compile(net, fullgraph=True)(x.cuda()).cpu(), wanted)
        program = torch.export.export(net, (x.cuda(),), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False)
        assert torch.equal(program.module()(x.cuda()).cpu(), wanted)


@pytest.mark.parametrize("recipe", TRAINING)
def test_a_training_step_is_the_references(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = torch.randint

    def with_numbers_of_the_host(run: Any) -> Any:
        drawn = torch.Generator().manual_seed(11)

        def randint(low: int, high: int, size: Any, *, device: Any, **_: Any) -> torch.Tensor:
            return original(low, high, size, generator=drawn).to(device)

        monkeypatch.setattr(torch, "randint", randint)
        try:
            return run()
        finally:
            monkeypatch.setattr(torch, "randint", original)

    on_gpu, on_host = layer(recipe, "cuda"), layer(recipe, "cpu")
    assert same(*[with_numbers_of_the_host(lambda net=net: gradients(net)) for net in (on_gpu, on_host)])


@pytest.mark.parametrize("recipe", TRAINING)
def test_a_seed_repeats_a_step_whatever_is_around_it(recipe: str) -> None:
    net = layer(recipe, "cuda")

    def seeded(run: Any = None) -> list[torch.Tensor]:
        torch.manual_seed(5)
        return gradients(net, run)

    plain = seeded()
    assert same(plain, seeded())
    assert same(plain, seeded(lambda x: checkpoint(net, x, use_reentrant=False)))
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert same(plain, seeded())
    compiled = torch.compile(copy.deepcopy(net), fullgraph=True)
    torch.manual_seed(5)
    again = gradients(compiled._orig_mod, compiled)
    if not any("rng" in {a.name for a in o.kernel.manifest.kernel.args} for o in net[0]._step.operators.values()):
        assert same(plain, again)  # the compiler may draw in another order


@pytest.mark.parametrize("recipe", ["deepseek_fp8_training", "nvfp4_training", "quartet"])
def test_a_captured_step_draws_anew_and_repeats(recipe: str) -> None:
    net = layer(recipe, "cuda")
    x, dy = whole(96, 128, seed=2).cuda().requires_grad_(), whole(96, 128, seed=3).cuda()

    def step() -> None:
        x.grad = net[0].weight.grad = None
        net(x).backward(dy)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        graph.replay()
        found.append([x.grad.clone(), net[0].weight.grad.clone()])
    torch.manual_seed(5)
    step()
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert torch.equal(found[0][1], net[0].weight.grad)
    assert torch.equal(found[0][1], found[2][1]) == (recipe == "deepseek_fp8_training")


def test_values_for_quantization_aware_training() -> None:
    found = []
    for device in ("cuda", "cpu"):
        aware = layer("nvfp4_qat", device)[0]
        x = torch.randn(96, 128, generator=torch.Generator().manual_seed(3)).bfloat16().to(device).requires_grad_()
        own = aware.input(x)
        aware.input.tensor_scale = torch.tensor(0.0007, device=device)
        given = aware.input(x)
        given.backward(torch.ones_like(given))
        found.append([t.detach().cpu() for t in (own, given, x.grad)])
    assert same(*found)


def of_experts(recipe: str) -> tuple[tuple[Any, Any], dict[str, Any]]:
    """Weights of 8 experts on the host, D = F = 256 (2880 of gpt-oss), and what else a layer of the recipe takes."""
    d, fmt = 256, "nvfp4_experts"
    more: dict[str, Any] = {"recipe": recipe}
    rng = torch.Generator().manual_seed(1)
    if recipe == "nvfp4_experts":
        more["scales"] = torch.tensor(4 / 2688), torch.tensor(300 / 2688)
    elif recipe == "deepseek_experts":
        fmt = "ds_weight"
    elif recipe.startswith("gpt_oss"):
        d, fmt = 2880, "mxfp4"
        more["biases"] = tuple(torch.randn(8, n, generator=rng).bfloat16() for n in (2 * d, d))
    weights = (torch.randn(8, n, d, generator=rng) / d**0.5 for n in (2 * d, d))
    up, down = (quantize(w, fmt) for w in weights)
    return (up, down), more


@pytest.mark.parametrize("recipe", [name for name, recipe in RECIPES.items() if recipe.kind == "experts"])
def test_experts_in_a_graph_follow_the_routing(recipe: str) -> None:
    (up, down), more = of_experts(recipe)
    on_gpu = {key: tuple(t.cuda() for t in of) if isinstance(of, tuple) else of for key, of in more.items()}
    weights = up.to("cuda"), down.to("cuda")
    rng = torch.Generator().manual_seed(2)
    x, logits = torch.randn(40, down.shape[1], generator=rng).bfloat16(), torch.randn(40, 8, generator=rng)
    to_two = logits.clone()
    to_two[:, 3:5] += 100
    spread = logits.flip(1) * 4
    x_now, logits_now = x.cuda(), logits.cuda()

    def step() -> tuple[Any, torch.Tensor]:
        routing = fp4rt.torch.route(logits_now, 2)
        return routing, fp4rt.torch.experts(x_now, routing, *weights, **on_gpu)

    routing, y = step()
    host = type(routing)(**{f: getattr(routing, f).cpu() for f in ("experts", "weights", "offsets", "rows", "places")})
    wanted = fp4rt.torch.experts(x, host, up, down, **more)
    torch.testing.assert_close(y.cpu(), wanted, rtol=0.05, atol=0.05 * float(wanted.float().abs().max()))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _, captured = step()
    for now in (to_two, spread, logits):
        logits_now.copy_(now)
        x_now.copy_(x.roll(1, 0))
        graph.replay()
        replayed = captured.clone()
        assert torch.equal(replayed, step()[1])
