"""Lists of problems on a GPU: tables in its memory, and one launch for the problems that take one plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp4rt import arrays
from fp4rt.cuda import driver as cuda
from fp4rt.cuda import tensormaps
from fp4rt.cuda.blocks import Template
from fp4rt.cuda.calls import PER_THREAD_STREAM, CallPacker, DeviceMemory, copy_in, copy_out, device_memory
from fp4rt.cuda.driver import check, check_fork, driver, failure
from fp4rt.cuda.module import Entry, launch_config
from fp4rt.errors import DeviceError
from fp4rt.listing import OverList, over_lists, record_bytes
from fp4rt.plan import RECORD_ALIGN, WORKSPACE
from fp4rt.resolve import Resolved, ResolvedLaunch
from fp4rt.signature import Call

Problems = Sequence[tuple[Call, Resolved]]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A launch with its two parameters, which lie at `pointers` as the driver reads them; `held` is their memory."""

    launch: ResolvedLaunch
    entry: Entry
    grid: tuple[int, int, int]
    pointers: int
    held: np.ndarray


class _Packed:
    """A list with the addresses of its buffers: what is filled, what the tables hold, and the launches."""

    def __init__(self, packer: CallPacker, problems: Problems, addresses: Sequence[Mapping[str, int]]) -> None:
        self._packer = packer
        self._fills: list[tuple[Template, list[int]]] = []
        for (call, plan), places in zip(problems, addresses, strict=True):
            template = packer.template(plan, tuple(places), tuple(call.scalars))
            template.check([*places.values()])
            if plan.init:
                self._fills.append((template, [*places.values()]))

        def record(number: int, launch: ResolvedLaunch) -> bytes:
            call, plan = problems[number]
            return record_bytes(launch, plan.tensor_maps, addresses[number], call.scalars, tensormaps.encode)

        with packer.context.current():  # what makes maps asks for a context
            self.lists = over_lists([plan for _, plan in problems], record, clusters_of(packer))

    def fill(self, handle: int, *, prepared: bool) -> None:
        """Queue what is filled before the launches."""
        for template, places in self._fills:
            template.fill(places, handle, prepared=prepared)

    def place(self, tables: Sequence[int]) -> list[_Ready]:
        """The launches, for tables at these addresses."""
        return [self._ready(one, table) for one, table in zip(self.lists, tables, strict=True)]

    def _ready(self, one: OverList, table: int) -> _Ready:
        held = np.zeros(4, np.uint64)
        base = held.__array_interface__["data"][0]
        held[:] = [base + 16, base + 24, table, table + len(one.records)]
        entry = self._packer.over_lists[one.variant, one.launch.index]
        return _Ready(one.launch, entry, one.grid, base, held)


def clusters_of(packer: CallPacker) -> Any:
    """How many clusters of a launch over a list the device holds at once."""
    return lambda plan, launch: max(1, packer.over_lists[plan.variant, launch.index].max_clusters)


def _queue(ready: Sequence[_Ready], handle: int) -> None:
    launch = driver().cuLaunchKernelEx
    for one in ready:
        x = one.launch
        config = launch_config(x.block, x.cluster, x.smem, one.grid, handle, False)
        (result,) = launch(config, one.entry.function, one.pointers, 0)
        if result:
            raise failure(result, "cuLaunchKernelEx")


