"""Loads and stores of a whole group: address arithmetic, checks and gathers over arrays (`isa.memory`).

Addresses, data and masks have the shapes of `fp4emu.shapes` and are broadcast against each other here, in `check`; with
a mask, only its lanes are touched. Every access checks alignment, bounds and the shadow (`fp4emu.memory`).

All loads and stores of `ld` and `st` end in `load`, `store` or `load_uniform`. What single threads and the asynchronous
units read and write goes through `SharedMemory.check_read` and `check_write`, `GlobalMemory.read` and `write`, and
`fp4emu.tmem`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.errors import Fault
from fp4emu.lockstep import Lockstep
from fp4emu.memory import (
    ALLOCATED,
    BARRIER,
    GLOBAL_BASE,
    RANK_SHIFT,
    READ_ONLY,
    READING,
    SHARED_WINDOW,
    STILL_READ,
    UNFENCED,
    WRITTEN,
    Views,
)
from fp4emu.order import loads
from fp4emu.shapes import LANES, Mask, full

Array = NDArray[Any]
_OFFSET = (1 << RANK_SHIFT) - 1
_REPEAT = {n: int.from_bytes(b"\1" * n, "little") for n in (1, 2, 4, 8)}
_LOAD_BITS, _LOADED = ALLOCATED | WRITTEN | BARRIER, ALLOCATED | WRITTEN
_STORE_BITS = ALLOCATED | BARRIER | READ_ONLY | READING


def _state_words(views: Views, index: Any, size: int) -> tuple[Any, int]:
    """Shadow words of the accesses, and the bytes of a word."""
    found = views.state[size][index]
    return (found.view(np.uint64), 8) if size == 16 else (found, size)


def _locate(g: Lockstep, space: str, address: Array) -> tuple[Views, Array]:
    """The arena of a state space and the byte offsets in it, as int64 arrays; negative or too large where out of
    bounds."""
    grid = g.grid
    if space == "global":
        return grid.global_views, (address.astype(np.uint64) - np.uint64(GLOBAL_BASE)).view(np.int64)
    if space == "cta":
        relative = address.astype(np.int64) - g.rank_base
        outside = (relative < 0) | (relative >= grid.stride)
        return grid.shared_views, np.where(outside, -1, relative + g.arena_base)
    value = address.astype(np.int64)
    rank, offset = value >> RANK_SHIFT, value & _OFFSET
    outside = (rank >= grid.cluster_size) | (rank < 0) | (offset >= grid.stride)
    return grid.shared_views, np.where(outside, -1, g.cluster_base + rank * grid.stride + offset)


@dataclass(frozen=True, slots=True)
class _Checked:
    """An access that is aligned and in bounds: `index` are its elements in `views`, `addresses` their addresses.

    Without a mask both have the shape that the addresses give; with one, an element for each lane of `where`, which is
    the mask in the shape of the whole access.
    """

    views: Views
    index: Array
    addresses: Array
    where: Array | None


def _bad(g: Lockstep, what: str, place: _Checked, bad: Array, size: int) -> Fault:
    """A fault for the first bad access, with its thread."""
    if place.where is None:
        shape = np.broadcast_shapes(bad.shape, (len(g.warps), LANES))
        rows, lanes = np.nonzero(np.broadcast_to(bad, shape))
        address = int(np.broadcast_to(place.addresses, shape)[rows[0], lanes[0]])
    else:
        rows, lanes = (axis[bad] for axis in np.nonzero(place.where))
        address = int(place.addresses[bad][0])
    g.row, g.lane = int(rows[0]), int(lanes[0])
    return Fault(f"{what} of {size} bytes at {address:#x} ({int(np.count_nonzero(bad))} lanes)")


def _first(place: _Checked, bad: Array) -> int:
    """The first bad address."""
    return int(np.broadcast_to(place.addresses, bad.shape)[bad].ravel()[0])


def _explain(g: Lockstep, space: str, address: int) -> str:
    if space == "global":
        return g.grid.machine.memory.describe(address)
    cta = g.warps[g.row or 0].cta
    try:
        shared, offset = cta.cluster.resolve(address)
    except Fault as fault:
        return fault.message
    return shared.describe(offset) + f"; the CTA has {shared.size} bytes"


def _name(g: Lockstep, space: str, addresses: Array) -> str:
    """The first of some addresses, for a report."""
    address = int(addresses.ravel()[0]) if addresses.size else 0
    if space == "global":
        return f"global {g.grid.machine.memory.name(address)}"
    return f"shared {_explain(g, space, address)}"


def check(
    g: Lockstep, space: str, address: Array, size: int, mask: Mask | None, what: str, data: Array | None = None
) -> _Checked:
    """The access after the checks of alignment and bounds. `data`, if any, takes part in its shape."""
    views, offset = _locate(g, space, address)
    where: Array | None = None
    if mask is not None:
        shape = np.broadcast_shapes(offset.shape, mask.shape, data.shape if data is not None else ())
        where = np.broadcast_to(mask, shape)
        offset = np.broadcast_to(offset, shape)[where]
        address = np.broadcast_to(address, shape)[where]
    else:
        address = np.broadcast_to(address, offset.shape)
    place = _Checked(views, offset >> (size.bit_length() - 1), address, where)
    if offset.size:
        low, high = offset.min(), offset.max()
        if low < 0 or high + size > views.size:
            bad = (offset < 0) | (offset + size > views.size)
            fault = _bad(g, f"{what} out of bounds", place, bad, size)
            fault.hint = _explain(g, space, _first(place, bad))
            raise fault
    if size > 1:
        bad = (offset & (size - 1)) != 0
        if bad.any():
            fault = _bad(g, f"misaligned {what}", place, bad, size)
            fault.hint = f"the address must be a multiple of {size}"
            raise fault
    return place


def _element_wise(bad: Array, place: _Checked, size: int) -> Array:
    """Wrong shadow words as wrong elements: an element of 16 bytes has two words."""
    if size != 16:
        return bad
    low, high = np.moveaxis(bad.reshape(*place.index.shape, 2), -1, 0)
    return low | high


def load(g: Lockstep, space: str, address: Array, size: int, mask: Mask | None) -> Array:
    """Elements of `size` bytes (16: as complex128) at the addresses. With a mask: in the shape of addresses and mask,
    zero elsewhere."""
    if space == "generic":
        return _generic_load(g, address, size, mask)
    place = check(g, space, address, size, mask, "load")
    state, word = _state_words(place.views, place.index, size)
    bad = (state & _LOAD_BITS * _REPEAT[word]) != _LOADED * _REPEAT[word]
    if bad.any():
        bad = _element_wise(bad, place, size)
        fault = _bad(g, "load of memory that was never written (or is not allocated)", place, bad, size)
        fault.hint = _explain(g, space, _first(place, bad))
        raise fault
    found = place.views.data[size][place.index]
    if g.order is not None:
        loads.observe(g, space, place.index * size, size, mask, place.where, write=False)
    if g.recording is not None:
        g.recording.touched(g.warps, space, place, size, written=False)
    if (watch := g.grid.machine.watch) is not None:
        watch.note(place.views.data[size], place.index, lambda: _name(g, space, place.addresses))
    if place.where is None:
        return found
    result = np.zeros(place.where.shape, found.dtype)
    result[place.where] = found
    return result


def store(g: Lockstep, space: str, address: Array, data: Array, size: int, mask: Mask | None) -> None:
    """Writes elements of `size` bytes (uint8 to uint64, or complex128 for 16). Where lanes store to one place, the last
    lane of the last row wins."""
    if space == "generic":
        for part, where, shared in _generic_parts(g, address, mask):
            store(g, shared, part, data, size, where)
        return
    place = check(g, space, address, size, mask, "store", data)
    views, index = place.views, place.index
    state, word = _state_words(views, index, size)
    bad = (state & _STORE_BITS * _REPEAT[word]) != ALLOCATED * _REPEAT[word]
    if bad.any():
        bad = _element_wise(bad, place, size)
        start = int(index[bad].ravel()[0]) * size
        reason = _unwritable(int(np.bitwise_or.reduce(views.state[1][start : start + size])))
        fault = _bad(g, f"store {reason}", place, bad, size)
        fault.hint = _explain(g, space, _first(place, bad))
        raise fault
    if g.order is not None:
        loads.observe(g, space, index * size, size, mask, place.where, write=True)
    if g.recording is not None:
        g.recording.touched(g.warps, space, place, size, written=True)
    if place.where is not None:
        data = np.broadcast_to(data, place.where.shape)[place.where]
    elif data.shape != index.shape:
        shape = np.broadcast_shapes(data.shape, index.shape)
        index, data = np.broadcast_to(index, shape), np.broadcast_to(data, shape)
    views.data[size][index] = data
    mark = _LOADED if space == "global" else _LOADED | UNFENCED
    views.state[size][index] = _MARKS16[mark] if size == 16 else mark * _REPEAT[size]


def _unwritable(state: int) -> str:
    """Why memory with these shadow bits cannot be stored to."""
    if state & BARRIER:
        return "over a live mbarrier"
    if state & READ_ONLY:
        return "to read-only memory"
    if state & READING:
        return f"to shared memory {STILL_READ} (no cp.async.bulk.wait_group.read yet)"
    return "to memory that is not allocated"


_MARKS16 = {mark: np.full(16, mark, np.uint8).view(np.complex128)[0] for mark in (_LOADED, _LOADED | UNFENCED)}


def _generic_parts(g: Lockstep, address: Array, mask: Mask | None) -> list[tuple[Array, Mask | None, str]]:
    """A generic access as (addresses of the space, lanes, space) for each state space that occurs."""
    wide = address.astype(np.uint64)
    is_global = wide >= np.uint64(GLOBAL_BASE)
    shared = wide - np.uint64(SHARED_WINDOW)
    if is_global.all():
        return [(address, mask, "global")]
    if not is_global.any():
        return [(shared, mask, "cluster")]
    lanes = full(mask, len(g.warps))
    return [(wide, is_global & lanes, "global"), (shared, ~is_global & lanes, "cluster")]


def _generic_load(g: Lockstep, address: Array, size: int, mask: Mask | None) -> Array:
    parts = _generic_parts(g, address, mask)
    if len(parts) == 1:
        return load(g, parts[0][2], parts[0][0], size, mask)
    first, second = (load(g, space, part, size, where) for part, where, space in parts)
    return np.where(full(parts[0][1], len(g.warps)), first, second)


def load_uniform(g: Lockstep, space: str, address: int, size: int) -> int:
    """One element that all lanes of a group of one CTA read."""
    if space == "generic":
        space, address = ("global", address) if address >= GLOBAL_BASE else ("cluster", address - SHARED_WINDOW)
    grid = g.grid
    if space == "global":
        views, offset = grid.global_views, address - GLOBAL_BASE
    elif space == "cta":
        offset = address - g.rank_base
        views, offset = grid.shared_views, (offset + g.arena_base if 0 <= offset < grid.stride else -1)
    else:
        return int(load(g, space, np.array([[address]], np.int64), size, None).ravel()[0])
    if g.recording is None and size <= 8 and 0 <= offset <= views.size - size and offset & (size - 1) == 0:
        index = offset >> (size.bit_length() - 1)
        if (views.state[size].item(index) & _LOAD_BITS * _REPEAT[size]) == _LOADED * _REPEAT[size]:
            found = views.data[size].item(index)
            if g.order is not None:
                loads.observe(g, space, np.array([[index * size]]), size, None, None, write=False)
            if (watch := grid.machine.watch) is not None:
                watch.note(views.data[size], index, lambda: _name(g, space, np.array([address])))
            return found
    return int(load(g, space, np.array([[address]], np.uint64), size, None).ravel()[0])
