"""Times of GEMMs compiled for sm_90a beside cuBLAS bf16, side by side in one run. Needs a Hopper GPU and torch.

    python tests/gpu/compile_specs.py benchmarks/hopper_gemm.fp4     (where the compiler is installed)
    python benchmarks/hopper_gemm.py

Each figure is the median of CUDA-event timings of a CUDA graph of several calls, after a warm-up.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import torch

import fp4rt

BUILD = Path(__file__).resolve().parent.parent / "tests" / "gpu" / "build" / "hopper_gemm"
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


def operand(fmt: str, rows: int, k: int) -> object:
    """Random numbers, or random codes and scales, on the GPU."""
    if fmt == "bf16":
        return torch.randn(rows, k, dtype=torch.bfloat16, device="cuda")
    if fmt == "nvfp4":
        codes = torch.randint(0, 256, (rows, k // 2), dtype=torch.uint8, device="cuda")
        scales = torch.randint(0x28, 0x40, (rows * k // 16,), dtype=torch.uint8, device="cuda")
        return fp4rt.Quantized.from_parts(codes, scales, torch.ones((), device="cuda"), fmt, (rows, k))
    codes = torch.randint(0, 0x60, (rows, k), dtype=torch.uint8, device="cuda")  # no NaN
    if fmt == "mxfp8_e4m3":
        scales = torch.randint(120, 130, (rows * k // 32,), dtype=torch.uint8, device="cuda")
    else:
        scales = torch.rand((rows if fmt == "ds_act" else rows // 128) * k // 128, device="cuda")
    return fp4rt.Quantized.from_parts(codes, scales, None, fmt, (rows, k))


def main() -> None:
    """Print a row for each shape and kernel."""
    print(torch.cuda.get_device_name())
    print("| M, N, K | kernel | us | TFLOP/s | cuBLAS bf16, us | ratio |\n|---|---|---|---|---|---|")
    for m, n, k in SHAPES:
        x, w = operand("bf16", m, k), operand("bf16", n, k)
        assert isinstance(x, torch.Tensor)
        assert isinstance(w, torch.Tensor)
        c = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
        theirs = microseconds(lambda x=x, w=w, c=c: torch.mm(x, w.T, out=c))
        for path in sorted(BUILD.glob("*.json")):
            artifact = fp4rt.Artifact.load(path)
            types = [arg.dtype for arg in artifact.manifest.kernel.args]
            names = [dtype if isinstance(dtype, str) else dtype.name for dtype in types]
            call = artifact.load_kernel("cuda").bind(a=operand(names[0], m, k), b=operand(names[1], n, k), out={"c": c})
            ours = microseconds(call)
            rate = 2e-6 * m * n * k / ours
            print(f"| {m}, {n}, {k} | {path.stem} | {ours:.1f} | {rate:.0f} | {theirs:.1f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
