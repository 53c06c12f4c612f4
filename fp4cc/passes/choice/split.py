"""Into how many parts K is split: what a schedule block asks for, or what takes the least time in an engine's model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Expr, Schedule
from fp4cc.ir.lowered import Problem
from fp4cc.ir.lowered.split import PARTS
from fp4cc.ir.sizes import fold, free_names, mul
from fp4cc.passes.choice.cases import Candidate, Case, Fields
from fp4rt.plan import MOST_PARTS

#: More than there are parts to choose from.
_DIGIT = 16
#: Where parts meet: two trips to L2, and the bytes that an SM moves to or from it in a clock.
_MEETING, _BYTES_PER_CLOCK = 2000, 32


#: A number of parts, or as many as take the least time.
Parts: TypeAlias = int | Literal["auto"]
#: What a plan costs that may split K, but does not at a call's sizes: to divide work items, and to ask.
AUTO_CLOCKS = 150


def asked_split(schedule: Schedule | None) -> Parts:
    """The parts that a block asks for: 1 where it says nothing."""
    asked = schedule.fields.get("split_k", (1,))[0] if schedule is not None else 1
    return asked if isinstance(asked, int) else "auto"


@dataclass(frozen=True, slots=True)
class Picked:
    """What a candidate of an engine stands for: a tile, as the engine has it, and into how many parts K is split."""

    tile: object = None
    parts: Parts = 1


def parts_asked(case: Case, sizes: Iterable[Expr], *, splittable: bool = True) -> Parts:
    """The parts that a case asks for: of a block, of a candidate, or the best where all sizes are known.

    `splittable`: whether the compiler may split K by itself.
    """
    if case.schedule is not None:
        return asked_split(case.schedule)
    if isinstance(case.pick, Picked):
        return case.pick.parts
    return "auto" if splittable and case.pick is None and not any(map(free_names, sizes)) else 1


def in_parts(plain: Candidate, clocks: Callable[[int], Expr], pick: object) -> Candidate:
    """A candidate whose K is split by the sizes of a call, beside that without a split."""
    split = fold("add", least_clocks("auto", clocks), AUTO_CLOCKS)
    return Candidate(f"{plain.label}, K in parts", split, pick, plain.within, plain)


def split_blocks() -> list[Fields]:
    """The fields by which blocks ask for each number of parts that `auto` knows; none for one part."""
    return [{} if parts == 1 else {"split_k": (parts,)} for parts in PARTS]


def split_refusals(schedule: Schedule, problem: Problem | None = None, mainloops: int = 1) -> list[Diagnostic]:
    """Why K cannot be split as a block asks: too many parts, rows in groups, or more than one way along K."""
    asked = asked_split(schedule)
    if asked == 1:
        return []
    span, found = schedule.field_spans["split_k"], list[Diagnostic]()
    if asked != "auto" and asked > MOST_PARTS:
        found.append(
            error("FP4030", f"K is not split into {asked} parts", span, f"at most {MOST_PARTS}",
                  notes=["the last CTA to arrive at a tile adds up the sums of all parts, in their order"],
                  help=f"write `split_k {MOST_PARTS}` or `split_k auto`"),
        )  # fmt: skip
    if problem is not None and problem.groups is not None:
        found.append(
            error("FP4031", "K is not split for rows in groups", span, "asked for here",
                  notes=["how many tiles there are is known on the device alone, and a tile's parts meet in memory "
                         "that is counted before"],
                  help="leave `split_k` out"),
        )  # fmt: skip
    if problem is not None and problem.contracted is not None:
        found.append(
            error("FP4031", "K is not split where it is rows in groups", span, "asked for here",
                  notes=["a group's part of K is a tile's by itself, and how long it is, is known on the device alone"],
                  help="leave `split_k` out"),
        )  # fmt: skip
    if mainloops > 1:
        found.append(
            error("FP4032", "K is not split where products have different left operands", span, "asked for here",
                  notes=["each has a way of its own along K, one after the other"], help="leave `split_k` out"),
        )  # fmt: skip
    return found


def meeting_clocks(parts: int, part_bytes: int) -> int:
    """About how long a CTA takes to store its part's sums and, of the last one, to add up those of all parts."""
    return _MEETING + part_bytes * (1 + parts) // _BYTES_PER_CLOCK


def parts_of(asked: Parts, clocks: Callable[[int], Expr]) -> Expr:
    """The parts of K, as a size: of `auto` those that take the fewest clocks, of equal ones the fewest parts."""
    return fold("mod", _numbered(clocks), _DIGIT) if asked == "auto" else asked


def least_clocks(asked: Parts, clocks: Callable[[int], Expr]) -> Expr:
    """The time with the parts that `parts_of` has chosen."""
    return fold("floordiv", _numbered(clocks), _DIGIT) if asked == "auto" else clocks(asked)


def _numbered(clocks: Callable[[int], Expr]) -> Expr:
    """The least clocks, and below them the parts that take them: one formula for both, evaluated once at a call."""
    return fold("min", *(fold("add", mul(clocks(parts), _DIGIT), parts) for parts in PARTS))
