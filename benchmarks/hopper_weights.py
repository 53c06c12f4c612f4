"""Times of bf16 activations by nvfp4 weights compiled for sm_90a, beside cuBLAS bf16. Needs a Hopper GPU and torch.

    python tests/gpu/compile_specs.py benchmarks/hopper_weights.fp4     (where the compiler is installed)
    python benchmarks/hopper_weights.py [ROWS ..] [--build FOLDER]

Each kernel of the folder takes turns with `torch.mm` alone, in one process: of large products the GPU's power is the
limit, and a kernel is faster after one that draws less. A pass runs one CUDA graph of each, of calls on weights that
rotate past twice the L2, the first of them changing from pass to pass. A ratio is the median over the passes of a
kernel's time by cuBLAS's of the same pass, with the range of the middle half. The error is the largest difference from
float64 on dequantized weights, by the largest result.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import fp4rt

BUILD = Path(__file__).resolve().parent.parent / "tests" / "gpu" / "build" / "hopper_weights"
SHAPES = ((8192, 8192), (28672, 4096), (4096, 14336), (7168, 2048))
ROWS = (64, 256, 1024, 4096)
CALLS, PASSES, ROTATED = 20, 12, 120 << 20
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)

Call = Callable[[], object]


def weights(n: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random codes, and scales between 2^-4 and 4 in blocked_128x4."""
    codes = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, device="cuda")
    scales = torch.randint(0x18, 0x48, (n * k // 16,), dtype=torch.uint8, device="cuda")
    return codes, scales


def dequantized(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The weights as float64. Scales lie in atoms of 128 rows x 4 (NVIDIA, cuBLAS, block scaling factors layout)."""
    n, k = codes.shape[0], 2 * codes.shape[1]
    table = torch.tensor([*VALUES, *(-value for value in VALUES)], dtype=torch.float64, device="cuda")
    elements = table[torch.stack((codes & 15, codes >> 4), -1).long()].reshape(n, k // 16, 16)
    row, block = torch.arange(n, device="cuda")[:, None], torch.arange(k // 16, device="cuda")[None]
    place = (row // 128 * (k // 64) + block // 4) * 512 + row % 32 * 16 + row // 32 % 4 * 4 + block % 4
    return (elements * scales.view(torch.float8_e4m3fn)[place].double()[..., None]).reshape(n, k)


def graph_of(calls: Sequence[Call]) -> torch.cuda.CUDAGraph:
    """A graph of `CALLS` launches that take turns with the buffers."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(CALLS):
            calls[i % len(calls)]()
    return graph


def microseconds(graph: torch.cuda.CUDAGraph) -> float:
    """The time of a call of a replay."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / CALLS * 1e3


def cell(kernels: dict[str, Any], m: int, n: int, k: int) -> None:
    """Print a row for each kernel at one size."""
    x = torch.randn(m, k, dtype=torch.bfloat16, device="cuda")
    y = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
    one = torch.ones((), device="cuda")
    quantized = [weights(n, k) for _ in range(-(-ROTATED // (n * k // 2)))]
    plain = [torch.randn(n, k, dtype=torch.bfloat16, device="cuda") for _ in range(max(1, -(-ROTATED // (n * k * 2))))]
    graphs = {"cuBLAS bf16": graph_of([lambda w=w: torch.mm(x, w.T, out=y) for w in plain])}
    sample = torch.randperm(m, device="cuda")[:64]
    exact = x[sample].double() @ dequantized(*quantized[0]).T
    errors: dict[str, float] = {}
    held: list[list[Call]] = []  # a graph does not keep the workspaces of its calls
    for name, kernel in kernels.items():
        packed = [fp4rt.Quantized.from_parts(*parts, one, "nvfp4", (n, k)) for parts in quantized]
        calls = [kernel.bind(x=x, w=w, out={"y": y}) for w in packed]
        y.zero_()
        held.append(calls)
        calls[0]()
        torch.cuda.synchronize()
        errors[name] = float((y[sample].double() - exact).abs().max() / exact.abs().max())
        graphs[name] = graph_of(calls)
    for name, error in errors.items():
        ours, theirs = in_turns(graphs[name], graphs["cuBLAS bf16"])
        ratios = sorted(mine / other for mine, other in zip(ours, theirs, strict=True))
        middle = f"{ratios[PASSES // 4]:.3f}-{ratios[-1 - PASSES // 4]:.3f}"
        time, rate = statistics.median(ours), 2e-6 * m * n * k / statistics.median(ours)
        row = (f"{n} x {k}", m, name, f"{time:.1f}", f"{rate:.0f}", f"{statistics.median(theirs):.1f}",
               f"{statistics.median(ratios):.3f}", middle, f"{error:.1e}")  # fmt: skip
        print("|", " | ".join(map(str, row)), "|", flush=True)


def in_turns(ours: torch.cuda.CUDAGraph, theirs: torch.cuda.CUDAGraph) -> tuple[list[float], list[float]]:
    """The times of two graphs in each pass, after two that are not counted."""
    mine: list[float] = []
    others: list[float] = []
    for number in range(-2, PASSES):
        for graph, times in ((ours, mine), (theirs, others))[:: 1 if number % 2 else -1]:
            time = microseconds(graph)
            if number >= 0:
                times.append(time)
    return mine, others


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=ROWS)
    parser.add_argument("--build", type=Path, default=BUILD)
    given = parser.parse_args()
    kernels = {path.stem: fp4rt.Artifact.load(path).load_kernel("cuda") for path in sorted(given.build.glob("*.json"))}
    print(torch.cuda.get_device_name())
    titles = ("N x K", "M", "kernel", "us", "TFLOP/s", "cuBLAS bf16, us", "ratio", "middle half", "error")
    print("|", " | ".join(titles), "|")
    print("|---" * len(titles) + "|")
    for n, k in SHAPES:
        for m in given.rows:
            cell(kernels, m, n, k)


if __name__ == "__main__":
    main()
