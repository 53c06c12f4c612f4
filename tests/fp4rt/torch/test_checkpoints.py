"""`load_quantized`: a checkpoint's codes reach the layers as they are, and what does not fit changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fp4rt
import fp4rt.torch
from fp4cc.supply import artifact
from fp4num.tensors import to_array
from fp4rt import io
from fp4rt.errors import RuntimeFault
from fp4rt.io.tensors import Tensor, as_tensor
from fp4rt.torch import Linear, load_quantized

pytestmark = pytest.mark.torch


class Model(torch.nn.Module):
    """An embedding, two layers that a checkpoint quantizes, a norm, and a head that is tied to the embedding."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(32, 128)
        self.up = torch.nn.Linear(128, 256, bias=bias)
        self.down = torch.nn.Linear(256, 128, bias=False)
        self.norm = torch.nn.LayerNorm(128)
        self.head = torch.nn.Linear(128, 32, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        return self.head(self.norm(x + self.down(torch.nn.functional.gelu(self.up(x)))))


def model(**options: Any) -> Model:
    return Model(**options).bfloat16().eval()


def writer(convention: str) -> tuple[str, Callable[[io.Linear, str], dict[str, Tensor]]]:
    """The format of a convention's weights, and what writes a layer."""
    if convention == "modelopt":
        return "nvfp4", io.to_modelopt
    fmt = {"nvfp4-pack-quantized": "nvfp4", "mxfp4-pack-quantized": "mxfp4", "mxfp8-quantized": "mxfp8_e4m3"}[
        convention
    ]
    return fmt, lambda layer, name: io.to_compressed_tensors(layer, name, convention)  # pyright: ignore[reportArgumentType]


def saved(source: Model, convention: str, scales: dict[str, float] | None = None) -> dict[str, Any]:
    """A checkpoint of a model: `up` and `down` quantized, perhaps with calibrated scales."""
    fmt, write = writer(convention)
    tensors: dict[str, Any] = {k: v for k, v in source.state_dict().items() if k.split(".")[0] not in ("up", "down")}
    del tensors["head.weight"]
    for name in ("up", "down"):
        layer = getattr(source, name)
        bias = None if layer.bias is None else to_array(layer.bias.detach().float())
        scale = None if scales is None else np.float32(scales[name])
        weight = fp4rt.quantize(to_array(layer.weight.detach().float()), fmt)
        tensors |= write(io.Linear(weight, scale, bias=bias), name)
    return tensors


@pytest.mark.parametrize(
    "convention, recipe",
    [
        ("modelopt", "nvfp4"),
        ("modelopt", "w4a16_nvfp4"),
        ("nvfp4-pack-quantized", "nvfp4"),
        ("mxfp4-pack-quantized", "w4a8"),
        ("mxfp8-quantized", "mxfp8"),
    ],
)
def test_a_loaded_model_is_the_converted_one(convention: str, recipe: str, tmp_path: Path) -> None:
    source = model()
    io.save_checkpoint(
        tmp_path / "model.safetensors", {k: as_tensor(v, k) for k, v in saved(source, convention).items()}
    )
    other = model()
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert load_quantized(other, tmp_path, recipe, convention, artifacts=artifact) is other
    inside = lambda name, layer: name in ("up", "down")  # noqa: E731
    wanted = fp4rt.torch.convert(copy.deepcopy(source), recipe, inside, artifacts=artifact)
    tokens = torch.arange(12).reshape(2, 6)
    assert type(other.up) is Linear and type(other.head) is torch.nn.Linear
    assert other.head.weight is other.embed.weight
    with torch.no_grad():
        assert torch.equal(other(tokens), wanted(tokens)) and bool(other(tokens).any())


def test_calibrated_scales_are_those_of_the_activations() -> None:
    source, scales = model(), {"up": 0.01, "down": 0.02}
    loaded = load_quantized(model(), saved(source, "modelopt", scales), "nvfp4", "modelopt", artifacts=artifact)
    x = torch.randn(4, 128, generator=torch.Generator().manual_seed(1)).bfloat16()
    kernel = artifact("linear_layers", "nvfp4", None).load_kernel("reference")
    q = fp4rt.quantize(x, "nvfp4", tensor_scale=np.float32(0.01))
    with torch.no_grad():
        wanted = kernel(x=q, w=loaded.up.weight.value)["y"] + source.up.bias
        assert torch.equal(loaded.up(x), wanted)
    assert float(loaded.down.input_scale) == np.float32(0.02)


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    "change, options, message",
    [
        (without("norm.weight"), {}, "FP6149: the checkpoint lacks norm.weight"),
        (lambda t: t.update(rope=torch.zeros(3)), {}, "FP6149: the checkpoint has rope.*\n.*ignoring"),
        (lambda t: t.update({"norm.weight": torch.zeros(64)}), {}, r"FP6149: norm.weight is torch.float32 \[64\]"),
        (lambda t: t.update({"up.weight_g_idx": np.zeros(3, np.int32)}), {}, "FP6406: beside the weight"),
        (without("up.bias"), {}, "FP6143: up, .*the model has a bias for it, the checkpoint none"),
        (without("up.weight_scale_2"), {}, "FP6402: there is no tensor 'up.weight_scale_2'"),
        (lambda t: None, {"convention": "gptq"}, "FP6149: no convention of checkpoints.*\n.*modelopt, nvfp4-pack"),
        (lambda t: None, {"recipe": "nvfp4_training"}, "FP6142: nvfp4_training is a recipe for training"),
        (lambda t: None, {"recipe": "mxfp8"}, "FP6405: a ModelOpt NVFP4 checkpoint holds e2m1"),
    ],
)
def test_what_does_not_fit_changes_nothing(change: Any, options: dict[str, Any], message: str) -> None:
    tensors, other = saved(model(), "modelopt"), model()
    change(tensors)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(RuntimeFault, match=message):
        load_quantized(other, tensors, **{"recipe": "nvfp4", "convention": "modelopt", **options}, artifacts=artifact)
    after = other.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_a_tensor_without_a_place_can_be_ignored() -> None:
    tensors = {**saved(model(), "modelopt"), "rope": torch.zeros(3)}
    load_quantized(model(), tensors, "nvfp4", "modelopt", ignoring=["rope"], artifacts=artifact)
