"""What a call costs the CPU: bare driver calls, a bound call, full calls on ever new buffers. Needs torch, and a GPU.

    python benchmarks/call_cost.py                         tests/gpu's smallest kernel
    python benchmarks/call_cost.py NAME.json               and another artifact, at the sizes of SIZES
    python benchmarks/call_cost.py --without-gpu           a driver that does nothing: what the runtime adds to it

Each figure is the median over batches, of the time from one queued call to the next; the stream is drained between
batches. Calls of the kernel and of the operator cycle SETS fresh sets of buffers, so that nothing is the same from one
to the next. The first call of new sizes is the median over sizes that were never seen.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fp4rt
from fp4rt import Artifact, Kernel, Quantized
from fp4rt.cuda import driver as cuda
from fp4rt.cuda.calls import CallPacker, TensorCall
from fp4rt.cuda.driver import Context
from fp4rt.cuda.module import Entry
from fp4rt.devices.cuda import CudaExecutable
from fp4rt.typed import shape_of

BATCH, BATCHES, SETS, NEW, FIRST = 192, 60, 64, 8192, 40
ARTIFACT = Path(__file__).resolve().parent.parent / "tests" / "gpu" / "data" / "scale_shift.json"
#: What a dim is in the calls; others are SIZE. First calls add multiples of STEP to the first dynamic dim.
SIZES = {"scale_shift": {"M": 64, "N": 32}}
SIZE, STEP = 256, 64


def microseconds(rows: list[tuple[str, Callable[[], object]]]) -> None:
    """Print median and spread (half of the middle half) of each call's time. Calls take turns, batch by batch: a host
    is quicker in one second than in the next."""
    times: dict[str, list[float]] = {name: [] for name, _ in rows}
    gc.disable()  # as timeit does: a collection is the whole program's cost
    for _ in range(BATCHES):
        for name, call in rows:
            drain()
            start = clock()
            for _ in range(BATCH):
                call()
            times[name].append((clock() - start) / BATCH * 1e6)
    gc.enable()
    for name, found in times.items():
        quarters = statistics.quantiles(found, n=4)
        print(f"  {name:50s} {statistics.median(found):8.2f} us  +- {(quarters[2] - quarters[0]) / 2:.2f}")


#: Without a GPU nothing is waited for, and other programs shall not count.
clock = time.perf_counter if torch.cuda.is_available() else time.thread_time


def drain() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Buffers:
    """Fresh inputs and outputs of a kernel for some dims."""

    def __init__(self, kernel: Kernel, device: str) -> None:
        self.kernel = kernel
        self.device = device
        self.typed = kernel.manifest.kernel
        known = SIZES.get(kernel.name, {})
        self.dims = {d.name: known.get(d.name, SIZE) if d.value is None else d.value for d in self.typed.dims}
        self.dynamic = next((d.name for d in self.typed.dims if d.value is None and d.expr is None), None)

    def inputs(self, dims: Mapping[str, int]) -> dict[str, Any]:
        """Zeros for every input."""
        ins = [a for a in self.typed.args if a.direction in ("in", "inout")]
        return {a.name: self._zeros(a, shape_of(a, dims)) for a in ins}

    def _zeros(self, arg: Any, shape: tuple[int, ...]) -> Any:
        if arg.format is None:
            kind = getattr(torch, fp4rt.arrays.TORCH_DTYPES[str(arg.dtype)][0])
            return torch.zeros(shape, dtype=kind, device=self.device)
        fmt = arg.format
        codes = torch.zeros(fmt.codes_shape(shape), dtype=torch.uint8, device=self.device)
        scales = torch.zeros(
            fmt.scales_size(shape), dtype=torch.float32 if fmt.scale == "f32" else torch.uint8, device=self.device
        )
        scale = torch.ones((), device=self.device) if fmt.tensor_scale is not None else None
        return Quantized(codes, scales, scale, fmt, shape)


def kernel_rows(kernel: Kernel, device: str) -> list[tuple[str, Callable[[], object]]]:
    """The calls of a kernel that are timed."""
    buffers = Buffers(kernel, device)
    inputs = [buffers.inputs(buffers.dims) for _ in range(SETS)]
    written_in_place = {a.name for a in kernel.manifest.kernel.args if a.direction == "inout"}
    outs = [{name: x for name, x in kernel(**args).items() if name not in written_in_place} for args in inputs]
    sets = cycle(list(zip(inputs, outs, strict=True)))
    ever_new = fresh_outputs(outs[0])
    only_inputs = cycle(inputs)
    bound = kernel.bind(**inputs[0], out=outs[0])
    bound()
    operator = kernel.as_torch_op(f"fp4rt_benchmarks::{kernel.name}")
    flat = cycle([operator.tensors(**args) for args in inputs])

    def given() -> object:
        args, out = next(sets)
        return kernel(**args, out=out)

    def new() -> object:
        return kernel(**inputs[0], out=next(ever_new))

    return [
        *bare_rows(bound, inputs[0], outs[0]),
        ("bound call", bound),
        (f"call with out=, {SETS} sets of buffers", given),
        ("call with out=, ever new outputs", new),
        (f"call that allocates its outputs, {SETS} sets", lambda: kernel(**next(only_inputs))),
        (f"operator by name, {SETS} sets", lambda: operator(**next(only_inputs))),
        (f"operator on tensors, {SETS} sets", lambda: operator.overload(*next(flat))),
        ("bind", lambda: kernel.bind(**inputs[0], out=outs[0])),
    ]


def fresh_outputs(out: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Outputs like these that do not come again before NEW others have: the runtime keeps parameters of fewer."""
    first: Any = next(iter(out.values()))
    plain = isinstance(first, torch.Tensor)
    like = first if plain else first.codes
    room = torch.empty((NEW, *like.shape), dtype=like.dtype, device=like.device)
    name = next(iter(out))
    rows = room.unbind()
    return cycle([{**out, name: row if plain else replace(first, codes=row)} for row in rows])


