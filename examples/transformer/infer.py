"""Convert a trained transformer to each recipe for inference: python examples/transformer/infer.py runs/bf16-0.pt

Prints the loss of each on text that was not learned, beside bf16's, and what it writes.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from model import continued, corpus, in_blocks, restored, validation

import fp4rt.torch
from fp4rt.recipes import RECIPES

INFERENCE = tuple(name for name, recipe in RECIPES.items() if recipe.kind == "inference")


def compare(options: Any) -> dict[str, tuple[float, bytes]]:
    """(nats a byte, text) of bf16 and of each recipe."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    plain = restored(state).to(device, torch.bfloat16)
    _, measured = corpus(options.bytes)
    start = bytes(measured[: options.start].tolist())
    found: dict[str, tuple[float, bytes]] = {}
    for recipe in ("bf16", *(options.recipes or INFERENCE)):
        model = copy.deepcopy(plain).eval()
        if recipe != "bf16":
            fp4rt.torch.convert(model, recipe, in_blocks, device=options.device, artifacts=options.artifacts)
        loss = validation(model, measured, plain.shape.context, device, options.pieces)
        written = continued(model, start, options.count, plain.shape.context, device)
        found[recipe] = loss, written[len(start) :]
    return found


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("checkpoint", type=Path)
    found.add_argument("recipes", nargs="*")
    found.add_argument("--artifacts", type=Path, help="folder made by `fp4cc recipes build`")
    found.add_argument("--device", help="where kernels run: cuda, emulator, reference; default: where the weights are")
    for name, value in {"pieces": 256, "start": 64, "count": 96, "bytes": None}.items():
        found.add_argument(f"--{name}", type=int, default=value)
    return found


def table(found: dict[str, tuple[float, bytes]]) -> str:
    """Loss, distance to bf16 and the number of bytes that are bf16's, from the first on."""
    base, text = found["bf16"]
    lines = ["| recipe | nats a byte | against bf16 | bytes as bf16's |", "|---|---|---|---|"]
    for recipe, (loss, written) in found.items():
        equal = next((i for i, (a, b) in enumerate(zip(written, text, strict=True)) if a != b), len(text))
        lines.append(f"| {recipe} | {loss:.4f} | {loss / base - 1:+.2%} | {equal} of {len(text)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    results = compare(parser().parse_args())
    print(table(results))
    for recipe, (_, written) in results.items():
        print(f"\n{recipe}:\n{written.decode('utf-8', 'replace')}")
