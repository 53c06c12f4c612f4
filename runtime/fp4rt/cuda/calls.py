"""Packing and launching one call. A bound call is a parameter buffer of its own and one driver call a launch."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from fp4rt import arrays
from fp4rt.cuda import driver as cuda
from fp4rt.cuda.driver import Context, check, check_fork, driver
from fp4rt.cuda.module import Entry, launch_config
from fp4rt.cuda.tensormaps import MapCache
from fp4rt.errors import ArgumentError
from fp4rt.manifest import Launch, Manifest
from fp4rt.plan import WORKSPACE
from fp4rt.resolve import Key, Resolved, ResolvedLaunch
from fp4rt.signature import Call

#: CU_STREAM_PER_THREAD: calls with numpy arrays from several threads do not wait for each other.
_PER_THREAD_STREAM = 2
_MAX_CONFIGS = 1024


class CallPacker:
    """What all calls of one loaded artifact share: entries, encoded tensor maps, launch configurations."""

    def __init__(self, manifest: Manifest, entries: Mapping[Launch, Entry], context: Context) -> None:
        self.context = context
        plans = {"": manifest.plan, **{v.name: v.plan for v in manifest.variants}}
        self._entries = {name: [entries[x] for x in plan.launches] for name, plan in plans.items()}
        self._maps = MapCache(context)
        self._templates: dict[tuple[str, Key], list[LaunchTemplate]] = {}
        self._configs: dict[tuple[str, Key, int, int], Any] = {}

    def pack(self, plan: Resolved, addresses: Mapping[str, int], scalars: Mapping[str, float]) -> list[PackedLaunch]:
        """The launches of a plan with their parameters, for buffers at these addresses."""
        key = (plan.variant, plan.key)
        templates = self._templates.get(key)
        if templates is None:
            entries = self._entries[plan.variant]
            templates = [LaunchTemplate(x, entries[x.index]) for x in plan.launches if not x.empty]
            if len(self._templates) >= _MAX_CONFIGS:
                self._templates.clear()
            self._templates[key] = templates
        maps = {m.name: self._maps.get(plan, m, addresses[m.source]) for m in plan.tensor_maps}
        return [template.pack(maps, addresses, scalars) for template in templates]

    def config(self, plan: Resolved, template: LaunchTemplate, stream: int) -> Any:
        """The launch configuration; built once for each launch, set of sizes and stream, then only read."""
        launch = template.launch
        key = (plan.variant, plan.key, launch.index, stream)
        config = self._configs.get(key)
        if config is None:
            grid = launch.grid_for(template.entry.max_clusters)
            config = launch_config(launch.block, launch.cluster, launch.smem, grid, stream)
            if len(self._configs) >= _MAX_CONFIGS:
                self._configs.clear()
            self._configs[key] = config
        return config


class LaunchTemplate:
    """How one launch of a resolved plan is packed: the format of its parameters, and where each value comes from."""

    __slots__ = ("_format", "_offsets", "_pointers", "_size", "_sources", "entry", "launch")

    def __init__(self, launch: ResolvedLaunch, entry: Entry) -> None:
        self.launch = launch
        self.entry = entry
        codes = {"tensor_map": "128s", "pointer": "Q", "i32": "i", "i64": "q", "f32": "f"}
        text, end = "<", 0
        for p in launch.params:
            text += f"{p.offset - end}x{codes[p.kind]}"
            end = p.offset + p.size
        self._format = struct.Struct(text)
        self._sources = launch.params
        self._pointers = struct.Struct(f"<{len(launch.params)}Q")
        self._offsets = [self._pointers.size + p.offset for p in launch.params]
        self._size = self._pointers.size + end

    def pack(
        self, maps: Mapping[str, bytes], addresses: Mapping[str, int], scalars: Mapping[str, float]
    ) -> PackedLaunch:
        """A buffer with the addresses of the parameters, then the parameters."""
        values: list[object] = []
        for p in self._sources:
            if p.kind == "pointer":
                address = addresses[p.source]
                if address % p.align:
                    raise _misaligned(address, p.align, p.source)
                values.append(address + p.byte_offset)
            elif p.kind == "tensor_map":
                values.append(maps[p.source])
            elif p.kind == "f32":
                values.append(scalars[p.source])
            else:
                values.append(p.value)
        memory = np.empty(self._size, np.uint8)
        base: int = memory.__array_interface__["data"][0]
        self._pointers.pack_into(memory.data, 0, *[base + offset for offset in self._offsets])
        self._format.pack_into(memory.data, self._pointers.size, *values)
        return PackedLaunch(self, memory, base)


class PackedLaunch:
    """One launch and its parameters in memory of its own. `pointers` is the address of the list of their addresses."""

    __slots__ = ("memory", "pointers", "template")

    def __init__(self, template: LaunchTemplate, memory: np.ndarray, pointers: int) -> None:
        self.template = template
        self.memory = memory  # held for as long as the launch may be queued again
        self.pointers = pointers


def _misaligned(address: int, align: int, source: str) -> ArgumentError:
    return ArgumentError(
        f"{source!r} lies at {address:#x}: the kernel needs a multiple of {align} bytes",
        argument=source.partition(".")[0],
        code="FP6106",
        help="pass a whole tensor, or a copy of the slice",
    )


class Launches:
    """Packed launches with their fills, run on a stream."""

    __slots__ = ("_configured", "_fills", "_packed", "_packer", "_plan")

    def __init__(self, packer: CallPacker, plan: Resolved, addresses: Mapping[str, int], scalars: Mapping[str, float]):
        self._packer = packer
        self._plan = plan
        self._packed = packer.pack(plan, addresses, scalars)
        self._fills = [(addresses[i.source] + i.byte_offset, i.value, i.count, i.width) for i in plan.init if i.count]
        self._configured: dict[int, list[tuple[Any, Any, int]]] = {}

    def run(self, stream: int) -> None:
        """Queue the fills and the launches. The context is current."""
        ready = self._configured.get(stream)
        if ready is None:
            ready = [
                (self._packer.config(self._plan, p.template, stream), p.template.entry.function, p.pointers)
                for p in self._packed
            ]
            self._configured[stream] = ready
        cu = driver()
        for address, value, count, width in self._fills:
            fill = {1: cu.cuMemsetD8Async, 2: cu.cuMemsetD16Async, 4: cu.cuMemsetD32Async}[width]
            check(fill(address, value, count, stream), "cuMemsetAsync")
        for config, function, pointers in ready:
            (result,) = cu.cuLaunchKernelEx(config, function, pointers, 0)
            if result:
                raise cuda.failure(result, "cuLaunchKernelEx")


class TensorCall:
    """A call on torch tensors: nothing is copied, allocated or waited for."""

    __slots__ = ("_call", "_context", "_launches", "_stream", "_workspace")

    def __init__(self, packer: CallPacker, call: Call, plan: Resolved, stream: object | None) -> None:
        self._call = call  # keeps the tensors alive
        self._context = packer.context
        self._stream = None if stream is None else cuda.stream_handle(stream)
        addresses = {name: v.address for name, v in call.parts.items()}
        self._workspace: Any = None
        if plan.workspace and WORKSPACE not in call.parts:
            self._workspace = arrays.empty((plan.workspace,), "u8", "torch", packer.context.ordinal)
            addresses[WORKSPACE] = self._workspace.data_ptr()
        addresses.setdefault(WORKSPACE, 0)
        self._launches = Launches(packer, plan, addresses, call.scalars)

    def __call__(self, stream: object | None) -> None:
        check_fork()
        if stream is not None:
            handle = cuda.stream_handle(stream)
        elif self._stream is not None:
            handle = self._stream
        else:
            handle = cuda.torch_stream(self._context.ordinal)
        pushed = self._context.activate()
        try:
            self._launches.run(handle)
        finally:
            if pushed:
                self._context.deactivate()


class HostCall:
    """A call on numpy arrays: device memory for its duration, inputs copied in, outputs copied out, then done."""

    __slots__ = ("_call", "_packer", "_plan", "_stream")

    def __init__(self, packer: CallPacker, call: Call, plan: Resolved, stream: object | None) -> None:
        self._packer = packer
        self._call = call
        self._plan = plan
        self._stream = _PER_THREAD_STREAM if stream is None else cuda.stream_handle(stream)

    def __call__(self, stream: object | None) -> None:
        check_fork()
        handle = self._stream if stream is None else cuda.stream_handle(stream)
        with self._packer.context.current():
            memory = _DeviceMemory(handle)
            try:
                self._run(memory, handle)
            except BaseException:
                memory.release()
                raise
            memory.free()

    def _run(self, memory: _DeviceMemory, handle: int) -> None:
        cu = driver()
        parts = {name: v for name, v in self._call.parts.items() if name != WORKSPACE}
        written = set(self._call.written)
        addresses = {name: memory.allocate(v.nbytes) for name, v in parts.items()}
        addresses[WORKSPACE] = memory.allocate(self._plan.workspace)
        read_first = self._read_before_written()
        for name, v in parts.items():
            if v.nbytes and (name not in written or name in read_first):
                check(cu.cuMemcpyHtoDAsync(addresses[name], v.address, v.nbytes, handle), "cuMemcpyHtoDAsync")
        Launches(self._packer, self._plan, addresses, self._call.scalars).run(handle)
        for name in written:
            v = self._call.parts[name]
            if v.nbytes and name in parts:
                check(cu.cuMemcpyDtoHAsync(v.address, addresses[name], v.nbytes, handle), "cuMemcpyDtoHAsync")
        check(cu.cuStreamSynchronize(handle), "running the kernel")

    def _read_before_written(self) -> set[str]:
        """The buffers of `inout` arguments."""
        inputs = self._call.inout
        return {name for name in self._call.written if name.partition(".")[0] in inputs}


class _DeviceMemory:
    """Stream-ordered allocations that are freed together."""

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._held: list[Any] = []

    def allocate(self, nbytes: int) -> int:
        """The address of at least `nbytes` bytes; 0 for none."""
        if nbytes == 0:
            return 0
        pointer = check(driver().cuMemAllocAsync(nbytes, self._stream), f"allocating {nbytes} bytes on the GPU")
        self._held.append(pointer)
        return int(pointer)

    def free(self) -> None:
        """Give all of it back in stream order."""
        for result in self.release():
            check(result, "cuMemFreeAsync")

    def release(self) -> list[Any]:
        """Give all of it back and return CUDA's answers: after a failed kernel they repeat its error."""
        results = [driver().cuMemFreeAsync(pointer, self._stream) for pointer in self._held]
        self._held.clear()
        return results
