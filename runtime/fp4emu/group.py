"""Warps that run in lockstep.

A group is a set of warps (rows), of one or several CTAs, that are at the same place of the program; its registers are
arrays over all of them. It
splits where the warps' control flow differs and merges with groups that it meets at the same block, so that e.g. the
four epilogue warps of all CTAs
run as one. Inside of a group, lanes diverge along paths: each has a block and a mask; the path with the lowest block
runs first, and paths that
meet at a block become one (reconvergence).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from fp4emu.builder import LANE0, NOT_LANE0
from fp4emu.errors import Place
from fp4emu.generate import Specialised
from fp4emu.grid import Grid
from fp4emu.instruction import Immediate, Register
from fp4emu.lockstep import BLOCKED, EXIT, SPLIT, TABLE, Lockstep, Rows
from fp4emu.looks import Looks
from fp4emu.machine import WarpContext
from fp4emu.paths import Path, whole
from fp4emu.program import Program
from fp4emu.registry import Wait
from fp4emu.representation import Context
from fp4emu.rows import concatenate, kind_of, rows_of
from fp4emu.shapes import LANES, Mask
from fp4emu.spin import Read, Snapshot

_WATCHED = 256  # blocks after which a group looks at the clock
_TURN = 4096  # blocks that a group may run before others get their turn


class Scheduler(Protocol):
    """Who runs groups (`fp4emu.launch`), as a group sees it. `meeting` are the blocks at which others wait for it."""

    meeting: set[int]

    def add(self, group: Group) -> None:
        """Rows have become a group of their own."""

    def finish(self, group: Group) -> None:
        """All lanes of a group have exited."""

    def check_time(self) -> None:
        """`TimeOver` once the launch's time is over."""


