"""What a call costs the CPU: a bare cuLaunchKernelEx, a bound call, and full calls. Needs a Hopper GPU and torch.

    python benchmarks/call_cost.py

Each figure is the median over batches, of the time from one queued call to the next; the stream is drained between
batches. The kernel is tests/gpu's smallest, so the GPU keeps up.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fp4rt import load
from fp4rt.cuda.calls import TensorCall
from fp4rt.cuda.driver import context, driver, torch_stream

BATCH, BATCHES = 200, 60
ARTIFACT = Path(__file__).resolve().parent.parent / "tests" / "gpu" / "data" / "scale_shift.json"


def microseconds(call: Callable[[], object]) -> tuple[float, float]:
    """Median and spread (the middle half) of a call's time."""
    times: list[float] = []
    for _ in range(BATCHES):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(BATCH):
            call()
        times.append((time.perf_counter() - start) / BATCH * 1e6)
    quarters = statistics.quantiles(times, n=4)
    return statistics.median(times), quarters[2] - quarters[0]


def main() -> None:
    kernel = load(ARTIFACT, "cuda")
    x, shift = torch.zeros(64, 32, device="cuda"), torch.zeros((), device="cuda")
    out = {"y": torch.empty_like(x), "count": torch.empty((), dtype=torch.int32, device="cuda")}
    bound = kernel.bind(x=x, shift=shift, out=out)
    launcher: Any = bound._launcher
    assert isinstance(launcher, TensorCall)
    stream = torch_stream(context(None).ordinal)
    bound()
    cu = driver()
    config, function, pointers = launcher._launches._configured[stream][0]
    host_x = np.zeros((64, 32), np.float32)
    operator = kernel.as_torch_op("fp4rt_benchmarks::scale_shift")
    left, right, product = (torch.zeros(64, 64, device="cuda") for _ in range(3))
    rows: list[tuple[str, Callable[[], object]]] = [
        ("bare cuLaunchKernelEx", lambda: cu.cuLaunchKernelEx(config, function, pointers, 0)),
        (
            "bare cuMemsetD32Async (this kernel's init)",
            lambda: cu.cuMemsetD32Async(out["count"].data_ptr(), 0, 1, stream),
        ),
        ("bound call (init + launch)", bound),
        ("call with out=", lambda: kernel(x=x, shift=shift, out=out)),
        ("call that allocates its outputs", lambda: kernel(x=x, shift=shift)),
        ("operator by name, outputs allocated", lambda: operator(x=x, shift=shift)),
        ("operator on tensors, outputs allocated", lambda: operator.overload(x, shift)),
        ("torch: torch.mm(a, b, out=c)", lambda: torch.mm(left, right, out=product)),
        ("bind", lambda: kernel.bind(x=x, shift=shift, out=out)),
        ("torch: torch.add(x, shift, out=y)", lambda: torch.add(x, shift, out=out["y"])),
        ("call on numpy arrays, copies and wait included", lambda: kernel(x=host_x, shift=0.0)),
    ]
    print(torch.cuda.get_device_name(), f"driver {cu.cuDriverGetVersion()[1]}")
    for name, call in rows:
        median, spread = microseconds(call)
        print(f"{name:50s} {median:8.2f} us  +- {spread / 2:.2f}")


if __name__ == "__main__":
    main()
