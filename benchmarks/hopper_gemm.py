"""Times of the compiled sm_90a NVFP4 GEMM beside cuBLAS bf16, side by side in one run. Needs a Hopper GPU and torch.

    python tests/gpu/compile_specs.py examples/nvfp4_gemm.fp4     (where the compiler is installed)
    python benchmarks/hopper_gemm.py

Each figure is the median of CUDA-event timings of a CUDA graph of several calls, after a warm-up.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import torch

import fp4rt

ARTIFACT = Path(__file__).resolve().parent.parent / "tests" / "gpu" / "build" / "nvfp4_gemm" / "nvfp4_gemm.json"
SHAPES = ((128, 8192, 8192), (1024, 8192, 8192), (4096, 8192, 8192))
CALLS, REPEATS = 10, 11


def microseconds(call: Callable[[], object]) -> float:
    """The median time of one call inside of a CUDA graph."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            call()
    times: list[float] = []
    for _ in range(REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / CALLS * 1e3)
    return statistics.median(times)


def operand(rows: int, k: int) -> fp4rt.Quantized:
    """Random codes and scales on the GPU."""
    codes = torch.randint(0, 256, (rows, k // 2), dtype=torch.uint8, device="cuda")
    scales = torch.randint(0x28, 0x40, (-(-rows // 128) * 128 * -(-k // 64) * 4,), dtype=torch.uint8, device="cuda")
    return fp4rt.Quantized.from_parts(codes, scales, torch.ones((), device="cuda"), "nvfp4", (rows, k))


def main() -> None:
    """Print a row for each shape."""
    kernel = fp4rt.load(ARTIFACT, device="cuda")
    print(torch.cuda.get_device_name())
    print(f"{'M, N, K':>20} {'nvfp4, us':>10} {'TFLOP/s':>8} {'bf16 cuBLAS, us':>16} {'ratio':>6}")
    for m, n, k in SHAPES:
        a, b = operand(m, k), operand(n, k)
        c = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
        ours = microseconds(lambda a=a, b=b, c=c: kernel(a=a, b=b, out={"c": c}))
        x = torch.randn(m, k, dtype=torch.bfloat16, device="cuda")
        w = torch.randn(n, k, dtype=torch.bfloat16, device="cuda")
        theirs = microseconds(lambda x=x, w=w, c=c: torch.mm(x, w.T, out=c))
        rate = 2e-6 * m * n * k / ours
        print(f"{m:>6},{n:>6},{k:>6} {ours:>10.1f} {rate:>8.0f} {theirs:>16.1f} {ours / theirs:>6.2f}")


if __name__ == "__main__":
    main()
