"""Quantizers and reductions without a product, beside a copy: GB/s of all that is read and written. Needs a Hopper GPU.

    fp4cc compile SPEC --target sm_90a -o DIR      for each kernel, where the compiler is installed
    python benchmarks/hopper_quantizers.py DIR...  each artifact at 8192 x 8192 and 16384 x 16384

Inputs are bf16[M, N] and f32[]. A figure is the median over PASSES of CUDA graphs of LAUNCHES launches each, over sets
of buffers that exceed the L2 cache together; all kernels and the copy take turns in each pass. Artifacts of one name in
several folders have to give the same bytes, for random data and for all bf16 there are.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import fp4rt
from fp4num import Quantized

SIZES, LAUNCHES, PASSES, SETS = (8192, 16384), 20, 9, 2


def tensors(outputs: dict[str, Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for x in outputs.values():
        found += [x.codes, x.scales] if isinstance(x, Quantized) else [x]
    return found


def arguments(kernel: fp4rt.Kernel, x: torch.Tensor) -> dict[str, Any]:
    top = x.float().nan_to_num(0.0, 0.0, 0.0).abs().max()
    return {a.name: x if a.axes else top for a in kernel.manifest.kernel.args if a.direction == "in"}


def graph(run: Callable[[int], object]) -> torch.cuda.CUDAGraph:
    for i in range(SETS):
        run(i)
    torch.cuda.synchronize()
    made = torch.cuda.CUDAGraph()
    with torch.cuda.graph(made):
        for i in range(LAUNCHES):
            run(i % SETS)
    return made


def microseconds(made: torch.cuda.CUDAGraph) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    made.replay()
    start.record()
    made.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e3 / LAUNCHES


def compare(kernels: dict[str, fp4rt.Kernel]) -> None:
    """Artifacts of one name give the same bytes."""
    codes = torch.arange(1 << 16, device="cuda", dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    mixed = codes[torch.randperm(1 << 16, device="cuda")].view(256, 256)
    scaled = (torch.randn(512, 256, device="cuda") * 2.0 ** torch.randint(-30, 30, (512, 1), device="cuda")).bfloat16()
    for x in (torch.randn(512, 384, device="cuda").bfloat16(), codes.view(256, 256), mixed, scaled, scaled.round()):
        first: dict[str, list[torch.Tensor]] = {}
        for name, kernel in kernels.items():
            found = [
                t.clone().view(torch.uint8) if t.dim() else t.clone() for t in tensors(kernel(**arguments(kernel, x)))
            ]
            for mine, theirs in zip(found, first.setdefault(kernel.name, found), strict=True):
                assert torch.equal(mine, theirs) or bool(mine.isnan().all()), f"{name} gives other bytes"


def timed(kernels: dict[str, fp4rt.Kernel], size: int) -> None:
    """Print a line for the copy and one for each kernel."""
    xs = [torch.randn(size, size, device="cuda").bfloat16() for _ in range(SETS)]
    copies = [torch.empty_like(x) for x in xs]
    made = {"copy": graph(lambda i: copies[i].copy_(xs[i]))}
    moved = {"copy": 2 * xs[0].nbytes}
    held: list[Any] = []
    for name, kernel in kernels.items():
        args = [arguments(kernel, x) for x in xs]
        outs = [kernel(**a) for a in args]
        held.append((args, outs))
        made[name] = graph(lambda i, k=kernel, a=args, o=outs: k(**a[i], out=o[i]))
        moved[name] = xs[0].nbytes + sum(t.nbytes for t in tensors(outs[0]))
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(PASSES):
        for name, one in made.items():
            times[name].append(microseconds(one))
    rates = {name: moved[name] / statistics.median(found) / 1e3 for name, found in times.items()}
    for name, found in times.items():
        quarters = statistics.quantiles(found, n=4)
        spread = (quarters[2] - quarters[0]) / 2
        share = 100 * rates[name] / rates["copy"]
        middle = statistics.median(found)
        print(f"{size:6d}  {name:28s} {middle:8.2f} us +- {spread:5.2f} {rates[name]:8.0f} GB/s {share:6.1f} %")


def main(folders: list[str]) -> None:
    paths = [p for folder in folders for p in sorted(Path(folder).glob("*.json"))]
    kernels = {f"{p.parent.name}/{p.stem}": fp4rt.load(p, "cuda") for p in paths}
    compare(kernels)
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    for size in SIZES:
        timed(kernels, size)


if __name__ == "__main__":
    main(sys.argv[1:])
