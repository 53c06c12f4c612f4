"""The transformer of examples/ on a GPU, in one go: checks, training in every recipe, inference in every recipe.

    fp4cc recipes build -o kernels --target sm_90a
    python benchmarks/hopper_transformer.py kernels -o runs --seconds 140

First each layer and quantizer is compared with the reference, bit for bit. Then every recipe is trained for the same
number of steps: as many as fit into --seconds altogether, by their measured times, and at most --steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "transformer"))

import infer
import train

import fp4num
import fp4rt.torch
from fp4num import FORMATS
from fp4rt.quantizing import kernel_names, quantize_by_kernel
from fp4rt.recipes import RECIPES

TRAINING = tuple(name for name, recipe in RECIPES.items() if recipe.kind == "training")
TYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def whole(*shape: int, seed: int) -> torch.Tensor:
    """Small numbers whose products have exact sums; the largest of each row is 7, whose FP8 scale is a power of two."""
    x = (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2).round().clamp(-6, 6)
    x[:, 0] = 7
    return x.bfloat16()


def layer_on(recipe: str, device: str, artifacts: Path) -> list[torch.Tensor]:
    """y, and in training dx and dw, of a layer [128, 128]."""
    net = torch.nn.Sequential(torch.nn.Linear(128, 128, bias=False, dtype=torch.bfloat16))
    net[0].weight.data = whole(128, 128, seed=1)
    fp4rt.torch.convert(net.to(device), recipe, artifacts=artifacts)
    x = whole(96, 128, seed=2).to(device)
    if RECIPES[recipe].kind == "inference":
        return [net(x).cpu()]
    original = torch.randint
    state = torch.tensor([11, 12])
    torch.randint = lambda *_, device, **__: state.to(device)  # one state for both devices
    try:
        y = net(x.requires_grad_())
    finally:
        torch.randint = original
    y.backward(whole(96, 128, seed=3).to(device))
    return [t.detach().cpu() for t in (y, x.grad, net[0].weight.grad)]


def check(artifacts: Path) -> None:
    """Compare layers and quantizers on the GPU with the reference."""
    for recipe in (name for name, r in RECIPES.items() if r.kind != "qat"):
        ours, theirs = (layer_on(recipe, device, artifacts) for device in ("cuda", "cpu"))
        same = [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)]
        print(f"check {recipe}: {'equal' if all(same) else f'DIFFERENT {same}'}", flush=True)
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


def options(recipe: str, args: Any, steps: int, output: Path) -> Any:
    """The arguments of a run of train.py."""
    found = train.parser().parse_args(["-o", str(output), "--recipe", recipe, "--seed", str(args.seed)])
    found.artifacts, found.steps = args.artifacts, steps
    return found


def trained(args: Any) -> dict[str, dict[str, Any]]:
    """The reports of all recipes, after the same number of steps."""
    seconds: dict[str, float] = {}
    for recipe in args.recipes:
        few = options(recipe, args, 8, args.output / "timed")
        few.pieces = 16
        train.train(few)  # loads the kernels, and warms up
        (args.output / "timed" / f"{recipe}-{args.seed}.pt").unlink()
        seconds[recipe] = train.train(few)["seconds"] / few.steps
        print(f"time {recipe}: {seconds[recipe] * 1e3:.1f} ms a step", flush=True)
    steps = min(args.steps, int(args.seconds / sum(seconds.values())))
    print(f"steps: {steps}", flush=True)
    reports = {}
    for recipe in args.recipes:
        reports[recipe] = train.train(options(recipe, args, steps, args.output))
        print(json.dumps(reports[recipe]), flush=True)
    return reports


def losses(reports: dict[str, dict[str, Any]]) -> str:
    """The table of final losses."""
    base = reports["bf16"]["validation"] if "bf16" in reports else float("nan")
    lines = ["| recipe | steps | tokens | loss | against bf16 | ms a step |", "|---|---|---|---|---|---|"]
    for recipe, r in reports.items():
        ms = r["seconds"] / max(1, r["steps"]) * 1e3
        row = (
            recipe,
            r["steps"],
            r["tokens"],
            f"{r['validation']:.4f}",
            f"{r['validation'] / base - 1:+.2%}",
            f"{ms:.1f}",
        )
        lines.append("| " + " | ".join(str(cell) for cell in row) + " |")
    return "\n".join(lines)


def inferred(args: Any) -> None:
    """The trained bf16 model in each recipe: loss, text, and the time of a forward pass."""
    given = infer.parser().parse_args([str(args.output / f"bf16-{args.seed}.pt")])
    given.artifacts = args.artifacts
    results = infer.compare(given)
    print(infer.table(results), flush=True)
    for recipe, (_, text) in results.items():
        print(f"{recipe}: {text!r}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", type=Path)
    parser.add_argument("recipes", nargs="*", default=["bf16", *TRAINING])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=140)
    parser.add_argument("--steps", type=int, default=1240)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    check(args.artifacts)
    print(f"{time.perf_counter() - started:.0f} s", flush=True)
    reports = trained(args)
    print(losses(reports), flush=True)
    if "bf16" in reports:
        inferred(args)
    print(f"{time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
