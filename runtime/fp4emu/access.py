"""Loads and stores of a whole group: address arithmetic, checks and gathers over arrays (`isa.memory`).

An address array has the shape [row, lane], either extent possibly 1; with a mask, only its lanes are touched. Every
access checks alignment, bounds and
the shadow (`fp4emu.memory`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.errors import Fault
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
)

if TYPE_CHECKING:
    from fp4emu.group import Group

Array = NDArray[Any]
_OFFSET = (1 << RANK_SHIFT) - 1
_REPEAT = {n: int.from_bytes(b"\1" * n, "little") for n in (1, 2, 4, 8)}
_LOAD_BITS, _LOADED = ALLOCATED | WRITTEN | BARRIER, ALLOCATED | WRITTEN
_STORE_BITS = ALLOCATED | BARRIER | READ_ONLY | READING


class Views:
    """One arena and its shadow, seen as elements of 1, 2, 4, 8 and 16 bytes."""

    def __init__(self, data: Array, state: Array) -> None:
        kinds = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}
        usable = len(data) // 16 * 16
        self.size = usable
        self.data: dict[int, NDArray[Any]] = {n: data[:usable].view(kind) for n, kind in kinds.items()}
        self.state: dict[int, NDArray[Any]] = {n: state[:usable].view(kind) for n, kind in kinds.items()}


def _state_words(views: Views, index: Any, size: int) -> tuple[Any, int]:
    """Shadow words of the accesses, and the bytes of a word."""
    found = views.state[size][index]
    return (found.view(np.uint64), 8) if size == 16 else (found, size)


def _locate(g: Group, space: str, address: Array) -> tuple[Views, Array]:
    """The arena of a state space and the byte offsets in it, as int64 arrays; negative or too large where out of
    bounds."""
    launch = g.launch
    if space == "global":
        return launch.global_views, (address.astype(np.uint64) - np.uint64(GLOBAL_BASE)).view(np.int64)
    if space == "cta":
        relative = address.astype(np.int64) - g.rank_base
        outside = (relative < 0) | (relative >= launch.stride)
        return launch.shared_views, np.where(outside, -1, relative + g.arena_base)
    value = address.astype(np.int64)
    rank, offset = value >> RANK_SHIFT, value & _OFFSET
    outside = (rank >= launch.cluster_size) | (rank < 0) | (offset >= launch.stride)
    return launch.shared_views, np.where(outside, -1, g.cluster_base + rank * launch.stride + offset)


def _bad(g: Group, what: str, address: Array, bad: Array, size: int, mask: Array | None, hint: str) -> Fault:
    """A fault for the first bad access, with its thread."""
    if mask is None:
        shape = np.broadcast_shapes(address.shape, (len(g.warps), 32))
        rows, lanes = np.nonzero(np.broadcast_to(bad, shape))
        values = np.broadcast_to(address, shape)[rows, lanes]
    else:  # `bad` and `address` have an element for each access of the mask, which the addresses may have widened
        wider = (np.broadcast_shapes(mask.shape, other) for other in ((1, 1), (1, 32), (len(g.warps), 1)))
        fitting = (shape for shape in wider if np.count_nonzero(np.broadcast_to(mask, shape)) == bad.size)
        shape = next(fitting, (len(g.warps), 32))
        rows, lanes = np.nonzero(np.broadcast_to(mask, shape))
        rows, lanes = rows[bad], lanes[bad]
        values = address[bad]
    g.row, g.lane = int(rows[0]) % len(g.warps), int(lanes[0])
    return Fault(
        f"{what} of {size} bytes at {int(values.ravel()[0]):#x} ({int(np.count_nonzero(bad))} lanes)", hint=hint
    )


def _explain(g: Group, space: str, address: int) -> str:
    if space == "global":
        return g.launch.machine.memory.describe(address)
    cta = g.warps[g.row or 0].cta
    try:
        shared, offset = cta.cluster.resolve(address)
    except Fault as fault:
        return fault.message
    return shared.describe(offset) + f"; the CTA has {shared.size} bytes"


def _prepare(
    g: Group, space: str, address: Array, size: int, mask: Array | None, what: str
) -> tuple[Views, Any, Array]:
    """(views, element index, the addresses that are accessed) after the checks of alignment and bounds."""
    views, offset = _locate(g, space, address)
    if mask is not None:
        shape = np.broadcast_shapes(offset.shape, mask.shape)
        where = np.broadcast_to(mask, shape)
        offset = np.broadcast_to(offset, shape)[where]
        address = np.broadcast_to(address, shape)[where]
    if offset.size:
        low, high = offset.min(), offset.max()
        if low < 0 or high + size > views.size:
            bad = (offset < 0) | (offset + size > views.size)
            fault = _bad(g, f"{what} out of bounds", address, bad, size, mask, "")
            fault.hint = _explain(
                g, space, int(address[bad].ravel()[0]) if address.shape == bad.shape else int(address.ravel()[0])
            )
            raise fault
    if size > 1:
        bad = (offset & (size - 1)) != 0
        if bad.any():
            raise _bad(g, f"misaligned {what}", address, bad, size, mask, f"the address must be a multiple of {size}")
    return views, offset >> (size.bit_length() - 1), address


def load(g: Group, space: str, address: Array, size: int, mask: Array | None) -> Array:
    """Elements of `size` bytes (16: as complex128) at the addresses. With a mask: shape of the mask, zero elsewhere."""
    if space == "generic":
        return _generic_load(g, address, size, mask)
    views, index, touched = _prepare(g, space, address, size, mask, "load")
    state, word = _state_words(views, index, size)
    bad = (state & _LOAD_BITS * _REPEAT[word]) != _LOADED * _REPEAT[word]
    if bad.any():
        if size == 16:
            bad = bad.reshape(*touched.shape, 2).any(axis=-1)
        fault = _bad(g, "load of memory that was never written (or is not allocated)", touched, bad, size, mask, "")
        fault.hint = _explain(g, space, int(np.broadcast_to(touched, bad.shape)[bad].ravel()[0]))
        raise fault
    found = views.data[size][index]
    if mask is None:
        return found
    shape = np.broadcast_shapes(address.shape, mask.shape)
    result = np.zeros(shape, found.dtype)
    result[np.broadcast_to(mask, shape)] = found
    return result


def store(g: Group, space: str, address: Array, data: Array, size: int, mask: Array | None) -> None:
    """Writes elements of `size` bytes (uint8 to uint64, or complex128 for 16)."""
    if space == "generic":
        for part, where, shared in _generic_parts(g, address, mask):
            store(g, shared, part, data, size, where)
        return
    views, index, touched = _prepare(g, space, address, size, mask, "store")
    state, word = _state_words(views, index, size)
    bad = (state & _STORE_BITS * _REPEAT[word]) != ALLOCATED * _REPEAT[word]
    if bad.any():
        if size == 16:
            bad = bad.reshape(*touched.shape, 2).any(axis=-1)
        start = int(np.broadcast_to(index, bad.shape)[bad].ravel()[0]) * size
        reason = _unwritable(int(np.bitwise_or.reduce(views.state[1][start : start + size])))
        fault = _bad(g, f"store {reason}", touched, bad, size, mask, "")
        fault.hint = _explain(g, space, int(np.broadcast_to(touched, bad.shape)[bad].ravel()[0]))
        raise fault
    if mask is not None:
        shape = np.broadcast_shapes(address.shape, mask.shape)
        data = np.broadcast_to(data, shape)[np.broadcast_to(mask, shape)]
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


def _generic_parts(g: Group, address: Array, mask: Array | None) -> list[tuple[Array, Array | None, str]]:
    """A generic access as (addresses of the space, lanes, space) for each state space that occurs."""
    shape = np.broadcast_shapes(address.shape, (1, 1) if mask is None else mask.shape)
    lanes = np.ones(shape, np.bool_) if mask is None else np.broadcast_to(mask, shape)
    wide = np.broadcast_to(address, shape).astype(np.uint64)
    is_global = wide >= np.uint64(GLOBAL_BASE)
    parts: list[tuple[Array, Array | None, str]] = []
    if (is_global & lanes).any():
        every = bool((is_global | ~lanes).all())
        parts.append((address if every else wide, mask if every else is_global & lanes, "global"))
    rest = ~is_global & lanes
    if rest.any():
        parts.append(
            (
                np.where(rest, wide - np.uint64(SHARED_WINDOW), np.uint64(0)),
                rest if mask is not None or not rest.all() else None,
                "cluster",
            )
        )
    return parts


def _generic_load(g: Group, address: Array, size: int, mask: Array | None) -> Array:
    parts = _generic_parts(g, address, mask)
    if len(parts) == 1:
        return load(g, parts[0][2], parts[0][0], size, parts[0][1])
    result: Array | None = None
    for part, where, space in parts:
        found = load(g, space, part, size, where)
        result = found if result is None or where is None else np.where(where, found, result)
    if result is None:
        raise Fault("a load that no lane executes")
    return result


def load_uniform(g: Group, space: str, address: int, size: int) -> int:
    """One element that all lanes of a group of one CTA read."""
    if space == "generic":
        space, address = ("global", address) if address >= GLOBAL_BASE else ("cluster", address - SHARED_WINDOW)
    launch = g.launch
    if space == "global":
        views, offset = launch.global_views, address - GLOBAL_BASE
    elif space == "cta":
        offset = address - g.rank_base
        views, offset = launch.shared_views, (offset + g.arena_base if 0 <= offset < launch.stride else -1)
    else:
        return int(load(g, space, np.array([[address]], np.int64), size, None).ravel()[0])
    if size <= 8 and 0 <= offset <= views.size - size and offset & (size - 1) == 0:
        index = offset >> (size.bit_length() - 1)
        if (views.state[size].item(index) & _LOAD_BITS * _REPEAT[size]) == _LOADED * _REPEAT[size]:
            return views.data[size].item(index)
    return int(load(g, space, np.array([[address]], np.uint64), size, None).ravel()[0])
