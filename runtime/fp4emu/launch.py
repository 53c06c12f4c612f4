"""One kernel launch: co-resident clusters, their warps, and the scheduler that runs groups until all have exited."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp4emu.asynchronous import AsyncQueue, Mode
from fp4emu.errors import Deadlock, Fault, TimeOver
from fp4emu.grid import Extent, Grid
from fp4emu.group import Group
from fp4emu.instruction import Operand, Symbol, Vector
from fp4emu.isa.barriers import warps_exited
from fp4emu.isa.register_pool import at_launch
from fp4emu.machine import Machine, WarpContext
from fp4emu.memory import GlobalMemory
from fp4emu.order import exits
from fp4emu.order.checks import Level, Order
from fp4emu.order.observer import Observer
from fp4emu.program import Program
from fp4emu.ptx.tree import Function
from fp4emu.recording import Recording
from fp4emu.special import WORKSPACE
from fp4emu.stuck import place_of, placed, stuck, waiting

MAX_SHARED = 232_448
"""Bytes of shared memory that a CTA may use (227 KiB) on sm_90 and sm_100."""
MAX_RESIDENT_CTAS = 148
RESIDENT_THREADS = 1 << 15
LIVELOCK_TURNS = 2000


@dataclass(frozen=True, slots=True)
class Configuration:
    """How to run: `mode` of asynchronous completion, `seed` of its delays and of the order of warps, `lockstep`
    "grid" (warps of all resident
    CTAs may form one group), "cta" or "warp"."""

    mode: Mode = "immediate"
    seed: int = 0
    lockstep: str = "grid"
    sm_count: int = 148


def reads_workspace(function: Function) -> bool:
    """Whether an entry asks the driver for the workspace of a cooperative launch, as cooperative groups' grid does."""
    symbols = (o for ins in function.body for operand in ins.operands for o in _symbols(operand))
    return any(name in WORKSPACE for name in symbols)


def _symbols(operand: Operand) -> list[str]:
    if isinstance(operand, Vector):
        return [name for item in operand.items for name in _symbols(item)]
    return [operand.name] if isinstance(operand, Symbol) else []


