"""The public face of the emulator."""

from __future__ import annotations

import operator
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from fp4emu.asynchronous import Mode
from fp4emu.errors import Fault, PtxError
from fp4emu.grid import Extent, Triple
from fp4emu.isa import load_families
from fp4emu.launch import MAX_SHARED, Configuration, Launch
from fp4emu.memory import GLOBAL_BASE, READ_ONLY, GlobalMemory
from fp4emu.order import launches
from fp4emu.order.checks import Level, Order, levels
from fp4emu.overlapped import run_overlapped
from fp4emu.program import Program
from fp4emu.ptx import parse
from fp4emu.ptx.inline import inline
from fp4emu.ptx.tree import Function, Module, Variable
from fp4emu.recording import Recording
from fp4emu.symbols import Symbols

TARGETS = ("sm_90a", "sm_100a", "sm_103a", "sm_120a")


@runtime_checkable
class Encodable(Protocol):
    """A parameter that makes its own bytes, as `fp4emu.TensorMap` does."""

    def encode(self) -> bytes: ...


@dataclass(slots=True)
class LoadedModule:
    """A module whose variables are in the GPU's memory. `entries` are the names that `launch` takes."""

    tree: Module
    addresses: dict[str, int]
    programs: dict[tuple[str, bool, bool], Program] = field(default_factory=dict["tuple[str, bool, bool]", Program])

    def __repr__(self) -> str:
        return f"<fp4emu module for {self.tree.target}: {', '.join(self.entries) or 'no entries'}>"

    @property
    def entries(self) -> tuple[str, ...]:
        return tuple(name for name, function in self.tree.functions.items() if function.entry and function.defined)

    def program(self, entry: str, *, observed: bool = False, recorded: bool = False) -> Program:
        """An entry, ready to run; `observed`, for a launch whose order of accesses is watched, `recorded`, for one that
        is recorded."""
        function = self.tree.functions.get(entry)
        if function is None or not function.entry:
            raise Fault(f"the module has no entry {entry}", hint=f"it has: {', '.join(self.entries) or 'none'}")
        key = (entry, observed, recorded)
        if key not in self.programs:
            function = inline(self.tree, function)
            symbols = Symbols.build(self.tree, function, self.addresses)
            self.programs[key] = Program.build(function, symbols, observed=observed, recorded=recorded)
        return self.programs[key]


@dataclass(frozen=True, slots=True)
class Planned:
    """A launch of `Gpu.launch_overlapped`, as `Gpu.launch` takes it."""

    module: LoadedModule
    entry: str
    grid: Sequence[int]
    block: Sequence[int]
    cluster: Sequence[int] = (1, 1, 1)
    shared_bytes: int = 0
    params: Sequence[Encodable | bytes | bytearray | memoryview] = ()


