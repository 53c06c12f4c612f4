"""Layers of all recipes on a GPU beside the reference, and the transformer of examples/ converted for inference.

    fp4cc recipes build -o kernels --target sm_90a
    python benchmarks/hopper_transformer.py kernels -o runs

Each layer, forward and backward, and each quantizer that is there is compared with the reference, bit for bit. Then the
model that hopper_training.py left in runs/bf16-0.pt is converted to each recipe.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "transformer"))

import infer

import fp4num
import fp4rt.torch
from fp4num import FORMATS
from fp4rt.quantizing import kernel_names, quantize_by_kernel
from fp4rt.recipes import RECIPES

TYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def whole(*shape: int, seed: int) -> torch.Tensor:
    """Small numbers whose products have exact sums; the largest of each row and column is 7, whose FP8 scale is a power
    of two."""
    x = (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2).round().clamp(-6, 6)
    x[:, 0] = x[0] = 7
    return x.bfloat16()


def layer_on(recipe: str, device: str, artifacts: Path) -> list[torch.Tensor]:
    """y, and in training dx and dw, of a layer [128, 128]."""
    net = torch.nn.Sequential(torch.nn.Linear(128, 128, bias=False, dtype=torch.bfloat16))
    net[0].weight.data = whole(128, 128, seed=1)
    fp4rt.torch.convert(net.to(device), recipe, artifacts=artifacts)
    x = whole(96, 128, seed=2).to(device)
    if RECIPES[recipe].kind == "inference":
        return [net(x).cpu()]
    original, drawn = torch.randint, torch.Generator().manual_seed(11)
    # The same numbers for both devices.
    torch.randint = lambda low, high, size, *, device, **_: original(low, high, size, generator=drawn).to(device)
    try:
        y = net(x.requires_grad_())
    finally:
        torch.randint = original
    y.backward(whole(96, 128, seed=3).to(device))
    return [t.detach().cpu() for t in (y, x.grad, net[0].weight.grad)]


def aware_on(device: str, artifacts: Path) -> list[torch.Tensor]:
    """Values after NVFP4 with their own scale and with a given one, which clips, and the gradient of the latter."""
    net = torch.nn.Sequential(torch.nn.Linear(128, 128, bias=False, dtype=torch.bfloat16)).to(device)
    layer = fp4rt.torch.convert(net, "nvfp4_qat", artifacts=artifacts)[0]
    x = torch.randn(96, 128, generator=torch.Generator().manual_seed(3)).bfloat16().to(device).requires_grad_()
    own = layer.input(x)
    layer.input.tensor_scale = torch.tensor(0.0007, device=device)
    given = layer.input(x)
    given.backward(torch.ones_like(given))
    return [t.detach().cpu() for t in (own, given, x.grad)]


def check_layers(artifacts: Path) -> None:
    """Compare the layers of each recipe on the GPU with the reference."""
    for recipe in (name for name, r in RECIPES.items() if r.kind != "experts"):
        qat = RECIPES[recipe].kind == "qat"
        ours, theirs = (
            aware_on(device, artifacts) if qat else layer_on(recipe, device, artifacts) for device in ("cuda", "cpu")
        )
        far = [float((a.double() - b.double()).norm() / b.double().norm()) for a, b in zip(ours, theirs, strict=True)]
        same = [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)]
        print(f"check {recipe}: {'equal' if all(same) else f'DIFFERENT {same}, by {far}'}", flush=True)


def check_quantizers(artifacts: Path) -> None:
    """Compare the quantizers of `fp4rt.quantize` on the GPU with numpy."""
    wrong = []
    for name in kernel_names():
        rest, _, scale = name.rpartition("_")
        fmt, _, source = rest.rpartition("_")
        x = (torch.randn(3, 200, 512) * torch.exp2(torch.randint(-9, 9, (3, 200, 512)))).to(TYPES[source])
        ts = torch.tensor(0.37) if scale == "given" else None
        found = quantize_by_kernel(x.cuda(), FORMATS[fmt], ts, None, "cuda:0", artifacts)
        expected = fp4num.quantize(x, fmt, tensor_scale=ts)
        parts = ("codes", "scales") if found is not None else ()
        if not parts or not all(torch.equal(getattr(found, p).cpu(), getattr(expected, p)) for p in parts):
            wrong.append(name)
    print(f"check quantizers: {len(kernel_names()) - len(wrong)} equal, different: {wrong}", flush=True)


def inferred(args: Any) -> None:
    """The trained bf16 model in each recipe: loss and text."""
    given = infer.parser().parse_args([str(args.output / "bf16-0.pt")])
    given.artifacts = args.artifacts
    results = infer.compare(given)
    print(infer.table(results), flush=True)
    for recipe, (_, text) in results.items():
        print(f"{recipe}: {text!r}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    started = time.perf_counter()
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    check_layers(args.artifacts)
    if list(args.artifacts.glob("*/quantizers")):
        check_quantizers(args.artifacts)
    print(f"{time.perf_counter() - started:.0f} s", flush=True)
    inferred(args)
    print(f"{time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
