"""What each warp of a launch did: its blocks, and within them the memory that it touched and what it set going.

The emulator knows no time; `fp4emu.timeline` replays a recording with latencies and rates. A warp's record is a list of
numbers of basic blocks, each followed by what its instructions did, as tuples that begin with the place of the
instruction in the entry's body and a word:

    (at, "global", sectors, written, bytes)     ld, st, atom: sectors of 32 bytes asked of L2, and bytes of lanes
    (at, "shared", wavefronts, written, bytes)  passes through the banks of shared memory
    (at, "load", bytes, targets, rows)          bulk copy to shared memory: (rank, barrier) of each CTA that gets it
    (at, "store", bytes)                        bulk copy from shared memory, in the thread's bulk group
    (at, "bulk commit"), (at, "bulk wait", read, allowed)
    (at, "copy", bytes), (at, "copy commit"), (at, "copy wait", allowed), (at, "copy arrive", barrier)     cp.async
    (at, "init", barrier, count), (at, "expect", barrier, bytes), (at, "arrive", barrier, count)
    (at, "wait", barrier, parity)               a wait of an mbarrier that is over
    (at, "sync", number, threads)               of a named barrier that is over; 0 threads for all of the CTA
    (at, "sync arrive", number, threads)
    (at, "mma", m, n, k, ctas), (at, "tmem copy"), (at, "commit", barriers)     tcgen05

A barrier is (rank, offset). What a wait that is not over did is taken out again: it is tried anew later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: A block's number, or what one of its instructions did.
Item = Any

_OFFSET = (1 << 24) - 1
#: L1 and shared memory of an SM, bytes; and the least sectors that L1 keeps of a CTA.
_L1, _SECTOR, _FEWEST = 256 << 10, 32, 512


@dataclass(slots=True)
class Recording:
    """The record of one launch: `warps` by (CTA's place in the grid, warp). `clusters` are those that run, by their
    number in the order of x, y, z; None for all: the others leave their part of the outputs unwritten."""

    clusters: Sequence[int] | None = None
    warps: dict[tuple[tuple[int, int, int], int], list[Item]] = field(
        default_factory=dict["tuple[tuple[int, int, int], int]", "list[Item]"]
    )
    flow: Any = None
    """The entry's blocks and instructions (`fp4emu.flow.Flow`)."""
    grid: tuple[int, int, int] = (1, 1, 1)
    block: tuple[int, int, int] = (1, 1, 1)
    cluster: tuple[int, int, int] = (1, 1, 1)
    shared_bytes: int = 0
    at: int = 0
    """The place in the body of the instruction that runs."""
    _passes: dict[Any, int] = field(default_factory=dict[Any, int])
    _cached: dict[Any, dict[int, None]] = field(default_factory=dict[Any, "dict[int, None]"])

    def of(self, cta: tuple[int, int, int], warp: int) -> list[Item]:
        """The record of a warp that begins."""
        return self.warps.setdefault((cta, warp), [])

    def enter(self, warps: Sequence[Any], executing: Any, block: int) -> None:
        """Warps (those with a lane in `executing`, None for all) run a block."""
        if executing is None:
            for warp in warps:
                warp.log.append(block)
        else:
            for row in np.flatnonzero(executing.any(axis=1)).tolist():
                warps[row].log.append(block)

    def leave(self, warps: Sequence[Any], waiting: Any) -> None:
        """Rows have to wait: they will run the block again."""
        for row in waiting:
            log = warps[row].log
            while log and not isinstance(log.pop(), int):
                pass

    def touched(self, warps: Sequence[Any], space: str, place: Any, size: int, *, written: bool) -> None:
        """Lanes access elements of `size` bytes (`fp4emu.access`)."""
        shape = (len(warps), 32)
        index = place.index
        if place.where is None:
            lanes = 32 if index.shape[-1] == 32 else 1
            rows = np.broadcast_to(index, (len(warps), lanes)) * size
            for warp, row in zip(warps, rows, strict=True):
                self._access(warp, space, row, size, written)
            return
        where = place.where
        if where.shape != shape:
            spread = np.zeros(where.shape, np.int64)
            spread[where] = index * size
            where, spread = np.broadcast_to(where, shape), np.broadcast_to(spread, shape)
        else:
            spread = np.zeros(shape, np.int64)
            spread[where] = index * size
        for warp, row, mask in zip(warps, spread, where, strict=True):
            if mask.any():
                self._access(warp, space, row[mask], size, written)

    def _access(self, warp: Any, space: str, offsets: Any, size: int, written: bool) -> None:
        moved = len(offsets) * size
        if space == "global":
            count = sectors(offsets, size) if written else self._missed(warp.cta.id, offsets, size)
            warp.log.append((self.at, "global", count, written, moved))
            return
        first = int(offsets[0])
        key = (size, first & 127, (offsets - first).tobytes())
        count = self._passes.get(key)
        if count is None:
            count = self._passes[key] = wavefronts(offsets, size)
        warp.log.append((self.at, "shared", count, written, moved))

    def _missed(self, cta: Any, offsets: Any, size: int) -> int:
        """Sectors of a load that a CTA's L1 does not have: it keeps those that were loaded last."""
        cached = self._cached.setdefault(cta, {})
        room = max(_FEWEST, (_L1 - self.shared_bytes) // _SECTOR)
        missed = 0
        for sector in np.unique(offsets // _SECTOR).tolist():
            if sector not in cached:
                missed += 1
                cached[sector] = None
                if len(cached) > room:
                    del cached[next(iter(cached))]
        return missed * max(1, size // _SECTOR)


def note(warp: Any, *what: Any) -> None:
    """Records what an instruction of a warp did, if the launch is recorded."""
    recording = warp.machine.recording
    if recording is not None:
        warp.log.append((recording.at, *what))


def barrier_at(address: int) -> tuple[int, int]:
    """(rank, offset) of a shared::cluster address."""
    return (address & 0xFFFF_FFFF) >> 24, address & _OFFSET


def sectors(offsets: Any, size: int) -> int:
    """Sectors of 32 bytes that elements at these offsets lie in (CUDA C++ Best Practices Guide, 10.2.1)."""
    return len(np.unique(offsets >> 5)) * max(1, size // 32)


def wavefronts(offsets: Any, size: int) -> int:
    """Passes through the 32 banks of 4 bytes: 8 bytes a lane go by half warps, 16 by quarters; lanes that touch the
    same word share a pass (CUDA C++ Programming Guide, shared memory of compute capability 5.x and later)."""
    width = max(4, size)
    lanes, banks = 128 // width, 128 // width
    total = 0
    for start in range(0, len(offsets), lanes):
        words = np.unique(offsets[start : start + lanes] // width)
        total += int(np.bincount(words % banks).max())
    return total
