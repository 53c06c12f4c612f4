"""The grid of a launch as its code sees it: its sizes, its memories, and which CTA lies where in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fp4emu.machine import Cluster, Cta, Machine, WarpContext
from fp4emu.memory import GLOBAL_BASE, SharedMemory, TensorMemory, Views
from fp4emu.symbols import Symbols

Triple = tuple[int, int, int]
WORKSPACE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Extent:
    """What a launch asks for: CTAs along x, y and z, threads of a CTA, CTAs of a cluster, bytes of dynamic shared
    memory."""

    grid: Triple
    block: Triple
    cluster: Triple
    dynamic_shared: int


class Grid:
    """Sizes, memories and resident CTAs of one launch. Generated code and handlers reach it as `g.grid`."""

    def __init__(self, machine: Machine, symbols: Symbols, extent: Extent, param_address: int, sm_count: int) -> None:
        self.machine = machine
        self.size, self.block, self.cluster = extent.grid, extent.block, extent.cluster
        self.dynamic_shared = extent.dynamic_shared
        self.param_address = param_address
        self.sm_count = sm_count
        self.cluster_size = self.cluster[0] * self.cluster[1] * self.cluster[2]
        self.threads = self.block[0] * self.block[1] * self.block[2]
        self.warps_per_cta = -(-self.threads // 32)
        self.shared_size = symbols.static_shared + extent.dynamic_shared
        self.stride = -(-self.shared_size // 1024) * 1024
        """Bytes of the arena for each CTA."""
        self.local_address = 0
        self.local_stride = -(-symbols.local_bytes // 16) * 16
        self.workspace = 0
        """Address of a cooperative launch's workspace: its size in bytes and the counter of its barrier, 32 bits each;
        0 if the launch has none."""
        self.registers = 0
        """Registers that each thread has at the launch, where `setmaxnreg` may count on a number."""
        self.turn = 0
        """Turns of the scheduler: what clocks show."""
        self.resident: list[Cta] = []
        """The CTAs of the running wave, by their place in the arena."""
        self._symbols = symbols
        self._slots: dict[int, int] = {}

    # --- memories ---

    def open(self, ctas: int, *, workspace: bool = False) -> None:
        """Memory for so many resident CTAs, and a cooperative launch's `workspace`."""
        memory = self.machine.memory
        self.arena = np.zeros(ctas * self.stride, np.uint8)
        self.arena_state = np.zeros(ctas * self.stride, np.uint8)
        if self.local_stride:
            self.local_address = memory.allocate(ctas * self.warps_per_cta * 32 * self.local_stride)
        if workspace:
            self.workspace = memory.allocate(WORKSPACE_BYTES)
            memory.write(self.workspace, WORKSPACE_BYTES.to_bytes(4, "little") + bytes(WORKSPACE_BYTES - 4))
        if self.machine.order is not None:
            self.machine.order.watch_global(memory)
            self.machine.order.watch_shared(len(self.arena))
        self.global_views = Views(memory.data, memory.state)
        self.shared_views = Views(self.arena, self.arena_state)
        start = self.param_address - GLOBAL_BASE
        self._params = bytes(memory.data[start : start + self._symbols.param_bytes])

    def close(self) -> None:
        """Gives back what `open` took of global memory."""
        if self.local_stride:
            self.machine.memory.free(self.local_address)
        if self.workspace:
            self.machine.memory.free(self.workspace)

    # --- CTAs ---

    def clear(self) -> None:
        """The resident CTAs have ended."""
        self._slots.clear()
        self.resident.clear()

    def place_cluster(self, cluster_id: Triple) -> Cluster:
        """A cluster of fresh CTAs, at the next free places of the arena."""
        cluster = Cluster(self.machine, cluster_id)
        cx, cy, cz = self.cluster
        for rank in range(self.cluster_size):
            slot = len(self._slots)
            part = slice(slot * self.stride, (slot + 1) * self.stride)
            shared = SharedMemory(rank, self.shared_size, self.arena[part], self.arena_state[part])
            shared.symbols = self._symbols.shared
            offset = (rank % cx, rank // cx % cy, rank // (cx * cy))
            place = (cluster_id[0] * cx + offset[0], cluster_id[1] * cy + offset[1], cluster_id[2] * cz + offset[2])
            cta = Cta(cluster, place, rank, shared, TensorMemory(), set(range(self.warps_per_cta)))
            self._slots[id(cta)] = slot
            cluster.ctas.append(cta)
            self.resident.append(cta)
        if self.machine.order is not None:
            places = [self.arena_offset(cta) for cta in cluster.ctas]
            parts = [slice(place, place + self.stride) for place in places]
            self.machine.order.watch_cluster(cluster, self.warps_per_cta, parts)
        return cluster

    def arena_offset(self, cta: Cta) -> int:
        """Offset of a CTA's shared memory in the arena."""
        return self._slots[id(cta)] * self.stride

    def warp_slot(self, warp: WarpContext) -> int:
        """The place of a warp among all warps that may be resident."""
        return self._slots[id(warp.cta)] * self.warps_per_cta + warp.index

    # --- what generated code reads ---

    def timer(self, name: str) -> int:
        """Clocks advance by the scheduler's turns: they only order events."""
        ticks = (self.turn + 1) * 64
        self.turn += 1
        if name.endswith("_hi"):
            return ticks >> 32
        return ticks if name in ("%clock64", "%globaltimer") else ticks & 0xFFFF_FFFF

    def param(self, offset: int, size: int) -> int:
        """A kernel parameter, or a part of one."""
        return int.from_bytes(self._params[offset : offset + size], "little")
