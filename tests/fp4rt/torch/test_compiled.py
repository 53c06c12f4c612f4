"""The inference recipes of examples/, compiled, as layers and operators on the emulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fp4cc
import fp4rt
import fp4rt.torch
from fp4cc.supply import artifact
from fp4rt.torch import Linear

pytestmark = [pytest.mark.torch, pytest.mark.slow]

RECIPES = Path(__file__).resolve().parents[3] / "examples" / "recipes"


@pytest.mark.parametrize("recipe", ["w4a16_decode", "ptq_linear", "deepseek_linear"])
def test_a_recipe_is_a_layer(recipe: str) -> None:
    """On the emulator what it is on the reference; the sums of products differ by their order alone."""
    spec, scale = RECIPES / f"{recipe}.fp4", torch.tensor(0.01)
    artifacts = [fp4cc.compile(spec, kernel="linear", plans=1)]
    if recipe != "w4a16_decode":
        artifacts.append(fp4cc.compile(spec, kernel="quantize_input", plans=1))
    rng = np.random.default_rng(0)
    w, x = (torch.from_numpy(rng.standard_normal((n, 256)).astype(np.float32)).bfloat16() for n in (128, 16))
    source = torch.nn.Linear(256, 128, dtype=torch.bfloat16)
    source.weight.data, source.bias.data = w, torch.arange(128).bfloat16()
    layers: list[Linear] = []
    for device in ("emulator", "reference"):
        kernel, *quantizer = [artifact.load_kernel(device) for artifact in artifacts]
        options = {"quantizer": quantizer[0], "input_scale": scale} if quantizer else {}
        layers.append(Linear.from_float(source, kernel, **options))
    with torch.no_grad():
        found, wanted = (layer(x).float() for layer in layers)
        assert (found - wanted).abs().max() <= 2**-7 * wanted.abs().max()
        exact = source.float()(x.float())
        assert (found - exact).abs().mean() < 0.25 * exact.abs().mean()
        compiled = torch.compile(layers[0], fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x), layers[0](x))


def test_a_compiled_kernel_is_an_operator() -> None:
    kernel = fp4cc.compile(RECIPES.parent / "nvfp4_gemm.fp4", plans=1).load_kernel("emulator")
    operator = kernel.as_torch_op("fp4rt_tests::compiled_gemm")
    rng = np.random.default_rng(0)
    a, b = (
        fp4rt.quantize(torch.from_numpy(rng.standard_normal((n, 256)).astype(np.float32)), "nvfp4") for n in (48, 64)
    )
    results = torch.library.opcheck(operator.overload, operator.tensors(a=a, b=b))
    assert set(results.values()) == {"SUCCESS"}
    assert torch.equal(operator(a=a, b=b)["c"], kernel(a=a, b=b)["c"])


def test_a_kernel_in_an_ahead_of_time_package(tmp_path: Path) -> None:
    """AOTInductor calls the operator that is registered in the process."""
    kernel = artifact("linear_layers", "nvfp4", None).load_kernel("reference")
    gemm = kernel.as_torch_op("ahead::gemm")
    weight = fp4rt.quantize(torch.randn(256, 128), "nvfp4")

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = fp4rt.torch.QuantizedBuffer(weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return gemm(x=fp4rt.torch.quantize(x, "nvfp4"), w=self.weight.value)["y"] * 2

    layer, rows = Layer(), torch.export.Dim("rows", min=2, max=4096)
    exported = torch.export.export(layer, (torch.randn(8, 128),), dynamic_shapes={"x": {0: rows}})
    path = torch._inductor.aoti_compile_and_package(exported, package_path=str(tmp_path / "layer.pt2"))
    loaded = torch._inductor.aoti_load_package(path)
    for count in (8, 33):
        x = torch.randn(count, 128)
        assert torch.equal(loaded(x), layer(x))
