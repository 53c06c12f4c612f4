"""Train the transformer: python examples/transformer/train.py --recipe nvfp4_training -o runs

A recipe is "bf16" or one of `fp4cc recipes list`. All start from the same weights and see the same bytes. A run stops
after --seconds and goes on where it was when it is started again. Without a compiler, --artifacts has the kernels.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from model import Shape, Transformer, corpus, in_blocks, state_of, validation
from steps import Steps, rate_at

import fp4rt.torch


def build(options: Any, device: torch.device) -> Transformer:
    """The model of a seed, its blocks converted but for the last `options.keep`."""
    torch.manual_seed(options.seed)
    model = Transformer(Shape(options.layers, options.width, options.heads, options.context)).to(device)
    kept = tuple(f"blocks.{i}." for i in range(options.layers - options.keep, options.layers))
    if options.recipe != "bf16":
        fp4rt.torch.convert(
            model,
            options.recipe,
            lambda name, layer: in_blocks(name, layer) and not name.startswith(kept),
            artifacts=options.artifacts,
        )
    return model


def name_of(options: Any) -> str:
    """What the files of a run are called."""
    return f"{options.recipe}{f'-keep{options.keep}' if options.keep else ''}-{options.seed}"


def train(options: Any) -> dict[str, Any]:
    """Train, or go on; returns what is written to RECIPE-SEED.json."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learned, measured = corpus(options.bytes)
    model = build(options, device)
    steps = Steps(model, learned, options, device)
    options.output.mkdir(parents=True, exist_ok=True)
    saved = options.output / f"{name_of(options)}.pt"
    first, losses, spent = 0, [], 0.0
    if saved.exists():
        state = torch.load(saved, map_location=device, weights_only=True)
        model.load_state_dict(state["weights"])
        steps.load(state["optimizer"])
        first, losses, spent = state["step"], state["losses"], state["spent"]
    started, done, recent, marks = time.perf_counter(), first, [], []
    for step in range(first, options.steps):
        recent.append(steps.run(step, rate_at(step, options.steps, options.rate, options.warmup)))
        done = step + 1
        if done % options.every == 0 or done == options.steps:
            losses.append((done, float(torch.stack(recent).mean())))
            recent = []
            marks.append((time.perf_counter(), done))
            if time.perf_counter() - started > options.seconds:
                break
    spent += time.perf_counter() - started
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = validation(model, measured, options.context, device, options.pieces)
    checkpoint = {**state_of(model), "optimizer": steps.optimizer.state_dict()}
    torch.save({**checkpoint, "step": done, "losses": losses, "spent": spent}, saved)
    paces = [(b - a) / (j - i) * 1e3 for (a, i), (b, j) in pairwise(marks)]
    report = {
        "recipe": options.recipe, "seed": options.seed, "keep": options.keep, "steps": done, "of": options.steps,
        "tokens": done * options.batch * options.context, "validation": found, "seconds": spent,
        "ms": statistics.median(paces) if paces else None,  # a step, without the first ones
        "parameters": sum(p.numel() for p in model.parameters()), "losses": losses,
    }  # fmt: skip
    (options.output / f"{name_of(options)}.json").write_text(json.dumps(report) + "\n")
    return report


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--recipe", default="bf16")
    found.add_argument("-o", "--output", type=Path, required=True)
    found.add_argument("--artifacts", type=Path, help="folder made by `fp4cc recipes build`")
    found.add_argument("--rate", type=float, default=1e-3)
    found.add_argument("--seconds", type=float, default=math.inf)
    found.add_argument("--eager", action="store_true", help="no CUDA graph on a GPU")
    sizes = {
        "seed": 0, "steps": 1240, "warmup": 60, "batch": 64, "every": 20, "pieces": 256, "keep": 0,
        "layers": 7, "width": 512, "heads": 8, "context": 256, "bytes": None,
    }  # fmt: skip
    for name, value in sizes.items():
        found.add_argument(f"--{name}", type=int, default=value)
    return found


if __name__ == "__main__":
    result = train(parser().parse_args())
    print({key: value for key, value in result.items() if key != "losses"})
