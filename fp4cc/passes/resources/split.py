"""What K shared by CTAs takes: a longer way over the tiles, sizes, and partial sums and arrivals in the workspace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import Decision, KernelParam, LoweredKernel, NamedBarrier, RoleName, Size, SmemBuffer, Walk
from fp4cc.ir.lowered.split import ARRIVALS_PARAM, PARTS, SPLIT_WORDS, SUMS_PARAM, Split
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.ir.sizes import ceildiv, fold, mul, where
from fp4rt.manifest import Init, Param
from fp4rt.plan import WORKSPACE

#: Where the threads that have sums meet, before and after one of them counts the arrival of their part.
_BARRIER = "SPLIT_BARRIER"
_ALIGNMENT = 256
_ADDED = (
    "a CTA makes one part of a tile, runs the epilogue and adds what comes of it to the output by atomics: no "
    "workspace, and bits that depend on the order where sums are not exact"
)


def plan_split(
    parts: Expr, k_tiles: Expr, threads: int, sums: int, *, filled: bool = False, adds: bool = False
) -> Split | None:
    """How K is shared; None where a CTA has all of it.

    `filled`: in no more parts than have steps. 5 steps in 4 parts are 2, 2 and 1; K of 0 is one part. `adds`: each part
    adds to the output by itself.
    """
    if parts == 1:
        return None
    steps = fold("ceildiv", k_tiles, parts)
    if filled:
        steps = fold("max", steps, 1)
        parts = fold("max", fold("ceildiv", k_tiles, steps), 1)
    return None if parts == 1 else Split(parts, steps, threads, sums, adds)


def over_parts(walk: Walk, split: Split | None) -> Walk:
    """The way over the tiles, or over all parts of each."""
    return walk if split is None else replace(walk, tiles=mul(walk.tiles, split.parts))


def split_sizes(split: Split | None) -> list[Size]:
    """The sizes that a kernel uses."""
    if split is None:
        return []
    return [Size("splits", split.parts, "parts of K"), Size("k_part", split.steps, "steps of a part")]


def split_barriers(split: Split | None, role: RoleName) -> tuple[NamedBarrier, ...]:
    """Where those threads of a role meet."""
    if split is None or split.adds:
        return ()
    return (NamedBarrier(_BARRIER, 5, role, "of the threads with a part's sums"),)


def split_words(split: Split | None) -> tuple[SmemBuffer, ...]:
    """What it takes of shared memory."""
    if split is None or split.adds:
        return ()
    return (SmemBuffer(SPLIT_WORDS, 0, 8, 1, 8, "whether a part of K was the last of its tile to arrive"),)


def with_parts(
    program: EpilogueProgram, tiles: Expr, split: Split | None
) -> tuple[EpilogueProgram, tuple[KernelParam, ...]]:
    """The program with partial sums and arrivals in its workspace, and the parameters. `tiles`: not counting parts."""
    if split is None or split.adds:
        return program, ()
    several: Expr = fold("lt", 1, split.parts)
    start = _aligned(program.workspace)
    # The counts come first: then few places need the parts, whose formula is a long one. Of one part there is nothing.
    at = _sum(start, where(several, _aligned(mul(tiles, 4)), 0))
    params = (
        KernelParam(SUMS_PARAM, Param("pointer", WORKSPACE, at), "sums of each part of each tile"),
        KernelParam(ARRIVALS_PARAM, Param("pointer", WORKSPACE, start), "parts that have arrived, by tile"),
    )
    init = (*program.init, Init(WORKSPACE, where(several, tiles, 0), 0, 4, start, kept=True))
    own = _sum(_aligned(mul(tiles, 4)), mul(tiles, split.parts, split.part_bytes))
    return replace(program, workspace=_sum(start, where(several, own, 0)), init=init), params


def _aligned(size: Expr) -> Expr:
    return mul(ceildiv(size, _ALIGNMENT), _ALIGNMENT)


def explain_split(lowered: LoweredKernel, alternatives: tuple[str, ...] = ()) -> Iterator[Decision]:
    """Why K is shared, and what that takes; `alternatives`: other numbers of parts, and what they would cost."""
    split = lowered.split
    if split is None:
        return
    asked = None if lowered.schedule is None else lowered.schedule.fields["split_k"][0]
    chosen = f"{asked if isinstance(asked, int) else split.parts} parts"
    if split.may_be_whole:
        by_size = f"{', '.join(map(str, PARTS))} parts, by a call's sizes"
        chosen = f"{asked} parts, fewer where K has fewer steps" if isinstance(asked, int) else by_size
    joined = (
        f"a CTA makes one part of a tile; the last to arrive adds up all, in their order, and runs the epilogue: "
        f"{split.part_bytes} bytes of f32 sums in the workspace for each part of a tile"
    )
    why = _ADDED if split.adds else joined
    if split.may_be_whole and not isinstance(asked, int):
        why = f"as many as take the least time in the model; {why}"
    yield Decision("split of K", chosen, why, alternatives, "schedule" if lowered.schedule is not None else "compiler")


def _sum(a: Expr, b: Expr) -> Expr:
    return b if a == 0 else a if b == 0 else fold("add", a, b)
