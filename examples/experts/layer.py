"""A layer of experts in NVFP4, whole: route, permute and quantize, gated grouped product, grouped product, combine.

    python examples/experts/layer.py                       # tiny, on the emulator of an sm_100a
    python examples/experts/layer.py --target sm_90a --tokens 40 --experts 8 --top 3
    python examples/experts/layer.py --device cuda         # on the GPU that is there

It runs the kernels of examples/recipes/nvfp4_experts.fp4; with `--by-number` also those of by_number.fp4, which need no
permuted copy of the tokens and have the weighted sum as a kernel. It compares their result with a loop over tokens and
experts in float64, which knows nothing of groups and of formats: what is between both is the quantization. It ends with
1 where they are further apart than four bits explain.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fp4cc
import fp4rt
from fp4cc.supply import artifact
from fp4rt.experts import Routing, combine, route
from fp4rt.io import stack_experts

#: A kernel by name, called with its inputs.
Run = Callable[..., dict[str, Any]]


def layer(
    run: Run, x: Any, routing: Routing, up: fp4rt.Quantized, down: fp4rt.Quantized, scales: tuple[Any, Any] | None
) -> Any:
    """[T, D] of x bf16[T, D]. `scales`: the tensor scales of x and of the hidden tensor; None: both stay bf16."""
    offsets, rows = routing.offsets, x[routing.rows]
    if scales is None:
        h = run("gate_up_w4a16", offsets=offsets, x=rows, w=up)["h"]
        return combine(run("down_w4a16", offsets=offsets, x=h, w=down)["y"], routing)
    q = run("quantize_input", offsets=offsets, x=rows, ts=scales[0])["q"]
    h = run("gate_up", offsets=offsets, x=q, w=up, ts=scales[1])["h"]
    return combine(run("down", offsets=offsets, x=h, w=down)["y"], routing)


def layer_by_number(
    run: Run, x: Any, routing: Routing, up: fp4rt.Quantized, down: fp4rt.Quantized, scales: tuple[Any, Any] | None
) -> Any:
    """The same without a pass that permutes tokens, and with the weighted sum on the device."""
    offsets, rows = routing.offsets, routing.rows
    if scales is None:
        h = run("by_number.gate_up_w4a16", offsets=offsets, rows=rows, x=x, w=up)["h"]
        y = run("down_w4a16", offsets=offsets, x=h, w=down)["y"]
    else:
        q = run("by_number.quantize_tokens", x=x, ts=scales[0])["q"]
        h = run("by_number.gate_up", offsets=offsets, rows=rows, x=q, w=up, ts=scales[1])["h"]
        y = run("down", offsets=offsets, x=h, w=down)["y"]
    return run("by_number.combine", weights=routing.weights, places=routing.places, z=y)["y"]


def loop(x: np.ndarray, routing: Routing, up: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, float]:
    """The layer for one token and one of its experts after another, and the largest hidden value."""
    out, most = np.zeros((len(x), down.shape[1])), 0.0
    for t, token in enumerate(x):
        for e, weight in zip(routing.experts[t], routing.weights[t], strict=True):
            gates, ups = up[e, 0::2] @ token, up[e, 1::2] @ token
            hidden = gates / (1 + np.exp(-gates)) * ups
            most = max(most, float(np.abs(hidden).max()))
            out[t] += weight * (down[e] @ hidden)
    return out, most


def stacked(weights: np.ndarray) -> fp4rt.Quantized:
    """Each expert quantized by itself, as checkpoints have them, and all in one."""
    return stack_experts([fp4rt.quantize(w, "nvfp4") for w in weights], "nvfp4_experts").weight


def compare(options: argparse.Namespace) -> dict[str, float]:
    """How far the kernels' layer is from the loop, as a part of the loop's norm: of both kinds of activations."""
    rng = np.random.default_rng(options.seed)
    count, d, f = options.experts, options.width, options.hidden
    x = rng.standard_normal((options.tokens, d)).astype(np.float32)
    spread = np.exp(rng.normal(size=(count, 1, 1)))  # experts of different sizes: each needs its own tensor scale
    shapes = (count, 2 * f, d), (count, d, f)
    up, down = ((rng.standard_normal(shape) * spread / d**0.5).astype(np.float32) for shape in shapes)
    codes = fp4rt.encode(x, "bf16")
    routing = route(rng.standard_normal((options.tokens, count)).astype(np.float32), options.top)
    wanted, most = loop(fp4rt.decode(codes, "bf16").astype(np.float64), routing, up, down)
    kernels: dict[str, fp4rt.Kernel] = {}

    def run(name: str, **inputs: Any) -> dict[str, Any]:
        if name not in kernels:
            target = None if options.device == "reference" else options.target  # the reference runs the spec itself
            file, _, kernel = name.rpartition(".")
            if file:
                spec, dims = Path(__file__).with_name(f"{file}.fp4"), {"J": options.top} if kernel == "combine" else {}
                made = fp4cc.compile(spec, options.target, dims, kernel, plans=1)
                kernels[name] = made.load_kernel(options.device)
            else:
                kernels[name] = artifact("nvfp4_experts", name, target).load_kernel(options.device)
        return dict(kernels[name](**inputs))

    found: dict[str, float] = {}
    scales = np.float32(np.abs(x).max() / 2688), np.float32(most / 2688)
    for name, given in (("NVFP4", scales), ("bf16", None)):
        y = (layer_by_number if options.by_number else layer)(run, codes, routing, stacked(up), stacked(down), given)
        values = fp4rt.decode(np.asarray(y).view(np.uint16), "bf16")
        found[name] = float(np.linalg.norm(values - wanted) / max(np.linalg.norm(wanted), 1e-30))
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", default="emulator", help="emulator, reference or cuda")
    made.add_argument("--target", default="sm_100a")
    made.add_argument("--by-number", action="store_true", help="take rows of the tokens by number, and permute nothing")
    for name, size in (("tokens", 9), ("experts", 4), ("top", 2), ("width", 64), ("hidden", 64), ("seed", 0)):
        made.add_argument(f"--{name}", type=int, default=size)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    found = compare(options)
    for name, error in found.items():
        print(f"{name} activations: {error:.3f} of the loop's norm away from it")
    return 0 if max(found.values()) < 0.3 else 1


if __name__ == "__main__":
    sys.exit(main())
