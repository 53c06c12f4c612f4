"""Times of work on a GPU by CUDA graphs of torch, in turns (`fp4rt.bench`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fp4num import Quantized
from fp4rt.cuda.driver import check, driver
from fp4rt.errors import DeviceError
from fp4rt.typed import Arg, TypedKernel
from fp4rt.work import Product

Work = Callable[[int], object]

#: Element type -> the numpy type of its bits that torch takes, and torch's name for it.
_AS = {
    "bf16": ("int16", "bfloat16"), "e4m3": ("uint8", "float8_e4m3fn"), "e5m2": ("uint8", "float8_e5m2"),
    "u32": ("int32", "int32"), "u64": ("int64", "int64"),
}  # fmt: skip

#: Sets of buffers at most, and the part of the free memory that they may take.
_MOST, _ROOM = 64, 0.4
#: Rows, columns and depth that cuBLAS's FP8 products have to be multiples of.
_FP8_MULTIPLE = 16
_FP8_SINCE = (8, 9)


class Gpu:
    """A GPU that torch uses: "cuda" or "cuda:N". DeviceError FP6302 without torch, or a GPU that it can use."""

    def __init__(self, device: str = "cuda") -> None:
        try:
            torch: Any = import_module("torch")
        except ImportError as error:
            raise DeviceError(
                "a kernel is timed on a GPU by torch, which is not installed",
                code="FP6302",
                help="pip install torch, on a machine with a GPU",
            ) from error
        if not torch.cuda.is_available():
            raise DeviceError(
                "there is no GPU that torch can use: a kernel is timed on one",
                code="FP6302",
                help="copy what fp4cc compile writes to a machine with a GPU, and run python -m fp4rt.bench there",
            )
        self._torch: Any = torch
        kind, _, number = device.partition(":")
        if kind != "cuda" or (number and not number.isdecimal()) or int(number or 0) >= torch.cuda.device_count():
            raise DeviceError(
                f"there is no device {device!r} to time a kernel on: cuda:0 to cuda:{torch.cuda.device_count() - 1}",
                code="FP6302",
            )
        self._index = int(number or 0)
        self._properties: Any = torch.cuda.get_device_properties(self._index)

    @property
    def device(self) -> str:
        """ "cuda:0" """
        return f"cuda:{self._index}"

    @property
    def name(self) -> str:
        """The product's name."""
        return str(self._properties.name)

    @property
    def driver(self) -> str:
        """The version of the driver, or of the CUDA that it speaks where it does not say."""
        with suppress(OSError):
            found = re.search(r"\b\d+\.\d+(\.\d+)?\b", Path("/proc/driver/nvidia/version").read_text("utf-8"))
            if found is not None:
                return found.group()
        number = check(driver().cuDriverGetVersion(), "cuDriverGetVersion")
        return f"CUDA {number // 1000}.{number % 1000 // 10}"

    def sets(self, size: int) -> int:
        """How many buffers of so many bytes exceed the L2 cache twice, and fit."""
        free, _ = self._torch.cuda.mem_get_info(self._index)
        wanted = -(-2 * int(self._properties.L2_cache_size) // max(size, 1)) + 1
        return max(1, min(wanted, _MOST, int(_ROOM * free) // max(size, 1)))

    def placed(self, kernel: TypedKernel, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Random arguments on the GPU; numbers stay numbers."""
        return {name: self._placed(kernel.arg(name), value) for name, value in arguments.items()}

    def _placed(self, arg: Arg, value: Any) -> Any:
        if isinstance(value, Quantized):
            return value.to(self.device)
        if arg.direction == "param":
            return value
        bits, kind = _AS.get(str(arg.dtype), (None, None))
        array = np.array(value)
        if bits is None or kind is None:
            return self._torch.from_numpy(array).to(self.device)
        return self._torch.from_numpy(array.view(bits)).view(getattr(self._torch, kind)).to(self.device)

    def peers(self, parts: Sequence[Product]) -> dict[str, tuple[Work, int]]:
        """cuBLAS on operands of these sizes: bf16, and FP8 where this GPU and the sizes have it."""
        if not parts:
            return {}
        found = {"bf16": self._peer(parts, 2, self._bf16)}
        capability = (self._properties.major, self._properties.minor)
        whole = all(p.batch == 1 and not p.n % _FP8_MULTIPLE and not p.k % _FP8_MULTIPLE for p in parts)
        if whole and capability >= _FP8_SINCE and hasattr(self._torch, "_scaled_mm"):
            found["FP8"] = self._peer(parts, 1, self._fp8)
        return found

    def _peer(self, parts: Sequence[Product], item: int, make: Callable[[Product], Work]) -> tuple[Work, int]:
        size = sum(p.batch * (item * (p.m * p.k + p.n * p.k) + 2 * p.m * p.n) for p in parts)
        sets = [[make(part) for part in parts] for _ in range(self.sets(size))]
        return lambda i: [product(i) for product in sets[i]], len(sets)

    def _bf16(self, p: Product) -> Work:
        torch = self._torch
        shape = () if p.batch == 1 else (p.batch,)
        a = torch.randn(*shape, p.m, p.k, device=self.device, dtype=torch.bfloat16)
        b = torch.randn(*shape, p.n, p.k, device=self.device, dtype=torch.bfloat16).mT
        out = torch.empty(*shape, p.m, p.n, device=self.device, dtype=torch.bfloat16)
        return lambda _: torch.matmul(a, b, out=out)

    def _fp8(self, p: Product) -> Work:
        torch = self._torch
        a = torch.randn(p.m, p.k, device=self.device).to(torch.float8_e4m3fn)
        b = torch.randn(p.n, p.k, device=self.device).to(torch.float8_e4m3fn).t()
        one = torch.ones((), device=self.device)
        return lambda _: torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    def times(self, work: Mapping[str, tuple[Work, int]], launches: int, passes: int) -> dict[str, list[float]]:
        """Seconds of one run in each pass, all works in turns. A graph has whole rounds over the work's sets."""
        with self._torch.cuda.device(self._index):
            made = {name: self._graph(run, sets, launches) for name, (run, sets) in work.items()}
            found: dict[str, list[float]] = {name: [] for name in made}
            for _ in range(passes):
                for name, (graph, count) in made.items():
                    found[name].append(self._seconds(graph) / count)
        return found

    def _graph(self, run: Work, sets: int, launches: int) -> tuple[Any, int]:
        count = -(-launches // sets) * sets
        side = self._torch.cuda.Stream()
        with self._torch.cuda.stream(side):  # what allocates or loads does so before the capture
            for i in range(sets):
                run(i)
        self._torch.cuda.synchronize()
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph):
            for i in range(count):
                run(i % sets)
        return graph, count

    def _seconds(self, graph: Any) -> float:
        start, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        graph.replay()  # clocks rise
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3
