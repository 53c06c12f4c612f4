"""Train the transformer: python examples/transformer/train.py --recipe nvfp4_training -o runs

A recipe is "bf16" or one of `fp4cc recipes list`. All start from the same weights and see the same bytes. A run stops
after --seconds and goes on where it was when it is started again. Without a compiler, --artifacts has the kernels.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from model import Shape, Transformer, batch_of, corpus, in_blocks, loss_of, state_of, validation

import fp4rt.torch


def rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Up in a line, down along a cosine to a tenth."""
    if step < warmup:
        return peak * (step + 1) / warmup
    way = (step - warmup) / max(1, steps - warmup)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * way)))


def build(options: Any, device: torch.device) -> Transformer:
    """The model of a seed, its blocks converted."""
    torch.manual_seed(options.seed)
    model = Transformer(Shape(options.layers, options.width, options.heads, options.context)).to(device)
    if options.recipe != "bf16":
        fp4rt.torch.convert(model, options.recipe, in_blocks, artifacts=options.artifacts)
    return model


def train(options: Any) -> dict[str, Any]:
    """Train, or go on; returns what is written to RECIPE-SEED.json."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learned, measured = corpus(options.bytes)
    model = build(options, device)
    optimizer = torch.optim.AdamW(model.parameters(), options.rate, (0.9, 0.95), weight_decay=0.1)
    options.output.mkdir(parents=True, exist_ok=True)
    name = f"{options.recipe}-{options.seed}"
    saved = options.output / f"{name}.pt"
    first, losses, spent = 0, [], 0.0
    if saved.exists():
        state = torch.load(saved, map_location=device, weights_only=True)
        model.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        first, losses, spent = state["step"], state["losses"], state["spent"]
    started, step, recent = time.perf_counter(), first, []
    for step in range(first, options.steps):
        torch.manual_seed(options.seed * 1_000_003 + step)  # of the rounding: the same in a run that was interrupted
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, options.steps, options.rate, options.warmup)
        batch = batch_of(learned, options.batch, options.context, generator, device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.detach())
        if (step + 1) % options.every == 0 or step + 1 == options.steps:
            losses.append((step + 1, float(torch.stack(recent).mean())))
            recent = []
            if time.perf_counter() - started > options.seconds:
                break
    spent += time.perf_counter() - started
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = validation(model, measured, options.context, device, options.pieces)
    done = step + 1 if options.steps else 0
    checkpoint = {**state_of(model), "optimizer": optimizer.state_dict()}
    torch.save({**checkpoint, "step": done, "losses": losses, "spent": spent}, saved)
    report = {
        "recipe": options.recipe, "seed": options.seed, "steps": done, "of": options.steps,
        "tokens": done * options.batch * options.context, "validation": found, "seconds": spent,
        "parameters": sum(p.numel() for p in model.parameters()), "losses": losses,
    }  # fmt: skip
    (options.output / f"{name}.json").write_text(json.dumps(report) + "\n")
    return report


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--recipe", default="bf16")
    found.add_argument("-o", "--output", type=Path, required=True)
    found.add_argument("--artifacts", type=Path, help="folder made by `fp4cc recipes build`")
    found.add_argument("--rate", type=float, default=1e-3)
    found.add_argument("--seconds", type=float, default=math.inf)
    sizes = {
        "seed": 0, "steps": 1240, "warmup": 60, "batch": 64, "every": 20, "pieces": 256,
        "layers": 7, "width": 512, "heads": 8, "context": 256, "bytes": None,
    }  # fmt: skip
    for name, value in sizes.items():
        found.add_argument(f"--{name}", type=int, default=value)
    return found


if __name__ == "__main__":
    result = train(parser().parse_args())
    print({key: value for key, value in result.items() if key != "losses"})
