"""Global, shared and tensor memory, each with a shadow that knows what may be touched and what was ever written.

Shadow bytes (global and shared): bit 0 allocated, bit 1 written, bit 2 part of a live mbarrier, bit 3 read-only. A
load needs every byte to be
allocated and written, a store needs it allocated; both refuse mbarriers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.barrier import Barrier
from fp4emu.errors import Fault

Bytes = NDArray[np.uint8]

Touch = Callable[[Any, bool], None]
"""Tells who watches the order of accesses what is read or written: a `selection.Selection` (of tensor memory, an
index of lanes and columns), and whether it is written (`fp4emu.order`)."""

ALLOCATED, WRITTEN, BARRIER, READ_ONLY, UNFENCED, READING = 1, 2, 4, 8, 16, 32
READABLE = ALLOCATED | WRITTEN
#: What a read through the async proxy looks at, and one through the generic proxy.
ASYNC_BITS = ALLOCATED | WRITTEN | BARRIER | UNFENCED
GENERIC_BITS = ALLOCATED | WRITTEN | BARRIER
GLOBAL_BASE = 0x7F00_0000_0000
SHARED_WINDOW = 0x0000_7E00_0000_0000
"""Generic address of shared::cluster address 0; CTA rank r of the cluster owns [r << 24, (r + 1) << 24)."""
RANK_SHIFT = 24
SHARED_RESERVED = 1024
"""The first KiB of a CTA's shared memory belongs to the system, so that no variable has address 0."""
GUARD = 256
REUSE = 1 << 24
"""Bytes, with what lies between allocations, that are freed before addresses are used again."""
ALIGNMENT = 512


STILL_READ = "which a bulk store may still be reading"
_KEEP_FENCED = np.uint64(0x0101_0101_0101_0101 * (0xFF & ~UNFENCED))


def unreadable(state: int) -> str:
    """Why a shared byte with this shadow cannot be read."""
    if state & BARRIER:
        return "holds a live mbarrier"
    if not state & WRITTEN:
        return "was never written"
    return "was written by the generic proxy (st.shared or the like) with no fence.proxy.async since"


