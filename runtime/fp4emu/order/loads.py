"""Loads and stores of a group, reported row by row (`fp4emu.access`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.instruction import Instruction
from fp4emu.lockstep import Lockstep
from fp4emu.memory import GLOBAL_BASE
from fp4emu.order import rules, together
from fp4emu.order.observer import Observer
from fp4emu.shapes import LANES, Mask, full


def observe(
    g: Lockstep, space: str, start: NDArray[Any], size: int, mask: Mask | None, where: Mask | None, *, write: bool
) -> None:
    """The executing lanes access `size` bytes each at the arena offsets `start`, which have the shape of `access`:
    with `where`, one for each of its lanes."""
    rows = len(g.warps)
    executing = full(g.mask if mask is None else mask, rows)
    if where is not None:
        whole = np.zeros((rows, LANES), np.int64)
        whole[np.broadcast_to(where, (rows, LANES))] = (
            np.broadcast_to(start, where.shape)[where] if (start.shape == where.shape) else start
        )
        start, executing = whole, np.broadcast_to(where, (rows, LANES))
    else:
        start = np.broadcast_to(start, (rows, LANES))
    observer: Observer = g.order
    assert observer.ins is not None
    if not _is_strong(observer.ins) and not (write and observer.locations):
        kind = "global" if space == "global" else "shared"
        if together.access(g, observer, kind, start, size, executing, write=write):
            return
    for row in range(rows):
        lanes = np.flatnonzero(executing[row])
        if len(lanes):
            _row(g, row, space, start[row, lanes], size, lanes, write)


def _row(g: Lockstep, row: int, space: str, start: NDArray[Any], size: int, lanes: NDArray[Any], write: bool) -> None:
    observer: Observer = g.order
    warp, ins = g.warps[row], observer.ins
    assert ins is not None
    g.row = row
    if space == "global":
        assert observer.global_shadow is not None
        _strong(observer, g, row, -1, start, lanes, write=False) if not write else None
        observer.elements(warp, ins, observer.global_shadow, lanes, start, size, write)
        _strong(observer, g, row, -1, start, lanes, write=True) if write else None
    else:
        stride = g.grid.stride
        slots = start // stride
        first = int(slots[0])
        for slot in [first] if (slots == first).all() else np.unique(slots).tolist():
            here = slots == slot
            cta = g.grid.resident[slot]
            offsets = start[here] - slot * stride
            _strong(observer, g, row, id(cta.shared), offsets, lanes[here], write=False) if not write else None
            observer.elements(warp, ins, observer.shared[id(cta)], lanes[here], offsets, size, write)
            _strong(observer, g, row, id(cta.shared), offsets, lanes[here], write=True) if write else None
    g.row = None


def _strong(
    observer: Observer, g: Lockstep, row: int, memory: int, offsets: NDArray[Any], lanes: NDArray[Any], *, write: bool
) -> None:
    """What strong loads acquire and strong stores release; weak stores end what was released at their place."""
    ins = observer.ins
    assert ins is not None
    strong = _is_strong(ins)
    if not strong and not observer.locations:
        return
    for offset, lane in zip(offsets.tolist(), lanes.tolist(), strict=True):
        key = (memory, _address(memory, offset))
        if not write:
            if strong:
                rules.acquired(observer, g.warps[row], lane, ins, key)
        elif strong:
            rules.released(observer, g.warps[row], lane, ins, key)
        else:
            observer.locations.pop(key, None)


def _is_strong(ins: Instruction) -> bool:
    return ins.mod("sem") not in ("", "weak", None)


def _address(memory: int, offset: int) -> int:
    return offset + GLOBAL_BASE if memory < 0 else offset
