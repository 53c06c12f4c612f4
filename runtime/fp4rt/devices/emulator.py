"""The device "emulator": runs the artifact's PTX on `fp4emu`, with the manifest, maps and parameters a GPU would get.

Inputs are copied to the emulated GPU and outputs back. Outputs start out unwritten, so a byte that the kernel leaves
out is reported.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fp4rt import arrays
from fp4rt.errors import ArtifactError, DeviceError, KernelFault
from fp4rt.limits import MAX_EMULATED_CTAS, Deadline, check_memory
from fp4rt.listing import ListRun, over_lists, record_bytes
from fp4rt.plan import WORKSPACE

if TYPE_CHECKING:
    from fp4emu.gpu import Gpu, Planned
    from fp4emu.recording import Recording
    from fp4emu.tensormap import TensorMap
    from fp4rt.artifact import Artifact
    from fp4rt.devices.base import Launcher
    from fp4rt.resolve import Resolved, ResolvedInit, ResolvedLaunch, ResolvedMap
    from fp4rt.signature import Call

#: SMs of the GPU that persistent grids see: a B200's.
DEFAULT_SMS = 148


class EmulatorDevice:
    """An emulated GPU.

    `mode` says when asynchronous operations complete: "immediate", or "delayed" by a random time from `seed`. `sms`
    bounds persistent grids: few make each cluster take many tiles. `memory_limit` is the bytes of the GPU's memory
    (None: what this machine has), `time_limit` the seconds that a call may take (None: any): beyond them, a call ends
    with DeviceError FP6120 or FP6121. `order` "strict" or "default" has every launch prove that its accesses are
    ordered (docs/emulator.md, "Order"), with the levels of `checks` where they differ; `warnings` are what the launches
    since have only warned of, each once. `record` gives for each launch what it is recorded in, and how many clusters a
    persistent grid may have; outputs of a launch that runs in part are zeros where nothing wrote.

    Launches that may begin before the end of those before them run a second time in the same memory, where a call may:
    so that the first of them has one before it. With an `order` each is judged against the one before; with `overlap`
    they do begin before its end, and no order is judged.
    """

    name = "emulator"

    def __init__(
        self,
        ordinal: int | None = None,
        *,
        mode: Literal["immediate", "delayed"] = "immediate",
        seed: int = 0,
        sms: int = DEFAULT_SMS,
        memory_limit: int | None = None,
        time_limit: float | None = None,
        order: Literal["strict", "default"] | None = None,
        checks: Mapping[str, Literal["fault", "warn", "off"]] | None = None,
        record: Callable[[ResolvedLaunch], tuple[Recording, int]] | None = None,
        overlap: bool = False,
    ) -> None:
        if ordinal:
            raise DeviceError(f"there is one emulator, not emulator:{ordinal}", code="FP6301")
        try:
            import fp4emu  # noqa: F401  # pyright: ignore[reportUnusedImport]
        except ImportError as error:
            raise DeviceError(f"the emulator is not installed: {error}", help="pip install fp4cc") from error
        self.mode: Literal["immediate", "delayed"] = mode
        self.seed = seed
        self.sms = sms
        self.memory_limit = memory_limit
        self.time_limit = time_limit
        self.order: Literal["strict", "default"] | None = order
        self.checks: dict[str, Literal["fault", "warn", "off"]] = dict(checks or {})
        self.warnings: dict[str, None] = {}
        self.record = record
        self.overlap = overlap

    def supports(self, target: str) -> bool:
        """Whether the emulator has the target's instructions."""
        from fp4emu.gpu import TARGETS

        return target in TARGETS

    def load(self, artifact: Artifact) -> EmulatorExecutable:
        """Parse the PTX; ArtifactError FP6006 where it cannot be loaded or is for another target."""
        if not artifact.manifest.modules():
            raise DeviceError(
                f"{artifact.manifest.name} was not compiled: it has a typed kernel, but no launches",
                help="compile it, or use device='reference'",
            )
        if not self.supports(artifact.manifest.target):
            raise ArtifactError(f"the emulator has no {artifact.manifest.target}", code="FP6007")
        return EmulatorExecutable(artifact, self)


