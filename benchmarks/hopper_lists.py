"""Lists of problems in one launch beside calls one after the other. Needs torch, and a Hopper GPU.

    fp4cc compile tests/gpu/lists.fp4 --kernel stored --many --target sm_90a -o DIR     where the compiler is
    python benchmarks/hopper_lists.py DIR                                               beside the GPU, 40 s

Both are bound, and timed in CUDA graphs of LAUNCHES lists over SETS sets of buffers, in turns; the median of PASSES.
The floor of a problem is what reading and writing its bytes takes at 3.35 TB/s, or its multiplications at 989 TFLOP/s.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import fp4rt
from fp4rt import Kernel

LAUNCHES, PASSES, SETS = 24, 9, 3
BYTES, FLOP = 3.35e12, 989e12
#: (M, N, K) of the problems.
LISTS: dict[str, list[tuple[int, int, int]]] = {
    "one problem, 128 x 4096 x 7168": [(128, 4096, 7168)],
    "one problem, 4096 x 4096 x 4096": [(4096, 4096, 4096)],
    "8 problems, N 4096, K 7168": [(m, 4096, 7168) for m in (80, 176, 128, 72, 64, 248, 96, 160)],
    "8 problems, N 7168, K 2048": [(m, 7168, 2048) for m in (40, 76, 168, 72, 164, 148, 196, 160)],
    "2 problems, N 3072, K 4096": [(m, 3072, 4096) for m in (192, 320)],
    "2 problems, N 4096, K 1536": [(m, 4096, 1536) for m in (128, 384)],
    "64 small ones": [(16, 512, 1024)] * 64,
    "256 small ones": [(16, 256, 1024)] * 256,
}


def problem(kernel: Kernel, m: int, n: int, k: int) -> dict[str, Any]:
    """Arguments on the GPU."""
    weights = fp4rt.random_inputs(kernel.manifest, {"M": 1, "N": n, "K": k}, seed=1)["w"]
    return {"x": torch.randn(m, k, device="cuda").bfloat16(), "w": weights.to("cuda")}


def graph(run: Callable[[int], object]) -> torch.cuda.CUDAGraph:
    made = torch.cuda.CUDAGraph()
    with torch.cuda.graph(made):
        for i in range(LAUNCHES):
            run(i % SETS)
    made.replay()
    return made


def microseconds(made: torch.cuda.CUDAGraph) -> float:
    """Of one list."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    made.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e3 / LAUNCHES


def compare(kernel: Kernel, sizes: list[tuple[int, int, int]]) -> tuple[float, float]:
    """Microseconds of a list and of its calls."""
    sets = [[problem(kernel, *each) for each in sizes] for _ in range(SETS)]
    lists = [kernel.bind_many(given) for given in sets]
    calls = [[kernel.bind(**args) for args in given] for given in sets]
    many, loop = graph(lambda i: lists[i]()), graph(lambda i: [call() for call in calls[i]])
    times = [(microseconds(many), microseconds(loop)) for _ in range(PASSES)]
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def floor(m: int, n: int, k: int) -> float:
    """Of a problem of bf16 by mxfp4, in microseconds."""
    return max((2 * m * k + n * k * 17 / 32 + 2 * m * n) / BYTES, 2 * m * n * k / FLOP) * 1e6


def main(folder: str) -> None:
    kernel = Kernel(fp4rt.Artifact.load(Path(folder) / "stored.json"), "cuda")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name, sizes in LISTS.items():
        many, loop = compare(kernel, sizes)
        floors = sum(floor(*each) for each in sizes)
        print(f"{name:34s} {many:8.1f} us, calls {loop:8.1f}, {loop / many:5.2f}, floors {floors:6.1f}")


if __name__ == "__main__":
    main(sys.argv[1])