class GlobalMemory:
    """One arena that holds every allocation, with unallocated guard bytes between them. Addresses are `GLOBAL_BASE` +
    arena offset."""

    def __init__(self, capacity: int = 2 * REUSE) -> None:
        self.data: Bytes = np.zeros(capacity, np.uint8)
        self.state: Bytes = np.zeros(capacity, np.uint8)
        self._end = GUARD
        self._freed = 0
        self._allocations: dict[int, int] = {}
        self.touch: Touch | None = None

    def allocate(self, size: int, *, alignment: int = ALIGNMENT) -> int:
        """Address of `size` fresh, unwritten bytes."""
        if size < 0:
            raise Fault(f"cannot allocate {size} bytes")
        start = -(-(self._end + GUARD) // alignment) * alignment
        needed = start + size + GUARD
        if needed > len(self.data):
            capacity = -(-max(needed, 2 * len(self.data)) // 64) * 64
            try:
                grown = np.zeros((2, capacity), np.uint8)
            except (MemoryError, ValueError):
                raise Fault(f"this machine has no memory for {size} bytes more") from None
            for row, name in zip(grown, ("data", "state"), strict=True):
                old: Bytes = getattr(self, name)
                row[: len(old)] = old
                setattr(self, name, row)
        self._end = start + size
        self.state[start : start + size] = ALLOCATED
        self._allocations[GLOBAL_BASE + start] = size
        return GLOBAL_BASE + start

    def free(self, address: int) -> None:
        """Makes an allocation's bytes untouchable.

        Addresses are not reused soon, so that a use after free is a fault: the free end of the arena is taken again
        only when `REUSE` bytes have been freed.
        """
        size = self._allocations.pop(address, None)
        if size is None:
            raise Fault(f"{address:#x} is not the start of an allocation")
        start = address - GLOBAL_BASE
        self.state[start : start + size] = 0
        self._freed += -(-(size + GUARD) // ALIGNMENT) * ALIGNMENT
        if self._freed > REUSE:
            ends = (place - GLOBAL_BASE + bytes_ for place, bytes_ in self._allocations.items())
            self._end, self._freed = max(ends, default=GUARD), 0

    @property
    def used(self) -> int:
        """Bytes from the start of the arena, in whole 64, that hold all allocations."""
        return min(-(-(self._end + GUARD) // 64) * 64, len(self.data))

    def offset(self, address: int, size: int) -> int:
        """Arena offset of `size` allocated bytes at `address`."""
        start = address - GLOBAL_BASE
        inside = start >= 0 and start + size <= len(self.data)
        if not inside or not int(np.bitwise_and.reduce(self.state[start : start + size])) & ALLOCATED:
            raise Fault(f"{size} bytes at {address:#x} are not (all) in an allocation", hint=self.describe(address))
        return start

    def read(self, address: int, size: int) -> bytes:
        """The bytes, all of which must have been written."""
        start = self.offset(address, size)
        if not int(np.bitwise_and.reduce(self.state[start : start + size])) & WRITTEN:
            missing = np.flatnonzero((self.state[start : start + size] & WRITTEN) == 0)
            raise Fault(
                f"byte {int(missing[0])} of {size} at {address:#x} was never written ({len(missing)} such bytes)",
                hint=self.describe(address),
            )
        if self.touch is not None:
            self.touch(slice(start, start + size), False)
        return self.data[start : start + size].tobytes()

    def write(self, address: int, data: bytes | bytearray | memoryview | Bytes) -> None:
        """Changes bytes; those of a kernel's parameters are a fault."""
        raw = np.frombuffer(data, np.uint8)
        start = self.offset(address, len(raw))
        if int(np.bitwise_or.reduce(self.state[start : start + len(raw)])) & READ_ONLY:
            raise Fault(f"store of {len(raw)} bytes to read-only memory", hint=self.describe(address))
        if self.touch is not None:
            self.touch(slice(start, start + len(raw)), True)
        self.data[start : start + len(raw)] = raw
        self.state[start : start + len(raw)] |= WRITTEN

    def describe(self, address: int) -> str:
        """Where an address lies relative to the nearest allocation below it."""
        below = [start for start in self._allocations if start <= address]
        if not below:
            return f"no allocation at or below {address:#x}"
        start = max(below)
        size = self._allocations[start]
        return f"{address:#x} is byte {address - start} of the allocation of {size} bytes at {start:#x}"

    def name_of(self, offset: int) -> str:
        """An arena offset with its place."""
        return self.name(GLOBAL_BASE + offset)

    def name(self, address: int) -> str:
        """An address with its place, inside of a sentence."""
        return self.describe(address).replace(" is byte", ", byte", 1)


class SharedMemory:
    """Shared memory of one CTA. Index i of `data` and `state` is shared::cta offset i; the shared::cluster address is
    `base + i`."""

    def __init__(self, rank: int, size: int, data: Bytes, state: Bytes) -> None:
        self.rank = rank
        self.base = rank << RANK_SHIFT
        self.size = size
        self.data = data
        self.state = state
        self.barriers: dict[int, Barrier] = {}
        self.symbols: dict[str, tuple[int, int]] = {}
        self.touch: Touch | None = None
        state[:] = 0
        state[SHARED_RESERVED:size] = ALLOCATED

    def check_read(self, offset: int, size: int, *, proxy: str = "generic") -> None:
        """Faults unless all bytes are inside, written, no mbarrier, and visible to the proxy ("generic" or "async")."""
        self._check(offset, size)
        state = self.state[offset : offset + size]
        wrong = (state & (GENERIC_BITS if proxy == "generic" else ASYNC_BITS)) != READABLE
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise Fault(f"shared byte {self.describe(offset + first)} {unreadable(int(state[first]))}")
        if self.touch is not None:
            self.touch(slice(offset, offset + size), False)

    def check_write(self, offset: int, size: int, *, proxy: str = "async") -> None:
        """Faults unless all bytes are inside, no mbarrier and no bulk store's unread source; marks them written."""
        self._check(offset, size)
        state = self.state[offset : offset + size]
        if (state & (BARRIER | READING)).any():
            first = int(np.flatnonzero(state & (BARRIER | READING))[0])
            where = self.describe(offset + first)
            if state[first] & BARRIER:
                raise Fault(f"store over the live mbarrier at {where}", hint="mbarrier.inval it first")
            hint = "wait with cp.async.bulk.wait_group.read, then meet at a barrier"
            raise Fault(f"store to {where}, {STILL_READ}", hint=hint)
        if self.touch is not None:  # who watches the order finds a missing fence himself
            self.touch(slice(offset, offset + size), True)
        state[:] = READABLE | (UNFENCED if proxy == "generic" and self.touch is None else 0)

    def fence_proxy(self) -> None:
        """fence.proxy.async: what the generic proxy wrote so far may be read by the async proxy."""
        words = self.state[: len(self.state) // 8 * 8].view(np.uint64)
        words &= _KEEP_FENCED

    def begin_reading(self, offset: int, size: int) -> None:
        """A bulk store will read these bytes."""
        self.state[offset : offset + size] |= READING

    def end_reading(self, offset: int, size: int) -> None:
        self.state[offset : offset + size] &= ~np.uint8(READING)

    def barrier(self, offset: int) -> Barrier:
        """The live mbarrier at an offset."""
        found = self.barriers.get(offset)
        if found is None:
            raise Fault(
                f"no mbarrier was initialised at shared {self.describe(offset)}",
                hint="mbarrier.init must come first, made visible by fence.mbarrier_init and a barrier",
            )
        return found

    def describe(self, offset: int) -> str:
        """`0x480 (name+128, CTA rank 1)`."""
        for name, (start, size) in self.symbols.items():
            if start <= offset < start + max(size, 1):
                return f"{self.base + offset:#x} ({name}+{offset - start}, CTA rank {self.rank})"
        return f"{self.base + offset:#x} (CTA rank {self.rank})"

    def _check(self, offset: int, size: int) -> None:
        if offset < SHARED_RESERVED or offset + size > self.size:
            raise Fault(
                f"{size} bytes at shared {self.base + offset:#x} are outside of the CTA's {self.size} bytes",
                hint="static and dynamic shared memory start at byte 1024; check shared_bytes of the launch",
            )


class TensorMemory:
    """Tensor memory of one CTA: 128 lanes x 512 columns of 32 bits (PTX ISA 9.7.16.1). Address = lane << 16 |
    column."""

    LANES, COLUMNS = 128, 512

    def __init__(self) -> None:
        self.data: NDArray[np.uint32] = np.zeros((self.LANES, self.COLUMNS), np.uint32)
        self.written: NDArray[np.bool_] = np.zeros((self.LANES, self.COLUMNS), np.bool_)
        self.allocated: NDArray[np.bool_] = np.zeros(self.COLUMNS, np.bool_)
        self.allocations: dict[int, int] = {}
        self.permit = True
        self.touch: Touch | None = None
        self.claim: Callable[[slice], None] | None = None


class Views:
    """One arena and its shadow, seen as elements of 1, 2, 4, 8 and 16 bytes."""

    def __init__(self, data: NDArray[Any], state: NDArray[Any]) -> None:
        kinds = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}
        usable = len(data) // 16 * 16
        self.size = usable
        self.data: dict[int, NDArray[Any]] = {n: data[:usable].view(kind) for n, kind in kinds.items()}
        self.state: dict[int, NDArray[Any]] = {n: state[:usable].view(kind) for n, kind in kinds.items()}
