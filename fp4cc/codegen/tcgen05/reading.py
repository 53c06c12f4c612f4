"""How the epilogue warps walk a tile's sums in tensor memory, as text."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp4cc.codegen.context import Panels, Uses
from fp4cc.codegen.epilogue.exchanged import exchanged_reads
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Fragment, fragment
from fp4cc.codegen.fragments import uses as names_read
from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.placing import rows_end
from fp4cc.codegen.walking import WalkText, start, walk_of_exchanged
from fp4cc.ir.lowered import LoweredKernel, Tcgen05
from fp4cc.ir.lowered_epilogue import EpilogueProgram, Half


@dataclass(frozen=True, slots=True)
class HalvesText:
    """Where unzipped accumulators have both halves of a sub-tile: the first column of one, and the distance.

    `what` that is, in words.
    """

    first: str
    second: int
    what: str


def walk_text(lowered: LoweredKernel, epilogue: EpilogueText, uses: Uses) -> WalkText:
    """Where two accumulators share columns, every second tile is walked from its end, so that these are free first.

    Promoted sums are in shared memory by then.
    """
    program, wide = lowered.epilogue, lowered.epilogue.subtile
    if lowered.promotion is not None:
        # Every thread has found its row already, for its scale.
        reads = exchanged_reads(program, 1, lowered.tile.n)
        return walk_of_exchanged(program, epilogue, replace(uses, row=False), reads)
    overlapped = lowered.engine_as(Tcgen05).tmem.overlapped(lowered.tile.n)
    panels = Panels.of(program, epilogue)
    first = f"{panels.subtiles} * panel"
    if overlapped:
        first += f" if buffer == 1 else {panels.subtiles} * ({panels.count - 1} - panel)"
    panel = fragment(f"first_subtile = {first}", f"panel0 = n0 + {wide} * first_subtile")
    counter = "step" if epilogue.walks or overlapped else "subtile"
    last = program.tile_n - wide if overlapped else None
    tile = start(uses, wide, last, rows_end(lowered))
    return WalkText(counter, tile, panel, fragment(f"column = n0 + {wide} * subtile"))


def _turn(program: EpilogueProgram, epilogue: EpilogueText, overlapped: bool) -> str:
    """The number of a sub-tile in the order in which they are stored."""
    if not (program.panel and epilogue.walks):
        return "step" if overlapped else "subtile"
    return f"{program.panel // program.subtile} * panel + step" if overlapped else "subtile"


@dataclass(frozen=True, slots=True)
class SlotText:
    """An accumulator of a tile: its name, and what is added to the column of the first one."""

    name: str
    at: str

    @classmethod
    def all(cls, lowered: LoweredKernel) -> list[SlotText]:
        """Those of a tile."""
        return [cls(f"acc{numbered(slot)}", _slot_offset(slot)) for slot in range(len(lowered.products.accumulators))]


@dataclass(frozen=True, slots=True)
class AccumulatorText:
    """What a walk reads of an accumulator: a list of 32 columns, and a second one where it holds both halves."""

    first: str
    second: str | None
    at: str  # what is added to the column of a tile's first accumulator

    @classmethod
    def all(cls, lowered: LoweredKernel) -> list[AccumulatorText]:
        """Those of a tile."""
        halves = lowered.epilogue.group is not None
        return [
            cls(
                first=f"acc{numbered(2 * slot if halves else slot)}",
                second=f"acc{numbered(2 * slot + 1)}" if halves else None,
                at=_slot_offset(slot),
            )
            for slot in range(len(lowered.products.accumulators))
        ]

    def used(self, walk: Fragment) -> bool:
        """Whether a walk reads it."""
        return bool({self.first, self.second} & names_read(walk))


def halves_text(lowered: LoweredKernel) -> HalvesText | None:
    group, width = lowered.epilogue.group, lowered.epilogue.subtile
    if group is None:
        return None
    # Columns that take turns in less than a sub-tile are read as they lie, and then sorted out.
    run = max(group, width)
    first = f"{2 * width} * subtile"
    what = f"{group} columns of the first half, then as many of the second"
    if group < width:
        what = f"Both halves of the sub-tile lie in {2 * width} adjacent columns, in turns of {group}"
    if run > width:
        first = whole_index(Half(0, run), f"{width} * subtile", "", step=width)
    return HalvesText(first, run, what)


def _slot_offset(slot: int) -> str:
    """What is added to the column of a tile's first accumulator to get another's."""
    return "" if slot == 0 else " + TILE_N" if slot == 1 else f" + {slot} * TILE_N"


@dataclass(frozen=True, slots=True)
class ReleaseText:
    """Where a walk frees its accumulator: `turn` is the number of a sub-tile in the order in which they are stored."""

    turn: str
    step: int
    why: str
    arguments: tuple[str, ...]  # of the arrival

    @property
    def arrival(self) -> str:
        """The arrival in one line."""
        return f"prims.mbarrier_arrive({', '.join(self.arguments)})"


def release_text(lowered: LoweredKernel, epilogue: EpilogueText) -> ReleaseText:
    """After the last sub-tile, or where accumulators share columns, after the last of these.

    The arrival is relaxed, for it hands over tensor memory only (docs/decisions/0004).
    """
    program, tmem = lowered.epilogue, lowered.engine_as(Tcgen05).tmem
    overlapped = tmem.overlapped(lowered.tile.n)
    # Of an unzipped product a sub-tile takes as many columns from each half.
    columns = program.subtile * (1 if program.group is None else 2)
    barrier = "acc_empty" if overlapped else "acc_empty.subview(acc_stage)"
    if lowered.tile.ctas == 2:
        barrier = f"prims.mapa({barrier}, rank - rank % 2)"
    return ReleaseText(
        turn=_turn(program, epilogue, overlapped),
        step=tmem.release_after - 1 if overlapped else lowered.tile.n // columns - 1,
        why="what the next tile overwrites has been read" if overlapped else "all of it has been read",
        arguments=(barrier, "relaxed=True"),
    )
