"""Times of FP8 activations by mxfp4 weights with fast sums compiled for sm_90a, beside cuBLAS bf16 and _scaled_mm.

    python tests/gpu/compile_specs.py benchmarks/hopper_w4a8.fp4     (where the compiler is installed)
    python benchmarks/hopper_w4a8.py [ROWS ..] [--build FOLDER] [--shapes N..]

It needs a Hopper GPU and torch. Each kernel takes turns with each peer alone, as in hopper_weights.py; a ratio is the
median over the passes of a kernel's time by the peer's of the same pass, with the range of the middle half. cuBLAS has
the weights as bf16, `_scaled_mm` as FP8 with a scale a row. A kernel that prepares weights is timed on these too, and
how long `prepare` takes is printed. Weights rotate past twice the L2. The error is the largest difference from float64
by the largest result. A peer that refuses the operands is listed with its error.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hopper_fp8 import operand
from hopper_weights import PASSES, ROTATED, VALUES, graph_of, in_turns

import fp4rt

BUILD = Path(__file__).resolve().parent.parent / "tests" / "gpu" / "build" / "hopper_w4a8"
SHAPES = ((8192, 8192), (28672, 4096), (4096, 14336), (7168, 2048))
ROWS = (16, 64, 128, 1024, 4096, 8192)

Calls = list[Callable[[], object]]


def weights(n: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random codes, and scales from 2^-9 to 2^-5 in blocked_128x4."""
    codes = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, device="cuda")
    return codes, torch.randint(118, 123, (n * k // 32,), dtype=torch.uint8, device="cuda")


def decoded(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The weights as float64. Scales lie in atoms of 128 rows x 4 (NVIDIA, cuBLAS, block scaling factors layout)."""
    n, k = codes.shape[0], 2 * codes.shape[1]
    table = torch.tensor([*VALUES, *(-value for value in VALUES)], dtype=torch.float64, device="cuda")
    elements = table[torch.stack((codes & 15, codes >> 4), -1).long()].reshape(n, k // 32, 32)
    row, block = torch.arange(n, device="cuda")[:, None], torch.arange(k // 32, device="cuda")[None]
    place = (row // 128 * (k // 128) + block // 4) * 512 + row % 32 * 16 + row // 32 % 4 * 4 + block % 4
    return (elements * torch.exp2(scales[place].double() - 127)[..., None]).reshape(n, k)


def peers(x: tuple[torch.Tensor, torch.Tensor], n: int, k: int, y: torch.Tensor) -> dict[str, Calls]:
    """The calls of each peer."""
    a, sa = x
    wide = [torch.randn(n, k, device="cuda").bfloat16() for _ in range(max(1, -(-ROTATED // (2 * n * k))))]
    narrow = [operand(n, k, (1, k)) for _ in range(-(-ROTATED // (n * k)))]
    left = a.bfloat16()

    def scaled(w: tuple[torch.Tensor, torch.Tensor], fast: bool) -> torch.Tensor:
        return torch._scaled_mm(a, w[0].T, sa, w[1].T, out_dtype=torch.bfloat16, use_fast_accum=fast)

    return {
        "cuBLAS bf16": [lambda w=w: torch.mm(left, w.T, out=y) for w in wide],
        "_scaled_mm": [lambda w=w: scaled(w, False) for w in narrow],
        "_scaled_mm, fast": [lambda w=w: scaled(w, True) for w in narrow],
    }


def cell(kernels: dict[str, Any], m: int, n: int, k: int) -> None:
    """Print a row for each kernel and peer at one size."""
    x, ws = operand(m, k, (1, k)), [weights(n, k) for _ in range(-(-ROTATED // (n * k // 2)))]
    y = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
    sample = torch.randperm(m, device="cuda")[:64]
    exact = x[0][sample].double() * x[1][sample].double() @ decoded(*ws[0]).T
    theirs: dict[str, torch.cuda.CUDAGraph] = {}
    others_calls = peers(x, n, k, y)  # a graph does not keep what it reads
    for name, calls in others_calls.items():
        try:
            theirs[name] = graph_of(calls)
        except (RuntimeError, ValueError) as error:
            print(f"{name} at {m} x {n} x {k}: {str(error).splitlines()[0]}", flush=True)
    a = fp4rt.Quantized.from_parts(x[0].view(torch.uint8), x[1].flatten(), None, "fp8_token", (m, k))
    bs = [fp4rt.Quantized.from_parts(*parts, None, "mxfp4", (n, k)) for parts in ws]
    ways = {(name, ""): (kernel, bs) for name, kernel in kernels.items()}
    for name, kernel in kernels.items():
        if kernel.manifest.prepared:
            ways[name, " prepared"] = kernel, [kernel.prepare(w) for w in bs]
    for (name, how), (kernel, operands) in ways.items():
        calls = [kernel.bind(x=a, w=w, out={"y": y}) for w in operands]
        y.zero_()
        calls[0]()
        torch.cuda.synchronize()
        error = float((y[sample].double() - exact).abs().max() / exact.abs().max())
        graph = graph_of(calls)
        for peer, other in theirs.items():
            mine, others = in_turns(graph, other)
            ratios = sorted(one / two for one, two in zip(mine, others, strict=True))
            mean = statistics.median(mine)
            row = (f"{n} x {k}", m, f"{name}{how}", f"{mean:.1f}", f"{2e-6 * m * n * k / mean:.0f}", f"{error:.1e}",
                   peer,
                   f"{statistics.median(others):.1f}", f"{statistics.median(ratios):.3f}",
                   f"{ratios[PASSES // 4]:.3f}-{ratios[-1 - PASSES // 4]:.3f}")  # fmt: skip
            print("|", " | ".join(map(str, row)), "|", flush=True)


def preparing(kernels: dict[str, Any], n: int, k: int) -> None:
    """Print how long it takes to prepare weights, its one look at the result counted, and what that leaves."""
    for name, kernel in kernels.items():
        if not kernel.manifest.prepared:
            continue
        w = fp4rt.Quantized.from_parts(*weights(n, k), None, "mxfp4", (n, k))
        size, times = kernel.prepare(w).prepared.buffer.numel(), list[float]()
        for _ in range(PASSES):
            start = time.perf_counter()
            kernel.prepare(w)
            times.append(1e6 * (time.perf_counter() - start))
        print(f"{name}: prepare {n} x {k}: {statistics.median(times):.0f} us, {size} bytes", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=ROWS)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--shapes", nargs="*", type=int, default=[n for n, _ in SHAPES], help="by their N")
    given = parser.parse_args()
    kernels = {path.stem: fp4rt.Artifact.load(path).load_kernel("cuda") for path in sorted(given.build.glob("*.json"))}
    print(torch.cuda.get_device_name())
    titles = ("N x K", "M", "kernel", "us", "TFLOP/s", "error", "peer", "its us", "ratio", "middle half")
    print("|", " | ".join(titles), "|")
    print("|---" * len(titles) + "|")
    for n, k in SHAPES:
        if n in given.shapes:
            preparing(kernels, n, k)
        for m in given.rows if n in given.shapes else ():
            cell(kernels, m, n, k)


if __name__ == "__main__":
    main()