class TensorList:
    """A list of problems on torch tensors. Its tables and workspaces lie in memory of its own."""

    def __init__(self, packer: CallPacker, problems: Problems, stream: object | None, *, again: bool) -> None:
        self._context = packer.context
        self._problems = problems  # keeps the tensors alive
        self._stream = None if stream is None else cuda.stream_handle(stream)
        handle = self._handle(None)
        self._refuse_capture(handle)
        starts, size = _workspaces(problems)
        self._workspace: Any = self._memory(size)
        base = self._workspace.data_ptr() if size else 0
        addresses = [
            {**{name: v.address for name, v in call.parts.items()}, WORKSPACE: base + start}
            for (call, _), start in zip(problems, starts, strict=True)
        ]
        self._packed = _Packed(packer, problems, addresses)
        tables = [one.table for one in self._packed.lists]
        self._tables: Any = self._memory(sum(len(table) for table in tables))
        self._ready = self._packed.place(_along(self._tables.data_ptr() if tables else 0, tables))
        self._prepared = False
        with self._context.current():
            if tables:
                _upload(b"".join(tables), self._tables.data_ptr(), handle)
            if again:  # relaunched on any stream, so all of it has to be there
                self._packed.fill(handle, prepared=False)
                check(driver().cuStreamSynchronize(handle), "cuStreamSynchronize")
                self._prepared = True

    @property
    def launches(self) -> int:
        """How many kernels it launches."""
        return len(self._ready)

    def __call__(self, stream: object | None) -> None:
        check_fork()
        handle = self._handle(stream)
        with self._context.current():
            self._packed.fill(handle, prepared=self._prepared)
            _queue(self._ready, handle)

    def _handle(self, stream: object | None) -> int:
        if stream is not None:
            return cuda.stream_handle(stream)
        return cuda.torch_stream(self._context.ordinal) if self._stream is None else self._stream

    def _memory(self, size: int) -> Any:
        return arrays.empty((size,), "u8", "torch", self._context.ordinal)

    def _refuse_capture(self, handle: int) -> None:
        with self._context.current():
            if int(check(driver().cuStreamIsCapturing(handle), "cuStreamIsCapturing")):
                raise DeviceError(
                    "a CUDA graph is being captured: what a list of problems copies to the GPU belongs before it",
                    code="FP6324",
                    help="bound = kernel.bind_many(problems) before the capture, and bound() in it",
                )


class HostList:
    """A list of problems on numpy arrays: device memory for its duration, copies in and out, then done."""

    def __init__(self, packer: CallPacker, problems: Problems, stream: object | None) -> None:
        self._packer = packer
        self._problems = problems
        self._stream = PER_THREAD_STREAM if stream is None else cuda.stream_handle(stream)
        self.launches = len(over_lists([plan for _, plan in problems], lambda _i, _x: b"", clusters_of(packer)))

    def __call__(self, stream: object | None) -> None:
        check_fork()
        handle = self._stream if stream is None else cuda.stream_handle(stream)
        with self._packer.context.current(), device_memory(handle) as memory:
            self._run(memory, handle)

    def _run(self, memory: DeviceMemory, handle: int) -> None:
        addresses = [copy_in(memory, call, plan, handle) for call, plan in self._problems]
        packed = _Packed(self._packer, self._problems, addresses)
        tables = [one.table for one in packed.lists]
        packed.fill(handle, prepared=False)
        places = [memory.allocate(len(table)) for table in tables]
        for place, table in zip(places, tables, strict=True):
            _upload(table, place, handle)
        _queue(packed.place(places), handle)
        for (call, _), own in zip(self._problems, addresses, strict=True):
            copy_out(call, own, handle)
        check(driver().cuStreamSynchronize(handle), "running the kernel")


def _upload(data: bytes, place: int, handle: int) -> None:
    """Copied before it returns: from memory that is not pinned, CUDA copies through memory of its own."""
    held = np.frombuffer(data, np.uint8)
    source = held.__array_interface__["data"][0]
    check(driver().cuMemcpyHtoDAsync(place, source, len(data), handle), "cuMemcpyHtoDAsync")


def _workspaces(problems: Problems) -> tuple[list[int], int]:
    """Where in one piece of memory the workspace of each problem starts, and the bytes of all."""
    starts: list[int] = []
    end = 0
    for _, plan in problems:
        starts.append(end)
        end += -(-plan.workspace // RECORD_ALIGN) * RECORD_ALIGN
    return starts, end


def _along(base: int, tables: Sequence[bytes]) -> list[int]:
    """Where tables lie one behind the other; each is a multiple of what the next is aligned to."""
    found: list[int] = []
    for table in tables:
        found.append(base)
        base += len(table)
    return found
