"""One training step of a grouped linear layer, whole: route, permute, fprop, combine, and the gradients of x and w.

    python examples/experts/train.py                       # tiny, on the emulator of an sm_100a
    python examples/experts/train.py --target sm_90a --tokens 40 --experts 8 --top 3
    python examples/experts/train.py --device cuda         # on the GPU that is there

It runs the kernels of examples/recipes/nvfp4_experts_training.fp4 and mx_experts_training.fp4 and compares the result
and both gradients with a loop over tokens and experts in float64, which knows nothing of groups and of formats: what is
between both is the quantization. It ends with 1 where they are further apart than that explains.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import fp4rt
from fp4cc.supply import artifact
from fp4rt.experts import Routing, combine, route, spread

#: A kernel by name, called with its inputs.
Run = Callable[..., dict[str, Any]]
#: How far the results of a recipe may be from those without quantization, as a part of their norm.
LIMITS = {"nvfp4_experts_training": 0.3, "mx_experts_training": 0.1}
#: What each group's rows are a multiple of: blocks lie along them where wgrad contracts them.
ALIGN = 32


def step(run: Run, x: Any, w: Any, d: Any, routing: Routing, nvfp4: bool) -> dict[str, Any]:
    """`y` [T, N] of x bf16[T, K] and w bf16[E, N, K], and of its gradient d bf16[T, N] `dx` [T, K] and `dw` [E, N, K].

    The routing's rows are padded to multiples of 32 for each expert, and its weights are taken as constants.
    """
    offsets, rows, dy = routing.offsets, x[routing.rows], spread(d, routing)
    of_x: dict[str, Any] = {"offsets": offsets, "x": rows}
    of_dy: dict[str, Any] = {"offsets": offsets, "dy": dy}
    of_w: dict[str, Any] = {"w": w}
    if nvfp4:
        signs = np.where(np.arange(16) % 3 == 1, np.float32(-1), np.float32(1))
        of_x |= {"signs": signs, **run("largest", offsets=offsets, x=rows, signs=signs)}
        of_dy |= {"signs": signs, **run("largest", offsets=offsets, x=dy, signs=signs)}
        of_dy |= {"rng": np.array([7, 0], np.uint64)}
        of_w |= run("largest_w", w=w)
    qx, qw, qdy = run("quantize_x", **of_x), run("quantize_w", **of_w), run("quantize_dy", **of_dy)
    y = run("fprop", offsets=offsets, x=qx["q"], w=qw["q"])["y"]
    dx = run("dgrad", offsets=offsets, dy=qdy["q"], wt=qw["qt"])["dx"]
    dw = run("wgrad", offsets=offsets, dyt=qdy["qt"], xt=qx["qt"])["dw"]
    as_they_are = replace(routing, weights=np.ones_like(routing.weights))
    return {"y": combine(y, routing), "dx": combine(dx, as_they_are), "dw": dw}


def loop(x: np.ndarray, w: np.ndarray, d: np.ndarray, routing: Routing) -> dict[str, np.ndarray]:
    """The step for one token and one of its experts after another."""
    y, dx, dw = np.zeros_like(d), np.zeros_like(x), np.zeros_like(w)
    for t, token in enumerate(x):
        for e, weight in zip(routing.experts[t], routing.weights[t], strict=True):
            y[t] += weight * (w[e] @ token)
            dx[t] += weight * (d[t] @ w[e])
            dw[e] += weight * np.outer(d[t], token)
    return {"y": y, "dx": dx, "dw": dw}


def compare(options: argparse.Namespace, recipe: str) -> dict[str, float]:
    """How far the kernels' step is from the loop, as parts of the loop's norms."""
    rng = np.random.default_rng(options.seed)
    tokens, count, n, k = options.tokens, options.experts, options.out, options.width
    x, d = (fp4rt.encode(rng.standard_normal((tokens, size)), "bf16") for size in (k, n))
    w = fp4rt.encode(rng.standard_normal((count, n, k)) / k**0.5, "bf16")
    logits = rng.standard_normal((tokens, count)).astype(np.float32)
    routing = route(logits, options.top, align=ALIGN)
    wanted = loop(*(fp4rt.decode(codes, "bf16").astype(np.float64) for codes in (x, w, d)), routing)
    kernels: dict[str, fp4rt.Kernel] = {}

    def run(name: str, **inputs: Any) -> dict[str, Any]:
        if name not in kernels:
            target = None if options.device == "reference" else options.target  # the reference runs the spec itself
            kernels[name] = artifact(recipe, name, target).load_kernel(options.device)
        return dict(kernels[name](**inputs))

    found = step(run, x, w, d, routing, nvfp4=recipe.startswith("nvfp4"))
    values = {name: array if name == "dw" else fp4rt.decode(array.view(np.uint16), "bf16")
              for name, array in found.items()}  # fmt: skip
    return {
        name: float(np.linalg.norm(values[name] - exact) / max(np.linalg.norm(exact), 1e-30))
        for name, exact in wanted.items()
    }


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", default="emulator", help="emulator, reference or cuda")
    made.add_argument("--target", default="sm_100a")
    for name, size in (("tokens", 9), ("experts", 4), ("top", 2), ("width", 64), ("out", 64), ("seed", 0)):
        made.add_argument(f"--{name}", type=int, default=size)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    right = True
    for recipe, limit in LIMITS.items():
        found = compare(options, recipe)
        print(f"{recipe}: {', '.join(f'{name} {error:.3f}' for name, error in found.items())} of the loop's norm away")
        right &= max(found.values()) < limit
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
