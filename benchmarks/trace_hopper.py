"""Times of trace_hopper.fp4's kernels on a Hopper GPU, for the model of `fp4cc trace` and `fp4cc explain`.

    python benchmarks/trace_hopper.py compile DIR            where the compiler is installed: an artifact a call
    python benchmarks/trace_hopper.py measure DIR OUT.json   beside the GPU: needs fp4rt and torch

A figure is the median over PASSES of CUDA graphs of at least LAUNCHES launches each, over sets of buffers that exceed
the L2 cache twice together (`fp4rt.cuda.timing`). Codes are random bits, scales near 1: power depends on the data.
The times are kept in trace_hopper.json, which benchmarks/trace_model.py fits and compares.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PASSES, LAUNCHES = 7, 20

GEMMS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "nvfp4": ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 4096, 4096), (256, 4096, 4096), (64, 4096, 4096),
              (1024, 7168, 2048)),
    "mxfp4": ((1024, 1024, 1024), (1024, 4096, 4096), (4096, 4096, 4096), (64, 7168, 2048), (2048, 8192, 1024)),
    "mxfp8": ((1024, 1024, 1024), (2048, 4096, 2048), (512, 4096, 4096)),
    "w4a16": ((1, 4096, 4096), (4, 4096, 4096), (16, 8192, 8192), (8, 7168, 2048), (1, 28672, 4096), (64, 4096, 4096),
              (64, 8192, 8192), (128, 4096, 14336), (256, 4096, 4096), (1024, 4096, 4096), (1024, 8192, 8192),
              (4096, 4096, 4096), (2048, 7168, 2048)),
    "rows": ((16, 4096, 4096), (64, 8192, 8192), (128, 4096, 14336), (1024, 4096, 4096), (2048, 7168, 2048),
             (4096, 8192, 4096)),
    "blocks": ((64, 4096, 4096), (1024, 4096, 4096), (2048, 7168, 2048), (512, 4096, 14336)),
    "bf16_pair": ((512, 2048, 2048), (1024, 4096, 4096), (4096, 4096, 4096), (64, 8192, 8192), (2048, 7168, 2048)),
}  # fmt: skip
OTHERS: dict[str, tuple[tuple[int, int], ...]] = {
    "quantizer": ((1024, 4096), (4096, 4096), (8192, 8192)),
    "both": ((2048, 4096), (8192, 8192)),
    "mx_quantizer": ((4096, 4096), (8192, 8192)),
    "residual": ((1024, 4096), (4096, 4096), (8192, 8192)),
}


def calls() -> list[tuple[str, dict[str, int]]]:
    """(kernel, its sizes) of each call."""
    gemms = [(name, dict(zip("MNK", size, strict=True))) for name, sizes in GEMMS.items() for size in sizes]
    return gemms + [(name, dict(zip("MN", size, strict=True))) for name, sizes in OTHERS.items() for size in sizes]


def name_of(kernel: str, sizes: dict[str, int]) -> str:
    """A call's folder."""
    return f"{kernel}_{'x'.join(map(str, sizes.values()))}"


def compile_all(folder: Path) -> None:
    """An artifact for each call, its sizes fixed."""
    for kernel, sizes in calls():
        fixed = [part for name, size in sizes.items() for part in ("--set", f"{name}={size}")]
        out = folder / name_of(kernel, sizes)
        spec = str(HERE / "trace_hopper.fp4")
        command = ["fp4cc", "compile", spec, "--kernel", kernel, "--target", "sm_90a", "-o", str(out), *fixed]
        subprocess.run(command, check=True)
        print(out, flush=True)


def argument(arg: Any, shape: tuple[int, ...]) -> Any:
    """Random data on the GPU."""
    import torch

    from fp4num import Quantized

    if arg.format is None:
        return torch.randn(shape, device="cuda").bfloat16() if shape else torch.full((), 4.0, device="cuda")
    fmt = arg.format
    codes = torch.randint(0, 256, fmt.codes_shape(shape), dtype=torch.uint8, device="cuda")
    if fmt.bits == 8:
        codes &= 0xBF  # below 2, and no NaN
    count = fmt.layout.size(*fmt.scale_grid(shape))
    if fmt.scale == "f32":
        scales: Any = torch.rand(count, device="cuda") + 0.5
    else:
        one = 0x38 if fmt.scale == "e4m3" else 125
        scales = (torch.randint(0, 4, (count,), dtype=torch.uint8, device="cuda") + one).to(torch.uint8)
    scale = None if fmt.tensor_scale is None else torch.ones((), device="cuda")
    return Quantized(codes, scales, scale, fmt, shape)


def measured(folder: Path, bench: Any) -> dict[str, Any]:
    """One call's time."""
    import torch

    from fp4rt.artifact import Artifact
    from fp4rt.bench import full_sizes
    from fp4rt.typed import shape_of
    from fp4rt.work import memory, products

    kernel = Artifact.load(next(folder.glob("*.json"))).load_kernel("cuda")
    typed = kernel.manifest.kernel
    dims = full_sizes(kernel, {})
    moved = sum(one.total for one in memory(typed, dims))
    inputs = [arg for arg in typed.args if arg.direction != "out"]
    bound = [
        kernel.bind(**{arg.name: argument(arg, shape_of(arg, dims)) for arg in inputs})
        for _ in range(bench.sets(moved))
    ]
    times = bench.times({"": (lambda i: bound[i](), len(bound))}, LAUNCHES, PASSES)[""]
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    bound.clear()
    torch.cuda.empty_cache()
    return {
        "name": folder.name, "kernel": typed.name, "sizes": {name: int(size) for name, size in dims.items()},
        "us": round(median * 1e6, 3), "low": round(low * 1e6, 3), "high": round(high * 1e6, 3),
        "flop": sum(p.flop for p in products(typed, dims)), "bytes": moved,
    }  # fmt: skip


def clocks() -> str:
    """The clocks and the power of now, as the driver says."""
    query = "--query-gpu=clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit"
    return subprocess.run(["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True).stdout.strip()


def measure_all(folder: Path, out: Path) -> None:
    """The times of all calls, written after each."""
    from fp4rt.cuda.timing import Gpu

    bench, began = Gpu("cuda"), time.time()
    found: list[dict[str, Any]] = []
    print(bench.name, clocks(), flush=True)
    for kernel, sizes in calls():
        one = folder / name_of(kernel, sizes)
        if not one.exists():
            continue
        try:
            call = measured(one, bench)
        except Exception as error:  # noqa: BLE001  # the other calls are worth having
            print(f"{one.name}: {type(error).__name__}: {error}", flush=True)
            continue
        found.append(call)
        rate = f"{call['flop'] / call['us'] / 1e6:8.1f} TFLOP/s {call['bytes'] / call['us'] / 1e3:7.0f} GB/s"
        print(f"{one.name:28s} {call['us']:9.2f} us {rate} {time.time() - began:6.1f} s", flush=True)
        about = {"device": bench.name, "driver": bench.driver, "date": time.strftime("%Y-%m-%d"), "clocks": clocks()}
        out.write_text(json.dumps({**about, "calls": found}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "compile":
        compile_all(Path(sys.argv[2]))
    else:
        measure_all(Path(sys.argv[2]), Path(sys.argv[3]))