class Launch:
    """Runs an entry over a grid; the public entry point is `Gpu.launch`."""

    def __init__(
        self,
        program: Program,
        memory: GlobalMemory,
        target: str,
        extent: Extent,
        param_address: int,
        configuration: Configuration,
    ) -> None:
        self.program = program
        self.configuration = configuration
        self.machine = Machine(target, memory, AsyncQueue(configuration.mode, configuration.seed))
        self.grid = Grid(self.machine, program.symbols, extent, param_address, configuration.sm_count)
        self.grid.registers = at_launch(program.function)
        self.cooperative = reads_workspace(program.function)
        self.random = random.Random(configuration.seed)
        self.groups: list[Group] = []
        self.meeting: set[int] = set()
        self.deadline: float | None = None
        self._impatient = 0
        self._signature: Any = None
        self._turns_used_up = 0

    def observe(self, order: Order, changed: Mapping[str, Level] | None = None) -> Observer:
        """Has the launch prove that its accesses are ordered; `changed` are levels of checks that differ."""
        observer = self.machine.order = Observer(order, changed)
        return observer

    def record(self, recording: Recording) -> None:
        """Has the launch keep what its warps do."""
        self.machine.recording = recording
        recording.flow = self.program.flow
        recording.grid, recording.block, recording.cluster = self.grid.size, self.grid.block, self.grid.cluster
        recording.shared_bytes = self.grid.shared_size

    @property
    def printed(self) -> str:
        """What threads have printed so far, in the order of CTAs and threads."""
        return "".join(text for _, text in sorted(self.machine.printed, key=lambda entry: entry[0]))

    # --- what groups ask ---

    def add(self, group: Group) -> None:
        self.groups.append(group)

    def check_time(self) -> None:
        """`TimeOver` once the launch's time is over."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeOver("the time is over", place=place_of(self.groups[0]))

    def finish(self, group: Group) -> None:
        """All lanes of a group have exited."""
        for warp in group.warps:
            self.machine.clock.ticks += 1
            if self.machine.order is not None:
                exits.exited(self.machine.order, warp)
            warp.cta.live_warps.discard(warp.index)
            warps_exited(warp.cta)
            if not warp.cta.live_warps:
                self.machine.dependency.released.add(warp.cta.id)

    # --- running ---

    def run(self, deadline: float | None = None) -> None:
        """The whole grid, in waves of co-resident clusters; `TimeOver` once the monotonic clock shows `deadline`."""
        with np.errstate(all="ignore"):
            for _ in self.steps(deadline):
                pass

    def steps(self, deadline: float | None = None) -> Generator[bool]:
        """The same, a turn of one group at a time: True where all that is left waits for the launch before."""
        self.deadline = deadline
        grid = self.grid
        resident = max(grid.cluster_size, min(MAX_RESIDENT_CTAS, RESIDENT_THREADS // max(grid.threads, 1)))
        wave = max(1, resident // grid.cluster_size)
        if self.cooperative and math.prod(grid.size) > wave * grid.cluster_size:
            raise Fault(
                f"cooperative launch: the grid has {math.prod(grid.size)} CTAs, of which {wave * grid.cluster_size} "
                "are resident at once",
                hint="a kernel that synchronises its grid needs all of its CTAs resident: launch fewer",
            )
        grid.open(wave * grid.cluster_size, workspace=self.cooperative)
        try:
            yield from self._waves(wave)
        finally:
            grid.close()

    def _waves(self, wave: int) -> Generator[bool]:
        cx, cy, cz = self.grid.cluster
        nx, ny, nz = self.grid.size
        waiting = self.machine.waiting
        waiting.extend((x, y, z) for z in range(0, nz, cz) for y in range(0, ny, cy) for x in range(0, nx, cx))
        recording = self.machine.recording
        if recording is not None and recording.clusters is not None:
            waiting[:] = [waiting[i] for i in recording.clusters if i < len(waiting)]
        while waiting:
            first = [(x // cx, y // cy, z // cz) for x, y, z in waiting[:wave]]
            del waiting[:wave]
            yield from self._wave(first)

    def _wave(self, ids: list[tuple[int, int, int]]) -> Generator[bool]:
        grid = self.grid
        grid.clear()
        clusters = [grid.place_cluster(cluster_id) for cluster_id in ids]
        warps = [(cta, index) for cluster in clusters for cta in cluster.ctas for index in range(grid.warps_per_cta)]
        lockstep = self.configuration.lockstep
        parts: dict[Any, list[WarpContext]] = {}
        for cta, index in warps:
            partial = grid.threads % 32 and index == grid.warps_per_cta - 1
            key = {"grid": 0, "cta": id(cta), "warp": (id(cta), index)}[lockstep]
            warp = WarpContext(cta, index)
            if self.machine.recording is not None:
                warp.log = self.machine.recording.of(cta.id, index)
            parts.setdefault((key, bool(partial)), []).append(warp)
        for (_, partial), rows in parts.items():
            live = None
            if partial:
                live = np.zeros((len(rows), 32), np.bool_)
                live[:, : grid.threads % 32] = True
            self.groups.append(Group(grid, self.program, self, rows, live))
        yield from self._schedule()
        self.machine.queue.drain()
        for cluster in clusters:
            if self.machine.order is not None:
                exits.check(self.machine.order, cluster)
            for cta in cluster.ctas:
                for check in cta.at_exit:
                    check(cta)

    def _schedule(self) -> Generator[bool]:
        queue = self.machine.queue
        while self.groups:
            self.grid.turn += 1
            self.check_time()
            if queue.mode == "delayed":
                queue.tick()
            group = self._choose()
            if group is None:
                if queue.skip():
                    continue
                if not self.machine.dependency.over():
                    yield True
                    continue
                self._unstick()
                continue
            self._run(group)
            yield False

    def _choose(self) -> Group | None:
        """The runnable group at the lowest block (a random one in the mode "delayed"), after groups that met have
        merged."""
        runnable = [group for group in self.groups if _runnable(group)]
        if not runnable:
            return None
        if self.machine.queue.mode == "delayed":
            return self.random.choice(runnable)
        group = min(runnable, key=lambda g: (g.age, g.front().block))
        if len(self.groups) > 1 and group.mergeable():
            block = group.paths[0].block
            same = [
                g
                for g in self.groups
                if g is not group and g.paths[0].block == block and g.mergeable() and self._together(g, group)
            ]
            if same:
                for other in same:
                    self.groups.remove(other)
                group.absorb(same)
        return group

    def _together(self, a: Group, b: Group) -> bool:
        lockstep = self.configuration.lockstep
        return lockstep == "grid" or (lockstep == "cta" and a.warps[0].cta is b.warps[0].cta)

    def _run(self, group: Group) -> None:
        limit = 1 << 30
        self.meeting = set()
        if self.machine.queue.mode == "immediate":
            block = group.front().block
            for other in self.groups:
                if other is group or not self._together(group, other):
                    continue
                path = other.front()
                if not path.waits:
                    limit = path.block if block < path.block < limit else limit
                elif other.mergeable():
                    self.meeting.add(path.block)
        try:
            outcome = group.run(limit)
        except Fault as fault:
            raise placed(fault, group) from None
        except (ValueError, TypeError, IndexError, OverflowError, KeyError, ZeroDivisionError) as error:
            fault = Fault(
                f"internal error of the emulator: {type(error).__name__}: {error}",
                hint="please report this with the PTX",
            )
            raise placed(fault, group, error) from error
        group.eager = group.impatient = False
        if outcome == "exit":
            self.groups.remove(group)
            self.finish(group)
        if outcome == "turn":
            group.age += 1
            self._turns_used_up += 1
            if self._turns_used_up > LIVELOCK_TURNS:
                waits = tuple(line for g in self.groups for line in waiting(g))
                raise Deadlock("no warp makes progress: all spin", waits, place=place_of(group))
        elif outcome != "blocked":
            self._turns_used_up = 0

    def _unstick(self) -> None:
        """Nobody can run. Lets ready rows of waiting groups go on without the others, then time-limited waits give
        up, then reports a deadlock."""
        for group in self.groups:
            if any(wait.ready() for path in group.paths for wait in path.waits.values()):
                for path in group.paths:
                    path.waits = {}
                group.eager = True
                return
        signature = (
            self.machine.clock.ticks,
            self.machine.clock.arrivals,
            self.machine.queue.done,
            tuple(sorted((path.block, len(group.warps)) for group in self.groups for path in group.paths)),
        )
        if signature == self._signature:
            self._impatient += 1
        else:
            self._signature, self._impatient = signature, 0
        patient = [g for g in self.groups if any(w.limited for path in g.paths for w in path.waits.values())]
        if not patient or self._impatient > 3:
            raise stuck(self.groups)
        for group in patient:
            for path in group.paths:
                if any(w.limited for w in path.waits.values()):
                    path.waits = {}
            group.impatient = True


def _runnable(group: Group) -> bool:
    """Whether some path of the group can go on: nothing is waited for, or all of it has happened."""
    for path in group.paths:
        if all(wait.ready() for wait in path.waits.values()):
            path.waits = {}
            return True
    return False
