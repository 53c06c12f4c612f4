"""The parts of a running GPU that instruction handlers see: cluster, CTA, warp and thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fp4emu.asynchronous import AsyncQueue
from fp4emu.barrier import Barrier, Clock
from fp4emu.dependency import Dependency
from fp4emu.errors import Fault
from fp4emu.memory import ALLOCATED, BARRIER, RANK_SHIFT, WRITTEN, GlobalMemory, SharedMemory, TensorMemory
from fp4emu.spin import Watch
from fp4emu.state import State


@dataclass(slots=True)
class Machine:
    """What a launch shares: `target` is e.g. "sm_100a"."""

    target: str
    memory: GlobalMemory
    queue: AsyncQueue
    clock: Clock = field(default_factory=Clock)
    waiting: list[tuple[int, int, int]] = field(default_factory=list["tuple[int, int, int]"])
    """The first CTA of each cluster that has not been launched yet."""
    watch: Watch | None = None
    """What looks at the reads of the running group, if it may be spinning."""
    printed: list[tuple[tuple[int, ...], str]] = field(default_factory=list["tuple[tuple[int, ...], str]"])
    """What threads have printed: (CTA along z, y and x and thread, text)."""
    order: Any = None
    """What watches the order of accesses (`fp4emu.order.observer.Observer`), if asked for."""
    recording: Any = None
    """What is kept of what warps do (`fp4emu.recording.Recording`), if asked for."""
    dependency: Dependency = field(default_factory=Dependency)
    """What the launch has to do with the one before and the next."""

    def cancel(self) -> tuple[int, int, int] | None:
        """Takes the next cluster from those not yet launched."""
        return self.waiting.pop(0) if self.waiting else None


@dataclass(slots=True)
class Cluster:
    """The CTAs of one cluster in rank order. `state` is for families of instructions."""

    machine: Machine
    id: tuple[int, int, int]
    ctas: list[Cta] = field(default_factory=list["Cta"])
    state: State = field(default_factory=State)

    def resolve(self, address: int) -> tuple[SharedMemory, int]:
        """The shared memory and the offset in it of a shared::cluster address."""
        rank = (address & 0xFFFF_FFFF) >> RANK_SHIFT
        if rank >= len(self.ctas):
            raise Fault(f"shared::cluster address {address:#x} names CTA rank {rank} of a cluster of {len(self.ctas)}")
        return self.ctas[rank].shared, address & ((1 << RANK_SHIFT) - 1)

    def barrier(self, address: int) -> Barrier:
        """The live mbarrier at a shared::cluster address."""
        shared, offset = self.resolve(address)
        if offset % 8:
            raise Fault(f"mbarrier address {address:#x} is not a multiple of 8")
        return shared.barrier(offset)


@dataclass(slots=True)
class Cta:
    """One CTA. `id` is %ctaid, `rank` %cluster_ctarank; `live_warps` are those that have not exited; `state` is for
    families of instructions, `at_exit` their checks when the cluster has ended."""

    cluster: Cluster
    id: tuple[int, int, int]
    rank: int
    shared: SharedMemory
    tensor: TensorMemory
    live_warps: set[int] = field(default_factory=lambda: {0})
    state: State = field(default_factory=State)
    at_exit: list[Callable[[Cta], None]] = field(default_factory=list["Callable[[Cta], None]"])

    @property
    def peer(self) -> Cta:
        """The other CTA of a `cta_group::2` pair: the one whose rank differs in the last bit."""
        other = self.rank ^ 1
        if other >= len(self.cluster.ctas):
            raise Fault("cta_group::2 needs a cluster with an even number of CTAs")
        return self.cluster.ctas[other]

    @property
    def pair(self) -> tuple[Cta, ...]:
        """Both CTAs of the `cta_group::2` pair, the even rank first."""
        return (self, self.peer) if self.rank % 2 == 0 else (self.peer, self)

    def barrier_init(self, offset: int, count: int) -> None:
        """mbarrier.init at an offset of this CTA's shared memory."""
        shared = self.shared
        if offset % 8:
            raise Fault(f"mbarrier address {offset:#x} is not a multiple of 8")
        shared.check_write(offset, 8) if offset not in shared.barriers else None
        shared.barriers[offset] = Barrier(count, self.cluster.machine.clock)
        shared.state[offset : offset + 8] = ALLOCATED | WRITTEN | BARRIER

    def barrier_invalidate(self, offset: int) -> None:
        self.shared.barrier(offset)
        del self.shared.barriers[offset]
        self.shared.state[offset : offset + 8] = ALLOCATED


@dataclass(slots=True)
class WarpContext:
    """One warp, as a handler sees it. `active` has bit i set if lane i executes. `state` is for families of
    instructions, `threads` the same for each thread that has any."""

    cta: Cta
    index: int
    active: int = 0xFFFF_FFFF
    state: State = field(default_factory=State)
    threads: dict[int, State] = field(default_factory=dict[int, State])
    log: list[Any] = field(default_factory=list[Any])
    """Its part of the recording, if there is one."""

    @property
    def cluster(self) -> Cluster:
        return self.cta.cluster

    @property
    def machine(self) -> Machine:
        return self.cta.cluster.machine

    @property
    def memory(self) -> GlobalMemory:
        return self.cta.cluster.machine.memory

    @property
    def queue(self) -> AsyncQueue:
        return self.cta.cluster.machine.queue


@dataclass(slots=True)
class ThreadContext:
    """One thread of a warp: what bulk async-groups (PTX ISA 9.7.9.25) and the like belong to."""

    warp: WarpContext
    lane: int

    @property
    def cta(self) -> Cta:
        return self.warp.cta

    @property
    def cluster(self) -> Cluster:
        return self.warp.cta.cluster

    @property
    def machine(self) -> Machine:
        return self.warp.cta.cluster.machine

    @property
    def memory(self) -> GlobalMemory:
        return self.warp.cta.cluster.machine.memory

    @property
    def queue(self) -> AsyncQueue:
        return self.warp.cta.cluster.machine.queue

    @property
    def state(self) -> State:
        """What families of instructions remember of this thread."""
        found = self.warp.threads.get(self.lane)
        if found is None:
            found = self.warp.threads[self.lane] = State()
        return found


def signed(value: int, bits: int = 32) -> int:
    """Two's complement value of the low `bits` of a register."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