class Group(Lockstep):
    """Rows in lockstep and their paths; see the module."""

    def __init__(
        self, grid: Grid, program: Program, scheduler: Scheduler, warps: list[WarpContext], live: Mask | None
    ) -> None:
        super().__init__(grid, warps, live)
        self.program, self.flow = program, program.flow
        self.scheduler = scheduler
        self.regs: list[Any] = [None] * len(self.flow.bits)
        self.paths = [Path(0, live)]
        self.age = 0
        self.left = _TURN
        self.polls: tuple[Read, ...] = ()

    # --- running ---

    def front(self) -> Path:
        """The path that runs next: the first that does not wait, those that had fewer turns before the others. The
        lowest block comes first, so that lanes meet again where their ways join."""
        return next((path for path in self.paths if not path.waits), self.paths[0])

    def run(self, limit: int) -> str:
        """Runs paths until all wait ("blocked"), all lanes have exited ("exit"), one reaches `limit` or another group
        ("yield"), rows were split off ("split") or a path's turn is over ("turn")."""
        path = self.front()
        path.waits = {}
        try:
            outcome = self._run(path, limit)
        finally:
            self.grid.machine.watch = None
        if outcome != "yield":
            self.left = _TURN
        return outcome

    def _run(self, path: Path, limit: int) -> str:
        code = path.code or self._code(path)
        blocks, looks = self.flow.blocks, Looks(self.grid.machine, path.spun)
        while True:
            if blocks[code.block].members is not None and len(self.paths) > 1 and self._misses(path):
                path = self.front()
                if path.waits:
                    return "blocked"
                code = self._code(path)
                continue
            self.mask = path.mask
            if self.recording is not None:
                executing = None if path.mask is None else self.full(path.mask)
                self.recording.enter(self.warps, executing, code.block)
            way = code.run(self.regs, self)
            self.left -= 1
            if not self.left % _WATCHED:
                self.scheduler.check_time()
            if way < SPLIT or way >= TABLE:
                path.block = self.flow.successor(code.block, way)
                if len(self.paths) > 1 and self._meets(path):
                    path = self.front()
                    following = self._code(path)
                else:
                    following = code.links.get(way)
                    if following is None:
                        following = code.links[way] = self._code(path)
            else:
                path.code = None
                if way == BLOCKED:
                    if self.recording is not None:
                        self.recording.leave(self.warps, self.waits)
                    return self._block(path)
                if way == EXIT:
                    if not self._exit(path, path.mask):
                        return "exit"
                elif way == SPLIT and self._split_rows(path, code.block):
                    return "split"
                path = self.front()
                following = None
            if path.waits:
                return "blocked"
            if path.block <= code.block and looks.due(blocks[code.block].quiet):
                if looks.spins(path.block, self._state):
                    path.waits = {self._first_row(path): looks.wait()}
                    path.code, path.spun, path = None, True, self.front()
                    following = None
                    if path.waits:
                        return "blocked"
            elif looks.watching and not blocks[code.block].quiet:
                looks.stop()
            code = following or self._code(path)
            if self.left <= 0:
                return self._end_turn(path, code, looks)
            if path.block >= limit or (path.block in self.scheduler.meeting and self.mergeable()):
                path.code = code
                return "yield"

    def _end_turn(self, path: Path, code: Specialised, looks: Looks) -> str:
        """The path goes behind the others."""
        path.code = code
        path.age += 1
        self.polls = looks.seen
        if len(self.paths) > 1:
            self._sort()
        return "turn"

    def _state(self) -> Snapshot:
        """Where the paths are, and all that they may read."""
        needed = 0
        for path in self.paths:
            needed |= self.flow.blocks[path.block].live_in
        places = [item for path in self.paths for item in (path.block, path.mask)]
        return places, [value for slot, value in enumerate(self.regs) if needed >> slot & 1]

    def _first_row(self, path: Path) -> int:
        return int(np.flatnonzero(self.full(path.mask).any(axis=1))[0])

    def _misses(self, path: Path) -> bool:
        """Has the path wait if lanes of the membermask before it are on other paths: they come here, or the deadlock is
        a fault (PTX ISA 9.7.13.9 and others: all lanes of the mask must execute the instruction)."""
        members = self.flow.blocks[path.block].members
        if isinstance(members, Register):
            named = self.regs[self.flow.slots[members.name]]
            if isinstance(named, tuple):
                return False
        else:
            named = members.value & 0xFFFF_FFFF if isinstance(members, Immediate) else 0
        mine = self.full(path.mask)
        words = np.asarray(0 if named is None else named).astype(np.uint32)
        if words.ndim == 2 and words.shape[1] == LANES:  # each lane has its own, the same or that of its tile
            words = np.bitwise_or.reduce(np.where(mine, words, np.uint32(0)), axis=1, keepdims=True)
        lanes = (words >> np.arange(32, dtype=np.uint32)) & 1
        rows = np.flatnonzero(
            (mine.any(axis=1, keepdims=True) & (lanes != 0) & self.full(self.live) & ~mine).any(axis=1)
        )
        for row in rows.tolist():
            path.waits[row] = Wait(lambda: False, lambda: "the lanes of its membermask have not met", meets=True)
        return bool(path.waits)

    def _code(self, path: Path) -> Specialised:
        keep, live = 0, self.flow.blocks
        for other in self.paths:
            if other is not path:
                keep |= live[other.block].live_in
        mask = "F" if path.mask is None else ("E" if path.mask is LANE0 else "D")
        context = Context(self.single_row, self.single_cta, self.single_rank, mask, keep)
        regs = self.regs
        kinds = tuple([kind_of(regs[slot]) for slot in self.flow.tracked(path.block, keep)])
        return self.program.specialise(path.block, context, kinds)

    def _meets(self, path: Path) -> bool:
        """Restores the order of paths after one moved, merging those at one block. False if the moved path still runs
        alone in front."""
        others = [p for p in self.paths if p is not path]
        for other in others:
            if other.block == path.block:
                path.meet(other, self.live)
                path.waits = {}
                others.remove(other)
                break
        else:
            if all(path.key < other.key for other in others if not other.waits):
                return False
        self.paths = [path, *others]
        self._sort()
        return True

    def _sort(self) -> None:
        """Puts the paths in the order in which they run. What other paths keep has changed with their places."""
        self.paths.sort(key=lambda path: path.key)
        for path in self.paths:
            path.code = None

    def _exit(self, path: Path, leaving: Mask | None) -> bool:
        """Ends the lanes of a mask; False if none is left."""
        self.paths.remove(path)
        if not self.paths:
            return False
        self.live = self.full(self.live) & ~self.full(leaving)
        return True

    def _split_rows(self, path: Path, block: int) -> bool:
        """A branch that lanes take differently: by rows if each warp is of one mind (True), else along two paths."""
        assert self.taken is not None
        way = self.way
        successor = block if way >= TABLE else block + 1
        target = -1 if way == EXIT else self.flow.successor(block, way)
        taken = self.full(self.taken)
        if path.mask is None and len(self.paths) == 1 and not self.single_row:
            some, every = taken.any(axis=1), taken.all(axis=1)
            if (some == every).all():
                # Each part keeps the registers that are live where it goes on.
                path.block = target if target >= 0 else successor
                other = self.select(np.flatnonzero(every))
                path.block = successor
                self.shrink(np.flatnonzero(~every))
                other.paths[0].block = target
                if target >= 0:
                    self.scheduler.add(other)
                else:
                    self.scheduler.finish(other)
                return True
        rest = ~self.taken if path.mask is None else path.mask & ~self.taken
        if path.mask is None and self.taken is NOT_LANE0:
            rest = LANE0
        if way == EXIT:
            self.live = self.full(self.live) & ~taken
            if path.mask is None or len(self.paths) == 1:
                rest = self.live
            path.mask, path.block = rest, successor
            self._drop_dead_rows()
            return False
        path.mask, path.block = rest, successor
        self._join(Path(target, self.taken, age=path.age))
        self._settle(path)
        return False

    def _join(self, path: Path) -> None:
        for other in self.paths:
            if other.block == path.block:
                other.meet(path, self.live)
                other.waits = {}
                return
        self.paths.append(path)
        self._sort()

    def _settle(self, path: Path) -> None:
        """Merges a moved path with one that was already there."""
        for other in self.paths:
            if other is not path and other.block == path.block:
                self.paths.remove(other)
                path.meet(other, self.live)
        self._sort()

    def _drop_dead_rows(self) -> None:
        """Rows without a live lane leave the group, as their warps have ended."""
        if self.live is None or self.single_row:
            return
        alive = self.live.any(axis=1)
        if not alive.all():
            dead = self.select(np.flatnonzero(~alive))
            self.shrink(np.flatnonzero(alive))
            self.scheduler.finish(dead)
        if self.live.all():
            self.live = None
            if len(self.paths) == 1:
                self.paths[0].mask = None

    def _block(self, path: Path) -> str:
        """Some or all rows wait. Rows that could go on are split off as a group of their own."""
        waits, self.waits = self.waits, {}
        full = self.full(path.mask)
        going = [row for row in range(len(self.warps)) if row not in waits and full[row].any()]
        if going and len(going) + len(waits) <= len(self.warps):
            idle = [row for row in range(len(self.warps)) if row not in waits and row not in going]
            here = path.block
            path.block = here + 1  # so that they keep what the instruction gave them
            rest = self.select(np.array(going))
            path.block = here
            moved = next(p for p in rest.paths if p.block == here + 1)
            path.waits = waits
            self.shrink(np.array(sorted([*waits, *idle])))
            rest._settle(moved)
            self.scheduler.add(rest)
            return "split"
        path.waits = waits
        return "blocked"

    # --- rows ---

    def select(self, rows: Rows) -> Group:
        """A new group of some of the rows, with their registers and paths."""
        live = None if self.live is None else self.live[rows]
        if live is not None and live.all():
            live = None
        other = Group(self.grid, self.program, self.scheduler, [self.warps[row] for row in rows], live)
        other.age = self.age
        other.paths = []
        for path in self.paths:
            mask = None if path.mask is None else (path.mask if path.mask.shape[0] == 1 else path.mask[rows])
            if mask is not None and not mask.any():
                continue
            other.paths.append(Path(path.block, whole(mask, live) if mask is not None else live, age=path.age))
        if not other.paths:
            other.paths.append(Path(self.paths[0].block, live))
        needed = 0
        for path in self.paths:
            needed |= self.flow.blocks[path.block].live_in
        single = len(rows) == 1
        for slot, value in enumerate(self.regs):
            if value is not None and needed >> slot & 1:
                other.regs[slot] = rows_of(value, rows, single)
        return other

    def shrink(self, rows: Rows) -> None:
        """Keeps only some rows, in place."""
        position = {row: index for index, row in enumerate(rows.tolist())}
        waits = {
            path.block: {position[row]: wait for row, wait in path.waits.items() if row in position}
            for path in self.paths
        }
        other = self.select(rows)
        self.warps, self.live, self.regs, self.paths = other.warps, other.live, other.regs, other.paths
        for path in self.paths:
            path.waits = waits[path.block]
        self.describe_rows()

    def mergeable(self) -> bool:
        """Whether it may take other groups in: one path, all lanes alive."""
        return len(self.paths) == 1 and self.live is None and self.paths[0].mask is None

    def absorb(self, others: list[Group]) -> None:
        """Takes in the rows of groups at the same block; their waits are tried again."""
        groups = [self, *others]
        block = self.paths[0].block
        sizes = [len(group.warps) for group in groups]
        regs: list[Any] = [None] * len(self.regs)
        for slot in self.flow.blocks[block].live_slots:
            regs[slot] = concatenate([group.regs[slot] for group in groups], sizes, self.flow.bits[slot])
        self.warps = [warp for group in groups for warp in group.warps]
        self.regs = regs
        self.paths = [Path(block, None)]
        self.age = max(group.age for group in groups)
        self.describe_rows()

    def place(self) -> Place:
        """Who is executing, as far as known."""
        warp = self.warps[self.row if self.row is not None and self.row < len(self.warps) else 0]
        return Place(entry=self.program.function.name, cta=warp.cta.id, warp=warp.index, lane=self.lane)
