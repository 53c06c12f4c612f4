"""One kernel launch: co-resident clusters, their warps, and the scheduler that runs groups until all have exited."""

from __future__ import annotations

import random
import time
import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp4emu.access import Views
from fp4emu.asynchronous import AsyncQueue, Mode
from fp4emu.errors import Deadlock, Fault, Place, TimeOver
from fp4emu.group import Group, Path
from fp4emu.isa.barriers import warps_exited
from fp4emu.machine import Cluster, Cta, Machine, WarpContext
from fp4emu.memory import GLOBAL_BASE, GlobalMemory, SharedMemory, TensorMemory
from fp4emu.order import exits
from fp4emu.order.checks import Order
from fp4emu.order.observer import Observer
from fp4emu.program import Program, Specialised
from fp4emu.registry import Wait
from fp4emu.spin import describe
from fp4emu.symbols import special

Triple = tuple[int, int, int]

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


class Launch:
    """Runs an entry over a grid. Handlers reach it through their group; the public entry point is `Gpu.launch`."""

    def __init__(
        self,
        program: Program,
        machine_memory: GlobalMemory,
        target: str,
        grid: Triple,
        block: Triple,
        cluster: Triple,
        dynamic_shared: int,
        param_address: int,
        configuration: Configuration,
    ) -> None:
        self.program = program
        self.grid, self.block, self.cluster = grid, block, cluster
        self.dynamic_shared = dynamic_shared
        self.param_address = param_address
        self.configuration = configuration
        self.sm_count = configuration.sm_count
        self.machine = Machine(target, machine_memory, AsyncQueue(configuration.mode, configuration.seed))
        self.random = random.Random(configuration.seed)
        self.cluster_size = cluster[0] * cluster[1] * cluster[2]
        self.threads = block[0] * block[1] * block[2]
        self.warps_per_cta = -(-self.threads // 32)
        self.shared_size = program.symbols.static_shared + dynamic_shared
        self.stride = -(-self.shared_size // 1024) * 1024
        self.groups: list[Group] = []
        self.meeting: set[int] = set()
        self.turn = 0
        self.local_address = 0
        self.local_stride = -(-program.symbols.local_bytes // 16) * 16
        self._slots: dict[int, int] = {}
        self.resident: list[Cta] = []
        """The CTAs of the running wave, by their place in the arena."""
        self._impatient = 0
        self._signature: Any = None
        self._turns_used_up = 0

    def observe(self, order: Order) -> Observer:
        """Has the launch prove that its accesses are ordered."""
        observer = self.machine.order = Observer(order)
        return observer

    # --- what groups ask ---

    def arena_offset(self, cta: Cta) -> int:
        """Offset of a CTA's shared memory in the arena."""
        return self._slots[id(cta)] * self.stride

    def special(self, group: Group, name: str) -> Any:
        return special(group, name)

    def warp_slot(self, warp: WarpContext) -> int:
        return self._slots[id(warp.cta)] * self.warps_per_cta + warp.index

    def timer(self, name: str) -> int:
        """Clocks advance by the scheduler's turns: they only order events."""
        ticks = (self.turn + 1) * 64
        self.turn += 1
        if name.endswith("_hi"):
            return ticks >> 32
        return ticks if name in ("%clock64", "%globaltimer") else ticks & 0xFFFF_FFFF

    def param(self, offset: int, size: int) -> int:
        """A kernel parameter, or a part of one."""
        return int.from_bytes(self.param_bytes[offset : offset + size], "little")

    def add(self, group: Group) -> None:
        self.groups.append(group)

    def check_time(self) -> None:
        """`TimeOver` once the launch's time is over."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeOver("the time is over", place=self._place_of(self.groups[0]))

    def finish(self, group: Group) -> None:
        """All lanes of a group have exited."""
        for warp in group.warps:
            warp.scratch["exited"] = True
            self.machine.clock.ticks += 1
            if self.machine.order is not None:
                exits.exited(self.machine.order, warp)
            live: set[int] = warp.cta.scratch["live warps"]
            live.discard(warp.index)
            warps_exited(warp.cta)

    # --- running ---

    def run(self, deadline: float | None = None) -> None:
        """The whole grid, in waves of co-resident clusters; `TimeOver` once the monotonic clock shows `deadline`."""
        self.deadline = deadline
        size = self.cluster[0] * self.cluster[1] * self.cluster[2]
        counts = tuple(g // c for g, c in zip(self.grid, self.cluster, strict=True))
        ids = [(x, y, z) for z in range(counts[2]) for y in range(counts[1]) for x in range(counts[0])]
        resident = max(size, min(MAX_RESIDENT_CTAS, RESIDENT_THREADS // max(self.threads, 1)))
        wave = max(1, resident // size)
        self.arena = np.zeros(wave * size * self.stride, np.uint8)
        self.arena_state = np.zeros(wave * size * self.stride, np.uint8)
        if self.local_stride:
            total = wave * size * self.warps_per_cta * 32 * self.local_stride
            self.local_address = self.machine.memory.allocate(total)
        if self.machine.order is not None:
            self.machine.order.watch_global(self.machine.memory)
        self.global_views = Views(self.machine.memory.data, self.machine.memory.state)
        self.shared_views = Views(self.arena, self.arena_state)
        start = self.param_address - GLOBAL_BASE
        self.param_bytes = bytes(self.machine.memory.data[start : start + self.program.symbols.param_bytes])
        try:
            with np.errstate(all="ignore"):
                self._waves(ids, wave)
        finally:
            if self.local_stride:
                self.machine.memory.free(self.local_address)

    def _waves(self, ids: list[Triple], wave: int) -> None:
        cx, cy, cz = self.cluster
        waiting = self.machine.waiting
        waiting.extend((x * cx, y * cy, z * cz) for x, y, z in ids)
        while waiting:
            first = [(x // cx, y // cy, z // cz) for x, y, z in waiting[:wave]]
            del waiting[:wave]
            self._wave(first)

    def _wave(self, ids: list[Triple]) -> None:
        self._slots.clear()
        self.resident.clear()
        clusters = [self._cluster(cluster_id) for cluster_id in ids]
        warps = [(cta, index) for cluster in clusters for cta in cluster.ctas for index in range(self.warps_per_cta)]
        lockstep = self.configuration.lockstep
        parts: dict[Any, list[WarpContext]] = {}
        for cta, index in warps:
            partial = self.threads % 32 and index == self.warps_per_cta - 1
            key = {"grid": 0, "cta": id(cta), "warp": (id(cta), index)}[lockstep]
            parts.setdefault((key, bool(partial)), []).append(WarpContext(cta, index))
        for (_, partial), rows in parts.items():
            live = None
            if partial:
                live = np.zeros((len(rows), 32), np.bool_)
                live[:, : self.threads % 32] = True
            self.groups.append(Group(self, self.program, rows, live))
        self._schedule()
        self.machine.queue.drain()
        for cluster in clusters:
            if self.machine.order is not None:
                exits.check(self.machine.order, cluster)
            for hook in cluster.scratch.get("at exit", []):
                hook()

    def _cluster(self, cluster_id: Triple) -> Cluster:
        cluster = Cluster(self.machine, cluster_id)
        cx, cy, cz = self.cluster
        for rank in range(cx * cy * cz):
            slot = len(self._slots)
            part = slice(slot * self.stride, (slot + 1) * self.stride)
            shared = SharedMemory(rank, self.shared_size, self.arena[part], self.arena_state[part])
            shared.symbols = self.program.symbols.shared
            offset = (rank % cx, rank // cx % cy, rank // (cx * cy))
            place = (cluster_id[0] * cx + offset[0], cluster_id[1] * cy + offset[1], cluster_id[2] * cz + offset[2])
            cta = Cta(cluster, place, rank, shared, TensorMemory())
            cta.scratch["live warps"] = set(range(self.warps_per_cta))
            cta.scratch["threads"] = self.threads
            self._slots[id(cta)] = slot
            cluster.ctas.append(cta)
            self.resident.append(cta)
        if self.machine.order is not None:
            self.machine.order.watch_cluster(cluster, self.warps_per_cta)
        return cluster

    def _schedule(self) -> None:
        queue = self.machine.queue
        while self.groups:
            self.turn += 1
            self.check_time()
            if queue.mode == "delayed":
                queue.tick()
            group = self._choose()
            if group is None:
                if queue.skip():
                    continue
                self._unstick()
                continue
            self._run(group)

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
            raise self._placed(fault, group) from None
        except (ValueError, TypeError, IndexError, OverflowError, KeyError, ZeroDivisionError) as error:
            fault = Fault(
                f"internal error of the emulator: {type(error).__name__}: {error}",
                hint="please report this with the PTX",
            )
            raise self._placed(fault, group, error) from error
        group.eager = group.impatient = False
        if outcome == "exit":
            self.groups.remove(group)
            self.finish(group)
        if outcome == "turn":
            group.age += 1
            self._turns_used_up += 1
            if self._turns_used_up > LIVELOCK_TURNS:
                waits = tuple(line for g in self.groups for line in _waits(g))
                raise Deadlock("no warp makes progress: all spin", waits, place=self._place_of(group))
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
            raise self._stuck()
        for group in patient:
            for path in group.paths:
                if any(w.limited for w in path.waits.values()):
                    path.waits = {}
            group.impatient = True

    def _stuck(self) -> Fault:
        """The fault of a launch in which nobody can run any more."""
        every = [(group, path) for group in self.groups for path in group.paths if path.waits]
        apart = next(((g, p) for g, p in every if any(wait.meets for wait in p.waits.values())), None)
        if apart is not None and not any(wait.spins for _, path in every for wait in path.waits.values()):
            return Fault(
                "the membermask names lanes that do not execute this instruction",
                hint="the warp has diverged here: the result is undefined",
                place=self._place_of(apart[0], apart[1]),
            )
        waits = tuple(line for group in self.groups for line in _waits(group))
        spinning = next(((g, w) for g, p in every for w in p.waits.values() if w.spins), None)
        if spinning is None:
            message = "deadlock: every warp waits for something that cannot happen any more"
        else:
            message = f"deadlock: no warp can go on; {_who(spinning[0], 0)} {spinning[1].describe()}"
        return Deadlock(message, waits, place=self._place_of(self.groups[0]))

    def _place_of(self, group: Group, path: Path | None = None) -> Place:
        body = self.program.function.body
        ins = body[self.program.blocks[(path or group.front()).block].start]
        place = group.place()
        return Place(ins.line, ins.text, place.entry, place.cta, place.warp)

    def _placed(self, fault: Fault, group: Group, error: BaseException | None = None) -> Fault:
        """Adds the line that was executing, found in the traceback of the generated code."""
        line, text = None, ""
        codes: dict[str, Specialised] = {
            f"<ptx {self.program.function.name} block {s.block}>": s for s in self.program.specialised.values()
        }
        for frame, number in traceback.walk_tb((error or fault).__traceback__):
            name = frame.f_code.co_filename
            if name in codes:
                for specialised in self.program.specialised.values():
                    if specialised.run.__code__ is frame.f_code:
                        ins = specialised.lines[number - 1]
                        if ins is not None:
                            line, text = ins.line, ins.text
        place = group.place()
        return fault.with_place(
            line=line, text=text, entry=place.entry, cta=place.cta, warp=place.warp, lane=place.lane
        )


def _runnable(group: Group) -> bool:
    """Whether some path of the group can go on: nothing is waited for, or all of it has happened."""
    for path in group.paths:
        if all(wait.ready() for wait in path.waits.values()):
            path.waits = {}
            return True
    return False


def _waits(group: Group) -> list[str]:
    lines: list[str] = []
    for path in group.paths:
        for row, wait in path.waits.items():
            more = f" (with {len(group.warps) - 1} warps more)" if wait.spins and len(group.warps) > 1 else ""
            lines.append(f"{_who(group, row)}{more}: {wait.describe()}")
    return lines or [_where(group)]


def _who(group: Group, row: int) -> str:
    warp = group.warps[row]
    return f"CTA {warp.cta.id} warp {warp.index}"


def _where(group: Group) -> str:
    program = group.program
    ins = program.function.body[program.blocks[group.front().block].start]
    warps = sorted({(warp.cta.id, warp.index) for warp in group.warps})
    polls = f", {describe(group.polls)}" if group.polls else ""
    first = f"CTA {warps[0][0]} warp {warps[0][1]}"
    return f"{len(warps)} warps (first: {first}) at PTX line {ins.line}{polls}: {ins.text}"


__all__ = ["Configuration", "Launch", "Wait"]
