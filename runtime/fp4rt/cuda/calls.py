"""Packing and launching one call. A bound call is a block of parameters of its own and one driver call a launch."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from fp4rt import arrays
from fp4rt.cuda import driver as cuda
from fp4rt.cuda.blocks import Block, Template
from fp4rt.cuda.driver import Context, check, check_fork, driver
from fp4rt.cuda.module import Entry
from fp4rt.manifest import Launch, Manifest
from fp4rt.plan import WORKSPACE, over_list
from fp4rt.resolve import Resolved, ResolvedMap
from fp4rt.signature import Call

#: CU_STREAM_PER_THREAD: calls with numpy arrays from several threads do not wait for each other.
PER_THREAD_STREAM = 2
_MAX_TEMPLATES = 1024


class CallPacker:
    """What all calls of one loaded artifact share: its entries, and a template for each set of sizes."""

    def __init__(self, manifest: Manifest, entries: Mapping[Launch, Entry], context: Context) -> None:
        self.context = context
        plans = manifest.plans()
        self._entries = {name: [entries[x] for x in plan.launches] for name, plan in plans.items()}
        #: Of each launch of each plan the kernel for lists of problems, where there is one.
        self.over_lists = {
            (name, i): entries[over_list(x)]
            for name, plan in plans.items()
            for i, x in enumerate(plan.launches)
            if x.many is not None
        }
        self._maps: dict[ResolvedMap, bytes] = {}
        self._templates: dict[tuple[object, ...], Template] = {}

    def template(self, plan: Resolved, parts: tuple[str, ...], params: tuple[str, ...]) -> Template:
        """How the parameters of a plan lie in memory, for buffers and f32 params in this order."""
        key = (plan.variant, plan.key, parts, params)
        found = self._templates.get(key)
        if found is None:
            found = Template(plan, self._entries[plan.variant], self.context, parts, params, self._maps)
            if len(self._templates) >= _MAX_TEMPLATES:
                self._templates.clear()
            self._templates[key] = found
        return found

    def block(
        self, plan: Resolved, addresses: Mapping[str, int], scalars: Mapping[str, float]
    ) -> tuple[Template, list[int], Block]:
        """Parameters of a call of its own; ArgumentError for a buffer that does not lie as the kernel needs it."""
        template = self.template(plan, tuple(addresses), tuple(scalars))
        places = list(addresses.values())
        template.check(places)
        return template, places, template.block(places, list(scalars.values()))


class TensorCall:
    """A call on torch tensors: nothing is copied, allocated or waited for."""

    __slots__ = ("_addresses", "_block", "_call", "_run", "_stream", "_workspace", "template")

    def __init__(self, packer: CallPacker, call: Call, plan: Resolved, stream: object | None) -> None:
        self._call = call  # keeps the tensors alive
        self._stream = None if stream is None else cuda.stream_handle(stream)
        addresses = {name: v.address for name, v in call.parts.items()}
        self._workspace: Any = None
        if plan.workspace and WORKSPACE not in call.parts:
            self._workspace = arrays.empty((plan.workspace,), "u8", "torch", packer.context.ordinal)
            addresses[WORKSPACE] = self._workspace.data_ptr()
        addresses.setdefault(WORKSPACE, 0)
        self.template, self._addresses, self._block = packer.block(plan, addresses, call.scalars)
        self._run = self.template.again(self._block, self._addresses, False)

    def prepare(self) -> None:
        """For a call that is made many times. Waits once, if its workspace needs fills that do not need repeating: one
        of its own is used by nobody else, so that the kernels find in it what they have left."""
        own = self._workspace is not None and self.template.keeps
        if own and self.template.prepare(self._addresses, self._stream):
            self._run = self.template.again(self._block, self._addresses, True)

    def __call__(self, stream: object | None) -> None:
        self._run(self._stream if stream is None else stream)


class HostCall:
    """A call on numpy arrays: device memory for its duration, inputs copied in, outputs copied out, then done."""

    __slots__ = ("_call", "_packer", "_plan", "_stream")

    def __init__(self, packer: CallPacker, call: Call, plan: Resolved, stream: object | None) -> None:
        self._packer = packer
        self._call = call
        self._plan = plan
        self._stream = PER_THREAD_STREAM if stream is None else cuda.stream_handle(stream)

    def __call__(self, stream: object | None) -> None:
        check_fork()
        handle = self._stream if stream is None else cuda.stream_handle(stream)
        with self._packer.context.current(), device_memory(handle) as memory:
            self._run(memory, handle)

    def _run(self, memory: DeviceMemory, handle: int) -> None:
        addresses = copy_in(memory, self._call, self._plan, handle)
        template, places, block = self._packer.block(self._plan, addresses, self._call.scalars)
        template.queue(places, (), handle, block)
        copy_out(self._call, addresses, handle)
        check(driver().cuStreamSynchronize(handle), "running the kernel")


def copy_in(memory: DeviceMemory, call: Call, plan: Resolved, handle: int) -> dict[str, int]:
    """Where the buffers of a call on numpy arrays lie on the device; what it reads is copied there."""
    cu = driver()
    parts = {n: v for n, v in call.parts.items() if n != WORKSPACE and call.needs(n, plan.takes)}
    addresses = {name: memory.allocate(v.nbytes) for name, v in parts.items()}
    addresses[WORKSPACE] = memory.allocate(plan.workspace)
    for name, v in parts.items():
        if v.nbytes and call.copied_in(name):
            check(cu.cuMemcpyHtoDAsync(addresses[name], v.address, v.nbytes, handle), "cuMemcpyHtoDAsync")
    return addresses


def copy_out(call: Call, addresses: Mapping[str, int], handle: int) -> None:
    """Queue the copies of what a call has written."""
    cu = driver()
    for name in call.written:
        v = call.parts[name]
        if v.nbytes and name in addresses:
            check(cu.cuMemcpyDtoHAsync(v.address, addresses[name], v.nbytes, handle), "cuMemcpyDtoHAsync")


class DeviceMemory:
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


@contextmanager
def device_memory(stream: int) -> Generator[DeviceMemory]:
    """Allocations for the duration of a call; of one that has failed nothing more is asked."""
    memory = DeviceMemory(stream)
    try:
        yield memory
    except BaseException:
        memory.release()
        raise
    memory.free()
