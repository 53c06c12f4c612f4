"""`convert`: layers of a model become a recipe's, named errors say why one does not, and the result is a model."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import fp4rt
import fp4rt.torch
from fp4cc.supply import artifact
from fp4rt.recipes import RECIPES, kernels_of
from fp4rt.torch import Linear, TrainingLinear, convert

pytestmark = pytest.mark.torch

INFERENCE = [name for name, recipe in RECIPES.items() if recipe.kind == "inference"]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def mlp() -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = torch.nn.Linear(256, 128), torch.nn.GELU(), torch.nn.Linear(128, 96, bias=False)
    return torch.nn.Sequential(*layers).bfloat16()


@functools.cache
def kernel(recipe: str, role: str) -> fp4rt.Kernel:
    file, _, name = RECIPES[recipe].kernels[role].partition("/")
    return artifact(file, name, None).load_kernel("reference")


@pytest.mark.parametrize("recipe", INFERENCE)
def test_a_converted_layer_is_the_recipes_kernels_by_hand(recipe: str) -> None:
    source, x = mlp()[0], normal(3, 5, 256)
    layer = convert(torch.nn.ModuleList([copy.deepcopy(source)]), recipe, artifacts=artifact)[0]
    assert type(layer) is Linear
    weight = fp4rt.quantize(source.weight.detach(), layer.weight.format)
    assert torch.equal(layer.weight.codes, weight.codes) and torch.equal(layer.weight.scales, weight.scales)
    rows: Any = x.reshape(-1, 256)
    (activation,) = (a for a in kernel(recipe, "linear").manifest.kernel.args if a.name == "x")
    if activation.format is not None:
        rows = fp4rt.quantize(rows, activation.format)  # with the largest magnitude of all its rows
    wanted = kernel(recipe, "linear")(x=rows, w=weight)["y"] + source.bias.detach()
    with torch.no_grad():
        assert torch.equal(layer(x), wanted.reshape(3, 5, 128))
        exact = source.float()(x.float())
    assert (layer(x).float() - exact).norm() < (0.25 if "4" in recipe else 0.08) * exact.norm()


@pytest.mark.parametrize("recipe", INFERENCE)
def test_a_converted_model_is_saved_loaded_copied_and_compiled(recipe: str) -> None:
    model, x = convert(mlp(), recipe, artifacts=artifact), normal(8, 256)
    y = model(x)
    state, whole = io.BytesIO(), io.BytesIO()
    torch.save(model.state_dict(), state)
    torch.save(model, whole)
    state.seek(0)
    whole.seek(0)
    other = mlp()
    for p in other.parameters():
        p.data = normal(*p.shape, seed=5)
    convert(other, recipe, artifacts=artifact)
    assert not torch.equal(other(x), y)
    other.load_state_dict(torch.load(state, weights_only=True))
    assert torch.equal(other(x), y)
    assert torch.equal(torch.load(whole, weights_only=False)(x), y)
    assert torch.equal(copy.deepcopy(model)(x), y)
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x), y)


def test_a_filter_is_asked_about_each_layer_once_by_its_name() -> None:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = torch.nn.Linear(64, 128)
            self.again = self.up  # one layer with two names
            self.attention = torch.nn.MultiheadAttention(64, 2)  # its out_proj is a subclass that it reads by itself
            self.norm = torch.nn.LayerNorm(64)

    model = torch.nn.ModuleDict({"a": Block(), "head": torch.nn.Linear(64, 32)}).bfloat16()
    asked: list[str] = []
    convert(model, "mxfp8", lambda name, _: bool(asked.append(name)) or name != "head", artifacts=artifact)
    assert asked == ["head", "a.up"] or asked == ["a.up", "head"]
    assert type(model["a"].up) is Linear and model["a"].again is model["a"].up
    assert type(model["head"]) is torch.nn.Linear
    assert not any(isinstance(m, Linear) for m in model["a"].attention.modules())


def test_parameters_of_training_stay_the_models_and_stay_tied() -> None:
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(96, 64), "head": torch.nn.Linear(64, 96, bias=False)})
    model["head"].weight = model["embed"].weight
    before = dict(model.named_parameters())
    convert(model, "mxfp8_training", artifacts=artifact)
    assert isinstance(model["head"], TrainingLinear)
    assert dict(model.named_parameters()).keys() == before.keys()
    assert model["head"].weight is model["embed"].weight is before["embed.weight"]


def hooked() -> Any:
    model = mlp()
    model[2].register_forward_hook(lambda *_: None)
    return model


def infinite() -> Any:
    model = mlp()
    model[2].weight.data[3, 4] = float("inf")
    return model


def sized(n: int, k: int, **options: Any) -> Callable[[], Any]:
    return lambda: torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(k, n, **{"dtype": torch.bfloat16, **options}))


@pytest.mark.parametrize(
    "make, recipe, text",
    [
        (mlp, "nvpf4", r"FP6142: no recipe is called 'nvpf4'\n.*did you mean 'nvfp4'\?"),
        (hooked, "mxfp8", r"FP6143: 2, a linear layer \[96, 128\]: it has forward hooks"),
        (infinite, "mxfp8", r"FP6143: 2, a linear layer \[96, 128\]: its weight has values that are not finite"),
        (lambda: mlp().float(), "mxfp8", r"FP6143: 0, a linear .*torch.float32, not bfloat16\n.*to\(torch.bfloat16\)"),
        (lambda: mlp().half(), "mxfp8_training", r"FP6143: 0, .*torch.float16, not bfloat16 or float32"),
        (sized(64, 80), "mxfp8", r"FP6143: 1, a linear layer \[64, 80\]: .*K % 32"),
        (sized(72, 64), "mxfp8_training", r"FP6143: 1, a linear layer \[72, 64\]: .*N % 32"),
        (sized(64, 64, device="meta"), "mxfp8", r"FP6143: 1, .*device meta"),
        (torch.nn.ReLU, "mxfp8", "FP6143: the model has no torch.nn.Linear"),
    ],
)
def test_what_cannot_be_converted_is_named_and_the_model_left_as_it_was(
    make: Callable[[], Any], recipe: str, text: str
) -> None:
    model = make()
    before = [type(m) for m in model.modules()]
    with pytest.raises(fp4rt.TorchError, match=text):
        convert(model, recipe, artifacts=artifact)
    assert [type(m) for m in model.modules()] == before


def test_without_a_compiler_artifacts_of_a_folder_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(8, 256)
    wanted = convert(mlp(), "nvfp4", artifacts=artifact)(x)
    monkeypatch.setattr("fp4rt.supply.entry_points", lambda **_: ())
    with pytest.raises(fp4rt.ArtifactError, match="FP6140.*\n.*install fp4cc.*recipes build.*FP4RT_ARTIFACTS"):
        convert(mlp(), "nvfp4")
    with pytest.raises(fp4rt.ArtifactError, match="FP6141: .*missing is no folder"):
        convert(mlp(), "nvfp4", artifacts=tmp_path / "missing")
    for file, name in kernels_of([RECIPES["nvfp4"]]):
        artifact(file, name, None).save(tmp_path / "sm_100a" / file)
    assert torch.equal(convert(mlp(), "nvfp4", artifacts=tmp_path)(x), wanted)
    monkeypatch.setenv("FP4RT_ARTIFACTS", str(tmp_path))
    assert torch.equal(convert(mlp(), "nvfp4")(x), wanted)
    with pytest.raises(fp4rt.ArtifactError, match=r"FP6141: .*no kernel mxfp8 of linear_layers\n.*fp4cc recipes build"):
        convert(mlp(), "mxfp8")
    with pytest.raises(fp4rt.ArtifactError, match=r"FP6141: .*no kernel nvfp4 of linear_layers for sm_90a\n.*--target"):
        convert(mlp(), "nvfp4", device="emulator", target="sm_90a")


def test_the_installed_compiler_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def load(self) -> Any:
            return artifact

    monkeypatch.setattr("fp4rt.supply.entry_points", lambda group: [Entry()] if group == "fp4rt.compilers" else [])
    x = normal(8, 256)
    assert torch.equal(convert(mlp(), "mxfp4")(x), convert(mlp(), "mxfp4", artifacts=artifact)(x))


def test_devices_for_which_nothing_is_compiled_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(fp4rt.DeviceError, match="FP6147: no kernels are made for the device 'mps'"):
        convert(mlp(), "mxfp8", device="mps", artifacts=artifact)

    class Old:
        capability = (8, 0)

    monkeypatch.setattr("fp4rt.cuda.driver.context", lambda _: Old())
    with pytest.raises(fp4rt.DeviceError, match=r"FP6147: GPU 0 has compute capability 8.0.*\n.*sm_90a, sm_100a"):
        convert(mlp(), "mxfp8", device="cuda", artifacts=artifact)


def whole(*shape: int, seed: int) -> torch.Tensor:
    """Small numbers whose products have exact sums; the largest of each row is 7, whose FP8 scale is a power of two."""
    x = (normal(*shape, seed=seed) * 2).round().clamp(-6, 6)
    x[:, 0] = 7
    return x


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_layer_on_the_emulator_is_the_references(recipe: str, target: str) -> None:
    """The kernels that a GPU would run, forward and backward."""
    training = RECIPES[recipe].kind == "training"
    found = []
    for device in ("emulator", "reference"):
        net = torch.nn.Sequential(torch.nn.Linear(128, 128, dtype=torch.bfloat16))
        net[0].weight.data = whole(128, 128, seed=1)
        net[0].bias.data.zero_()
        supply = functools.partial(artifact, plans=1)
        convert(net, recipe, device=device, target=target if device == "emulator" else None, artifacts=supply)
        x = whole(96, 128, seed=2)
        if not training:
            found.append([net(x)])
            continue
        torch.manual_seed(0)
        y = net(x.requires_grad_())
        y.backward(whole(96, 128, seed=3))
        found.append([y.detach(), x.grad, net[0].weight.grad])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("recipe", INFERENCE)
def test_products_of_a_part_of_k_on_the_emulator_are_the_references(recipe: str, target: str) -> None:
    file, _, name = RECIPES[recipe].kernels["partial"].partition("/")
    typed = artifact(file, name, None).manifest.kernel
    args = {}
    for arg, x in (("x", whole(96, 128, seed=2)), ("w", whole(128, 128, seed=1))):
        (found,) = (a for a in typed.args if a.name == arg)
        args[arg] = x if found.format is None else fp4rt.quantize(x, found.format)
    ours = artifact(file, name, target, plans=1).load_kernel("emulator")(**args)["y"]
    assert ours.dtype == torch.float32
    assert torch.equal(ours, artifact(file, name, None).load_kernel("reference")(**args)["y"])