def bare_rows(bound: Any, inputs: Any, outs: Any) -> list[tuple[str, Callable[[], object]]]:
    """The driver calls that a bound call has to make, as cuda-python makes them with everything prepared."""
    if not torch.cuda.is_available():
        return []
    launcher: Any = bound._launcher
    assert isinstance(launcher, TensorCall)
    template: Any = launcher.template
    block, cu = launcher._block, cuda.driver()
    stream = cuda.torch_stream(template._context.ordinal)
    memsets = [
        (fill, launcher._addresses[part] + offset, value, count) for fill, part, offset, value, count in template._fills
    ]
    ready = [(config, function, block.base + table) for config, function, table in template._ready[stream]]

    def bare() -> None:
        for fill, address, value, count in memsets:
            fill(address, value, count, stream)
        for config, function, pointers in ready:
            cu.cuLaunchKernelEx(config, function, pointers, 0)

    config, function, pointers = ready[0]
    return [
        ("bare cuLaunchKernelEx of cuda-python", lambda: cu.cuLaunchKernelEx(config, function, pointers, 0)),
        (f"bare launches and {len(memsets)} fills of cuda-python", bare),
    ]


def first_calls(kernel: Kernel, device: str) -> float:
    """Median time of the first call for sizes that the kernel has not seen, its buffers given."""
    buffers = Buffers(kernel, device)
    if buffers.dynamic is None:
        return float("nan")
    times: list[float] = []
    for i in range(1, FIRST + 1):
        dims = {**buffers.dims, buffers.dynamic: buffers.dims[buffers.dynamic] + STEP * i}
        args = buffers.inputs(dims)
        out = {a.name: buffers._zeros(a, shape_of(a, dims)) for a in buffers.typed.args if a.direction == "out"}
        drain()
        start = clock()
        kernel(**args, out=out)
        times.append((clock() - start) * 1e6)
    return statistics.median(times)


class QuietDriver:
    """A driver whose functions do nothing, in machine code, so that what is timed is the runtime's."""

    _memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    _memory.write(b"\x31\xc0\xc3")  # xor eax, eax; ret
    _memory.seek(64)
    _memory.write(b"\x48\x89\x37\x31\xc0\xc3")  # mov [rdi], rsi: a map's address is its first word
    _address = ctypes.addressof(ctypes.c_char.from_buffer(_memory))

    def __getattr__(self, name: str) -> Any:
        from cuda.bindings import driver as bindings

        return getattr(bindings, name)

    def cuMemsetD8Async(self, *_: int) -> tuple[int]:
        return (0,)

    cuMemsetD16Async = cuMemsetD32Async = cuLaunchKernelEx = cuMemsetD8Async

    def cuGetProcAddress(self, name: bytes, version: int, flags: int) -> tuple[Any, int, int]:
        writes = name == b"cuTensorMapReplaceAddress"
        return self.CUresult.CUDA_SUCCESS, self._address + 64 * writes, 0


class QuietDevice:
    """Host memory that passes for a GPU's."""

    name = "none"

    def __init__(self) -> None:
        cuda._driver, cuda.raw_stream = QuietDriver(), lambda device: 0
        self._context = object.__new__(Context)
        self._context.ordinal, self._context._address, self._context._current = 0, 0, cuda.native().current_context

    def supports(self, target: str) -> bool:
        return True

    def load(self, artifact: Artifact) -> CudaExecutable:
        plans = [artifact.manifest.plan, *(v.plan for v in artifact.manifest.variants)]
        entries = {launch: Entry(0, 66) for plan in plans for launch in plan.launches}
        executable = CudaExecutable(CallPacker(artifact.manifest, entries, self._context))
        executable.memory = None
        return executable


def main(arguments: list[str]) -> None:
    without = "--without-gpu" in arguments
    paths = [ARTIFACT, *(Path(a) for a in arguments if not a.startswith("-"))]
    device = "cpu" if without else "cuda"
    print("no GPU, no driver" if without else torch.cuda.get_device_name(), "Python", sys.version.split()[0])
    for path in paths:
        artifact = Artifact.load(path)
        kernel = Kernel(artifact, QuietDevice() if without else "cuda")
        if without:
            kernel.signature.check_data = lambda *_: None  # no GPU's memory is looked at
        print(f"{kernel!r}")
        microseconds([*kernel_rows(kernel, device), *([] if without else others(kernel))])
        print(f"  {'first call of new sizes':50s} {first_calls(kernel, device):8.2f} us")


def others(kernel: Kernel) -> list[tuple[str, Callable[[], object]]]:
    """Calls beside which ours stand, and one of the smallest kernel on arrays of the host."""
    left, right, product = (torch.zeros(64, 64, device="cuda") for _ in range(3))
    host = np.zeros((64, 32), np.float32)
    rows: list[tuple[str, Callable[[], object]]] = [
        ("torch: torch.mm(a, b, out=c)", lambda: torch.mm(left, right, out=product)),
        ("torch: torch.add(a, b, out=c)", lambda: torch.add(left, right, out=product)),
        ("torch: torch.empty_like(a)", lambda: torch.empty_like(left)),
    ]
    if kernel.name == "scale_shift":
        rows.append(("call on numpy arrays, copies and wait included", lambda: kernel(x=host, shift=0.0)))
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