class Gpu:
    """One emulated GPU: memory, loaded modules, launches. Not thread-safe.

    `target` is the architecture ("sm_90a", "sm_100a"); `mode` and `seed` say when asynchronous operations complete
    (`fp4emu.asynchronous`);
    `lockstep` how far warps run together (`fp4emu.launch.Configuration`): it changes speed and interleaving, never a
    correct kernel's result.
    """

    def __init__(
        self, target: str = "sm_100a", *, mode: Mode = "immediate", seed: int = 0, lockstep: str | None = None
    ) -> None:
        if target not in TARGETS:
            raise Fault(f"unknown target {target}", hint=f"emulated: {', '.join(TARGETS)}")
        if mode not in ("immediate", "delayed"):
            raise Fault(f"unknown mode {mode!r}", hint='"immediate" or "delayed"')
        load_families()
        self.target = target
        self.memory = GlobalMemory()
        self.warnings: tuple[str, ...] = ()
        self.printed = ""
        """What the threads of the last launch printed."""
        self._before: launches.Accesses | None = None
        self.configuration = Configuration(mode, seed, lockstep or ("grid" if mode == "immediate" else "warp"))

    def __repr__(self) -> str:
        return f"<fp4emu GPU {self.target}, {self.configuration.mode}, seed {self.configuration.seed}>"

    def alloc(self, size: int) -> int:
        """Address of `size` fresh bytes, 512-byte aligned. Reading them before they are written is a fault."""
        return self.memory.allocate(_whole(size, "the size of an allocation"))

    def free(self, address: int) -> None:
        self._before = None
        self.memory.free(address)

    def write(self, address: int, data: bytes | bytearray | memoryview | np.ndarray[Any, Any]) -> None:
        """Copies host bytes to the GPU, once the launch before is over."""
        self._before = None
        raw = np.ascontiguousarray(data).view(np.uint8).reshape(-1) if isinstance(data, np.ndarray) else data
        self.memory.write(address, raw)

    def read(self, address: int, size: int) -> bytes:
        """Copies GPU bytes to the host; a byte that was never written is a fault. Launches so far are over then."""
        self._before = None
        return self.memory.read(address, size)

    def load(self, text: str | bytes) -> LoadedModule:
        """Parses PTX and places its variables. `PtxError` names the line of what is not understood."""
        if isinstance(text, bytes):
            text = text.rstrip(b"\0").decode()
        tree = parse(text.rstrip("\0"), self.target)
        if not runs_on(tree.target, self.target):
            raise PtxError(
                f"the module is for {tree.target}, the GPU is {self.target}",
                hint="a target with the suffix a runs on that architecture only, one with f on its family",
            )
        addresses: dict[str, int] = {}
        placed = [*tree.variables.values(), *(v for f in tree.functions.values() for v in f.variables.values())]
        variables = [v for v in placed if v.space in ("global", "const")]
        for variable in variables:
            if variable.extern:
                raise PtxError(f"{variable.name} is extern: modules are not linked")
            addresses[variable.name] = self.memory.allocate(variable.size, alignment=max(variable.alignment, 16))
        for variable in variables:
            self._initialise(variable, addresses)
        return LoadedModule(tree, addresses)

    def _initialise(self, variable: Variable, addresses: dict[str, int]) -> None:
        data = bytearray(variable.initial if variable.initial is not None else bytes(variable.size))
        for offset, symbol, addend, width in variable.relocations:
            if symbol not in addresses:
                raise PtxError(f"the initialiser of {variable.name} names {symbol}, which is no variable of the module")
            data[offset : offset + width] = (addresses[symbol] + addend).to_bytes(width, "little")
        self.memory.write(addresses[variable.name], bytes(data))

    def launch(
        self,
        module: LoadedModule,
        entry: str,
        grid: Sequence[int],
        block: Sequence[int],
        *,
        cluster: Sequence[int] = (1, 1, 1),
        shared_bytes: int = 0,
        params: Sequence[Encodable | bytes | bytearray | memoryview] = (),
        seconds: float | None = None,
        order: Order | None = None,
        checks: Mapping[str, Level] | None = None,
        record: Recording | None = None,
        dependent: bool | None = None,
    ) -> None:
        """Runs a kernel to its end, or for `seconds`.

        `params` are the bytes of the entry's parameters in order, a `TensorMap` (or its 128 bytes) for a tensor map.
        `shared_bytes` is the dynamic
        shared memory. With `order` "strict" or "default" the launch proves that its accesses are ordered
        (`fp4emu.order`); what it only warns of is in `warnings` afterwards. `checks` changes the levels of checks by
        name ("fault", "warn", "off"). `record` is filled with what each warp does, and may have only some clusters run.
        `dependent`: the launch may begin while the one before still runs (programmatic dependent launch), so that what
        it does before `griddepcontrol.wait` is not ordered after that one; None: where the entry waits so.
        Raises `Fault`, `Deadlock` or `TimeOver`.
        """
        if order is not None:
            levels(order, checks)
        program = module.program(entry, observed=order is not None, recorded=record is not None)
        self.printed = ""
        planned = Planned(module, entry, grid, block, cluster, shared_bytes, params)
        launch, own = self._prepared(program, planned)
        observer, function = None, program.function
        try:
            if record is not None:
                launch.record(record)
            observer = launch.observe(order, checks) if order is not None else None
            before, self._before = self._before, None
            if observer is not None and before is not None:
                observer.dependent = launches.depends(function) if dependent is None else dependent
            if observer is not None and before is not None and observer.dependent:
                launches.follow(observer, before, own)
            launch.run(_deadline(seconds))
            if observer is not None:
                self._before = launches.Accesses.of(observer, launch.machine.dependency)
        finally:
            self.warnings = () if observer is None else tuple(observer.warnings)
            if observer is not None:
                observer.ended()
            self.printed = launch.printed
            self.memory.touch = None
            self.memory.free(launch.grid.param_address)

    def launch_overlapped(self, planned: Sequence[Planned], *, seconds: float | None = None) -> None:
        """Runs launches, of which each but the first depends on the one before: it begins once each CTA of that one has
        executed `griddepcontrol.launch_dependents` or has ended, and `griddepcontrol.wait` ends when that one has.

        In the mode "immediate" each goes as far as it can before those in front of it go on, in "delayed" turns are
        drawn. What they touch too early they find as it is then; that nothing of it is unordered, whatever the timing,
        is what `launch` with an `order` proves, one launch after the other. Raises as `launch` does.
        """
        self._before = None
        ready: list[Launch] = []
        chooser = random.Random(self.configuration.seed) if self.configuration.mode == "delayed" else None
        try:
            for each in planned:
                ready.append(self._prepared(each.module.program(each.entry), each)[0])
            run_overlapped(ready, chooser, _deadline(seconds))
        finally:
            self.printed = "".join(launch.printed for launch in ready)
            for launch in ready:
                self.memory.free(launch.grid.param_address)

    def _prepared(self, program: Program, planned: Planned) -> tuple[Launch, slice]:
        """A launch with its parameters in memory, and where these lie."""
        function = program.function
        g, b, c = (_triple(getattr(planned, name), name) for name in ("grid", "block", "cluster"))
        shared = _whole(planned.shared_bytes, "shared_bytes")
        self._check(function, program, g, b, c, shared)
        packed = self._pack(function, program.symbols, planned.params)
        address = self.memory.allocate(max(len(packed), 1), alignment=64)
        self.memory.write(address, packed)
        own = slice(address - GLOBAL_BASE, address - GLOBAL_BASE + len(packed))
        self.memory.state[own] |= READ_ONLY
        try:
            extent = Extent(g, b, c, shared)
            return Launch(program, self.memory, self.target, extent, address, self.configuration), own
        except BaseException:
            self.memory.free(address)
            raise

    def _check(
        self, function: Function, program: Program, grid: Triple, block: Triple, cluster: Triple, shared: int
    ) -> None:
        threads = block[0] * block[1] * block[2]
        if not 1 <= threads <= 1024:
            raise Fault(f"a block of {threads} threads; it must be 1 to 1024")
        if block[2] > 64 or grid[0] > 2**31 - 1 or max(grid[1:]) > 65535:
            raise Fault(f"grid {grid}, block {block}: at most 2147483647 x 65535 x 65535 blocks, 64 threads along z")
        if function.required_block is not None and block != function.required_block:
            raise Fault(
                f"{function.name} requires blocks of {function.required_block} (.reqntid), the launch has {block}"
            )
        if (
            function.max_block is not None
            and threads > function.max_block[0] * function.max_block[1] * function.max_block[2]
        ):
            raise Fault(
                f"{function.name} allows blocks of at most {function.max_block} (.maxntid), the launch has {block}"
            )
        if function.required_cluster is not None and cluster != function.required_cluster:
            raise Fault(
                f"{function.name} requires clusters of {function.required_cluster} (.reqnctapercluster), "
                f"the launch has {cluster}"
            )
        if any(n % m for n, m in zip(grid, cluster, strict=True)):
            raise Fault(f"the grid {grid} is not a multiple of the cluster {cluster}")
        if cluster[0] * cluster[1] * cluster[2] > 16:
            raise Fault(f"a cluster of {cluster} has more than 16 CTAs")
        if program.symbols.static_shared + shared > MAX_SHARED + 1024:
            raise Fault(f"{program.symbols.static_shared - 1024 + shared} bytes of shared memory exceed {MAX_SHARED}")

    def _pack(
        self, function: Function, symbols: Symbols, params: Sequence[Encodable | bytes | bytearray | memoryview]
    ) -> bytes:
        if len(params) != len(function.params):
            raise Fault(f"{function.name} takes {len(function.params)} parameters, {len(params)} were given")
        packed = bytearray(symbols.param_bytes)
        for variable, value in zip(function.params, params, strict=True):
            try:
                raw = value.encode() if isinstance(value, Encodable) else memoryview(value).tobytes()
            except TypeError:  # a number has no size
                hint = f"number.to_bytes({variable.size}, 'little'), struct.pack, or a TensorMap"
                raise Fault(f"parameter {variable.name} is {value!r}, not bytes", hint=hint) from None
            if len(raw) != variable.size:
                raise Fault(f"parameter {variable.name} has {variable.size} bytes, {len(raw)} were given")
            offset = symbols.params[variable.name][0]
            packed[offset : offset + variable.size] = raw
        return bytes(packed)