class EmulatorExecutable:
    """An artifact's modules on one emulated GPU. Runs one call at a time."""

    memory: int | None = None

    def __init__(self, artifact: Artifact, device: EmulatorDevice) -> None:
        from fp4emu.errors import Fault
        from fp4emu.gpu import Gpu

        self._sms = device.sms
        self._memory_limit, self._time_limit = device.memory_limit, device.time_limit
        self._name = artifact.manifest.name
        self._device = device
        self._lock = threading.Lock()
        self._gpu: Gpu = Gpu(artifact.manifest.target, mode=device.mode, seed=device.seed)
        self._modules: dict[str, Any] = {}
        for module in artifact.manifest.modules():
            try:
                self._modules[module] = self._gpu.load(artifact.ptx(module))
            except Fault as fault:
                raise ArtifactError(f"the emulator does not load {module}.ptx: {fault}", code="FP6006") from fault

    def allocating(self, call: Call, stream: object | None) -> AbstractContextManager[object]:
        """Host memory needs no care."""
        return nullcontext()

    def bind(self, call: Call, plan: Resolved, stream: object | None) -> Launcher:
        """A launcher that runs the call each time; streams mean nothing here."""
        return lambda _stream: self._run(call, plan)

    def bind_many(self, problems: Sequence[tuple[Call, Resolved]], stream: object | None, *, again: bool) -> ListRun:
        """The same for a list of problems."""
        return ListRun(lambda: self._run_many(problems), self.launches_of([plan for _, plan in problems]))

    def _run(self, call: Call, plan: Resolved) -> None:
        def run(places: list[dict[str, int]], deadline: Deadline) -> None:
            (addresses,) = places
            self._copy_in(call, plan, addresses)
            self._launches(call, plan, addresses, deadline)
            if self._device.record is None:
                self._check_kept(plan, addresses)
            self._copy_out(call, addresses)

        self._guarded([(call, plan)], run)

    def _run_many(self, problems: Sequence[tuple[Call, Resolved]]) -> None:
        def run(places: list[dict[str, int]], deadline: Deadline) -> None:
            for (call, plan), addresses in zip(problems, places, strict=True):
                self._copy_in(call, plan, addresses)
            self._launch_lists(problems, places, deadline)
            for (call, plan), addresses in zip(problems, places, strict=True):
                self._check_kept(plan, addresses)
                self._copy_out(call, addresses)

        self._guarded(problems, run)

    def launches_of(self, plans: Sequence[Resolved]) -> int:
        """How many kernels a list of problems launches."""
        return len(over_lists(plans, lambda _number, _launch: b"", self._clusters))

    def _clusters(self, _plan: Resolved, launch: ResolvedLaunch) -> int:
        return max(1, self._sms // (launch.cluster[0] * launch.cluster[1] * launch.cluster[2]))

    def _launch_lists(
        self, problems: Sequence[tuple[Call, Resolved]], places: Sequence[Mapping[str, int]], deadline: Deadline
    ) -> None:
        """The launches of a list, with the tables that they read in memory of their own."""
        from fp4emu.gpu import Planned

        def encoded(m: ResolvedMap, address: int) -> bytes:
            found = _tensor_map(m, {m.source: address - m.byte_offset})
            return found if isinstance(found, bytes) else found.encode()

        def record(number: int, launch: ResolvedLaunch) -> bytes:
            call, plan = problems[number]
            return record_bytes(launch, plan.tensor_maps, places[number], call.scalars, encoded)

        for one in over_lists([plan for _, plan in problems], record, self._clusters):
            launch = one.launch
            _check_grid(launch, one.grid)
            deadline.check(f"emulating {launch.entry}")
            table = self._gpu.alloc(len(one.table))
            try:
                self._gpu.write(table, one.table)
                params: list[bytes | TensorMap] = [struct.pack("<Q", table + x) for x in (0, len(one.records))]
                module = self._modules[launch.over_list]
                planned = Planned(module, launch.entry, one.grid, launch.block, launch.cluster, launch.smem, params)
                self._launch(planned, False, deadline, None)
            finally:
                self._gpu.free(table)

    def _guarded(
        self,
        problems: Sequence[tuple[Call, Resolved]],
        run: Callable[[list[dict[str, int]], Deadline], None],
    ) -> None:
        """Run what fills in where the buffers of each problem lie, which are freed; faults get the runtime's names."""
        from fp4emu.errors import Fault, TimeOver

        # The memory lies there twice: the caller's arrays, and the GPU's with a byte of state for each of its own.
        needed = 3 * sum(sum(v.nbytes for v in call.parts.values()) + plan.workspace for call, plan in problems)
        check_memory(needed, self._memory_limit, f"emulating {self._name}")
        deadline = Deadline(self._time_limit)
        with self._lock:
            places: list[dict[str, int]] = [{} for _ in problems]
            try:
                run(places, deadline)
            except TimeOver as over:
                raise DeviceError(
                    f"emulating {self._name} did not end within {self._time_limit:g} s: {over}",
                    code="FP6121",
                    help="call it with smaller sizes, or give the device a larger time_limit",
                ) from over
            except Fault as fault:
                raise KernelFault(str(fault)) from fault
            finally:
                for address in (address for addresses in places for address in addresses.values()):
                    self._gpu.free(address)

    def _copy_in(self, call: Call, plan: Resolved, addresses: dict[str, int]) -> None:
        gpu = self._gpu
        for name, v in call.parts.items():
            if name == WORKSPACE or not call.needs(name, plan.takes):
                continue
            addresses[name] = gpu.alloc(max(v.nbytes, 1))
            if v.nbytes and call.copied_in(name):
                gpu.write(addresses[name], arrays.host_bytes(v))
            elif v.nbytes and self._device.record is not None:
                gpu.write(addresses[name], np.zeros(v.nbytes, np.uint8))
        addresses[WORKSPACE] = gpu.alloc(max(plan.workspace, 1))
        if plan.workspace and self._device.record is not None:
            gpu.write(addresses[WORKSPACE], np.zeros(plan.workspace, np.uint8))
        self._fill(plan.init, addresses)

    def _fill(self, fills: Sequence[ResolvedInit], addresses: Mapping[str, int]) -> None:
        for init in fills:
            pattern = np.full(init.count, init.value, f"<u{init.width}")
            self._gpu.write(addresses[init.source] + init.byte_offset, pattern.view(np.uint8))

    def _twice(self, call: Call, plan: Resolved) -> bool:
        """Whether the call runs again, to begin before its own end: see `EmulatorDevice`."""
        judged = self._device.order is not None or self._device.overlap
        same = not any(call.copied_in(name) for name in call.written if name != WORKSPACE)
        return judged and same and self._device.record is None and any(launch.dependent for launch in plan.launches)

    def _check_kept(self, plan: Resolved, addresses: Mapping[str, int]) -> None:
        """KernelFault for a word that the kernels should have left as they found it."""
        for init in plan.init:
            if not (init.kept and init.count):
                continue
            content = self._gpu.read(addresses[init.source] + init.byte_offset, init.count * init.width)
            found = np.frombuffer(content, f"<u{init.width}")
            changed = np.flatnonzero(found != init.value)
            if changed.size:
                first = int(changed[0])
                raise KernelFault(
                    f"the kernel left {found[first]} in word {first} of {init.source} + {init.byte_offset}, where the "
                    f"next launch needs {init.value}"
                )

    def _copy_out(self, call: Call, addresses: Mapping[str, int]) -> None:
        from fp4emu.errors import Fault

        for name in call.written:
            v = call.parts[name]
            if name == WORKSPACE or not v.nbytes:
                continue
            try:
                content = self._gpu.read(addresses[name], v.nbytes)
            except Fault as fault:
                raise KernelFault(f"the kernel did not write all of {name!r} ({v.nbytes} bytes): {fault}") from fault
            arrays.host_bytes(v)[:] = np.frombuffer(content, np.uint8)

    def _launches(self, call: Call, plan: Resolved, addresses: Mapping[str, int], deadline: Deadline) -> None:
        """Those of a call, in order, once or twice; those that may begin early together."""
        launches = [launch for launch in plan.launches if not launch.empty]
        fills = [init for init in plan.init if init.count and not init.kept]
        together: list[Planned] = []
        for number, launch in enumerate(launches * (1 + self._twice(call, plan))):
            if fills and number == len(launches):
                self._together(together, deadline)
                self._fill(fills, addresses)
            deadline.check(f"emulating {launch.entry}")
            recording = None
            if self._device.record is not None:
                recording, places = self._device.record(launch)
            else:
                places = self._clusters(plan, launch)
            planned = self._planned(launch, plan, call.scalars, addresses, places, limited=recording is None)
            if not self._device.overlap:
                self._launch(planned, launch.dependent, deadline, recording)
                continue
            if not launch.dependent:
                self._together(together, deadline)
            together.append(planned)
        self._together(together, deadline)

    def _together(self, launches: list[Planned], deadline: Deadline) -> None:
        """Run them and empty the list."""
        if launches:
            self._gpu.launch_overlapped(launches, seconds=deadline.left)
        launches.clear()

    def _planned(
        self, launch: ResolvedLaunch, plan: Resolved, scalars: Mapping[str, float], addresses: Mapping[str, int],
        places: int, *, limited: bool,
    ) -> Planned:  # fmt: skip
        """A launch as the emulator takes it, with at most so many clusters of a persistent grid."""
        from fp4emu.gpu import Planned

        grid = launch.grid_for(places)
        if limited:
            _check_grid(launch, grid)
        maps = {m.name: m for m in plan.tensor_maps}
        params: list[bytes | TensorMap] = []
        for p in launch.params:
            if p.kind == "tensor_map":
                params.append(_tensor_map(maps[p.source], addresses))
            elif p.kind == "pointer":
                params.append(struct.pack("<Q", addresses[p.source] + p.byte_offset))
            elif p.kind == "f32":
                params.append(struct.pack("<f", scalars[p.source]))
            else:
                params.append(struct.pack("<i" if p.kind == "i32" else "<q", p.value))
        module = self._modules[launch.module]
        return Planned(module, launch.entry, grid, launch.block, launch.cluster, launch.smem, params)

    def _launch(self, one: Planned, dependent: bool, deadline: Deadline, recording: Recording | None) -> None:
        try:
            self._gpu.launch(
                one.module,
                one.entry,
                one.grid,
                one.block,
                cluster=one.cluster,
                shared_bytes=one.shared_bytes,
                params=one.params,
                seconds=deadline.left,
                order=self._device.order,
                checks=self._device.checks,
                record=recording,
                dependent=dependent,
            )
        finally:
            self._device.warnings.update(dict.fromkeys(self._gpu.warnings))


def _check_grid(launch: ResolvedLaunch, grid: tuple[int, int, int]) -> None:
    if math.prod(grid) > MAX_EMULATED_CTAS:
        raise DeviceError(
            f"{launch.entry} has a grid of {grid}: the emulator runs up to {MAX_EMULATED_CTAS} CTAs a launch",
            code="FP6121",
            help="call it with smaller sizes",
        )


def unknown_check(name: str, level: str) -> str:
    """What is wrong with a check of order or with a level for it (docs/emulator.md, "Order"); "" if nothing is."""
    from fp4emu.errors import Fault
    from fp4emu.order.checks import levels

    try:
        levels("strict", {name: level})  # type: ignore[dict-item]
    except Fault as wrong:
        return f"{wrong.message}: {wrong.hint}"
    return ""


def _tensor_map(m: ResolvedMap, addresses: Mapping[str, int]) -> bytes | TensorMap:
    from fp4emu.tensormap import DataType, L2Promotion, OobFill, Swizzle, TensorMap

    if not m.active:
        return bytes(128)
    swizzles = {"none": Swizzle.NONE, "32B": Swizzle.B32, "64B": Swizzle.B64, "128B": Swizzle.B128}
    promotions = {"none": L2Promotion.NONE, "64B": L2Promotion.B64, "128B": L2Promotion.B128, "256B": L2Promotion.B256}
    return TensorMap(
        DataType[m.dtype],
        addresses[m.source] + m.byte_offset,
        m.dims,
        m.strides,
        m.box,
        m.element_strides,
        swizzle=swizzles[m.swizzle],
        l2=promotions[m.l2],
        oob_fill=OobFill.NAN if m.fill == "nan" else OobFill.ZERO,
    )
