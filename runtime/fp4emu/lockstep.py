"""Warps in lockstep, as generated code and handlers of instructions see them: who executes, and where a branch leads.

How they are run, split and merged is `fp4emu.group`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.errors import Fault
from fp4emu.grid import Grid
from fp4emu.machine import WarpContext
from fp4emu.registry import Wait
from fp4emu.shapes import LANES, Mask, full, words

# What a block's function returns.
NEXT, TAKEN, SPLIT, EXIT, BLOCKED = 0, 1, 2, 3, 4
TABLE = 16  # and above: the entry of a branch table


class Lockstep:
    """Rows (warps) at one place of the program. Attributes in lower case are read by generated code and handlers.

    `live`: the lanes that have not exited, None for all. `mask`: those that execute the running block. `waits`: what
    rows wait for after a blocking instruction. `row`, `lane`: who is executing, as far as known, for a fault. `eager`:
    rows that are ready may go on without the others. `impatient`: waits that may give up do so now.
    """

    def __init__(self, grid: Grid, warps: list[WarpContext], live: Mask | None) -> None:
        self.grid = grid
        self.warps = warps
        self.live = live
        self.mask: Mask | None = live
        self.taken: Mask | None = None
        self.way = NEXT
        self.waits: dict[int, Wait] = {}
        self.row: int | None = None
        self.lane: int | None = None
        self.eager = False
        self.impatient = False
        self.cache: dict[str, Any] = {}
        """Special registers (`fp4emu.special`) that have been read."""
        self.order = grid.machine.order
        self.recording = grid.machine.recording
        self.describe_rows()

    def describe_rows(self) -> None:
        """What the rows have in common, and where their memories lie; again whenever the rows have changed."""
        self.cache.clear()
        warps = self.warps
        first = warps[0].cta
        self.single_row = len(warps) == 1
        self.single_cta = all(warp.cta is first for warp in warps)
        self.single_rank = self.single_cta or all(warp.cta.rank == first.rank for warp in warps)
        offset = self.grid.arena_offset
        self.rank_base = self._per_row([warp.cta.shared.base for warp in warps], np.uint32, self.single_rank)
        self.cluster_base = self._per_row(
            [offset(warp.cta.cluster.ctas[0]) for warp in warps], np.int64, self.single_cta
        )
        self.arena_base = self._per_row([offset(warp.cta) for warp in warps], np.int64, self.single_cta)

    def _per_row(self, values: list[int], dtype: Any, same: bool) -> Any:
        return values[0] if same else np.array(values, dtype).reshape(-1, 1)

    def full(self, mask: Mask | None) -> Mask:
        """A mask as an array of all rows and lanes."""
        return full(mask, len(self.warps))

    # --- called by generated code ---

    def branch(self, predicate: Mask, mask: Mask | None, way: int) -> int:
        """The way out at a branch whose predicate is not uniform."""
        if mask is None:
            if predicate.all():
                return way
            if not predicate.any():
                return NEXT
            self.taken = predicate
        else:
            taken = predicate & mask
            if not taken.any():
                return NEXT
            if not (mask & ~predicate).any():
                return way
            self.taken = taken
        self.way = way
        return SPLIT

    def branch_table(self, index: Any, mask: Mask | None, count: int) -> int:
        """brx.idx: the entry; lanes with other entries stay at the branch."""
        if not isinstance(index, np.ndarray):
            return TABLE + index
        every = self.full(mask)
        chosen = np.broadcast_to(index, every.shape)
        entry = int(chosen[every][0])
        taken = every & (chosen == entry)
        if (taken == every).all():
            return TABLE + entry
        self.taken, self.way = taken, TABLE + entry
        return SPLIT

    def trap(self, mask: Mask | None) -> None:
        """The fault of `trap`, if a lane executes it."""
        if self._first_lane(mask):
            raise Fault("trap", hint="the kernel stopped itself: an assertion or an unreachable place")

    def undefined(self, mask: Mask | None, name: str) -> None:
        """The fault of a call that cannot be followed, if a lane executes it."""
        if self._first_lane(mask):
            raise Fault(f"a call of {name}, which the module does not define", hint="assertions and printf end here")

    def _first_lane(self, mask: Mask | None) -> bool:
        """Notes the first executing lane for a fault; False if there is none."""
        if mask is not None:
            rows, lanes = np.nonzero(self.full(mask))
            if not len(rows):
                return False
            self.row, self.lane = int(rows[0]), int(lanes[0])
        return True

    # --- called by handlers ---

    def executing(self, mask: Mask | None) -> list[tuple[int, WarpContext, int]]:
        """(row, warp, lane mask) of each warp that executes."""
        if mask is None:
            return [(row, warp, 0xFFFF_FFFF) for row, warp in enumerate(self.warps)]
        lanes: list[int] = words(self.full(mask)).tolist()
        return [(row, self.warps[row], word) for row, word in enumerate(lanes) if word]

    def live_lanes(self, row: int) -> int:
        """The lanes of a warp that have not exited, as bits."""
        if self.live is None:
            return (1 << LANES) - 1
        return int(words(self.live[row : row + 1])[0])


Rows = NDArray[np.intp]