def runs_on(target: str, gpu: str) -> bool:
    """Whether PTX for a `.target` may run on an architecture (PTX ISA 11.1.2): sm_90 on later ones, sm_100f on 10x."""
    found, own = re.fullmatch(r"sm_(\d+)([af]?)", target), re.fullmatch(r"sm_(\d+)a", gpu)
    if target == gpu or found is None or own is None:
        return target == gpu
    number, suffix = int(found[1]), found[2]
    if suffix == "f":
        return number // 10 == int(own[1]) // 10 and number <= int(own[1])
    return not suffix and number <= int(own[1])


def _deadline(seconds: float | None) -> float | None:
    """The monotonic clock in so many seconds."""
    return None if seconds is None else time.monotonic() + seconds


def _triple(numbers: Sequence[int], what: str) -> Triple:
    try:
        given = tuple(operator.index(n) for n in numbers)
    except TypeError:
        raise Fault(f"{what} {numbers!r} must be up to three positive numbers") from None
    padded = (*given, 1, 1)[:3]
    if len(given) > 3 or any(n < 1 for n in padded):
        raise Fault(f"{what} {given} must be up to three positive numbers")
    return padded[0], padded[1], padded[2]


def _whole(number: int, what: str) -> int:
    try:
        value = operator.index(number)
    except TypeError:
        value = -1
    if value < 0:
        raise Fault(f"{what} is {number!r}: it is a whole number, not negative")
    return value
