"""Why a lowered kernel is as it is: decisions that kernels of any engine have, for `explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fp4cc.ir.lowered import Decision, Grouped, LoweredKernel, Problem
from fp4cc.passes.choice.schedule import asked_band
from fp4cc.passes.epilogue.asked import is_asked
from fp4cc.passes.epilogue.registry import CONSTRUCTS
from fp4cc.passes.resources.params import Loop
from fp4rt.sizes import text


def explain_schedule(lowered: LoweredKernel) -> Decision:
    """Which schedule block is in use."""
    if lowered.schedule is None:
        others = sum(s.target == lowered.target for s in lowered.kernel.schedules)
        why = "no schedule block of this kernel applies" if others else "this kernel has no schedule block"
        if lowered.when is not None:
            why += "; one of several plans, for the sizes that the model finds it fastest for"
        return Decision("schedule", "the compiler's own", why)
    span = str(lowered.schedule.span)
    if lowered.when is None:
        return Decision("schedule", span, "the first block that holds for the static sizes", chosen_by="schedule")
    return Decision("schedule", span, f"used at a call where {text(lowered.when)}", chosen_by="schedule")


def explain_order(lowered: LoweredKernel, asked: int | None) -> Decision:
    """The order in which clusters take tiles; `asked`: the width of bands that a block asks for."""
    band, problem = lowered.walk.band, lowered.products
    chosen = f"bands of {band} cluster tiles along {problem.n_axis}"
    if band < 2:
        chosen = f"along {problem.m_axis if band else problem.n_axis} first"
    if asked is not None:
        return Decision("order of tiles", chosen, "asked for", chosen_by="schedule")
    why = "clusters that run together share rows of A and columns of B in L2"
    return Decision("order of tiles", chosen, why if band else f"one band holds all of {problem.n_axis}")


def explain_asked_order(lowered: LoweredKernel) -> Iterator[Decision]:
    """The same where a block asks for one."""
    asked = asked_band(lowered.schedule)
    if asked is not None:
        yield explain_order(lowered, asked)


def explain_products(problem: Problem, mainloops: Sequence[Loop]) -> Iterator[Decision]:
    """Which products share loads, and which an accumulator."""
    if len(problem.products) == 1:
        return
    shared = [f"{m.products[0].a.arg} by {' and '.join(p.b.title for p in m.products)}" for m in mainloops]
    why = "products with different left operands take turns in the same stages"
    if len(mainloops) < len(problem.products):
        why = "products with the same left operand load it once"
    yield Decision("mainloops", "; then ".join(shared), why)
    slots = len(problem.accumulators)
    if slots < len(problem.products):
        yield Decision("accumulators of a tile", str(slots), "sums of products without factors between are one",
                       (f"{len(problem.products)}: one for each product",))  # fmt: skip
    else:
        why = "the epilogue uses each product by itself, or with a factor of its own"
        yield Decision("accumulators of a tile", str(slots), why)


def explain_groups(lowered: LoweredKernel) -> Iterator[Decision]:
    """How the tiles of groups of rows are found and counted, where there are groups."""
    walk = lowered.walk
    if not isinstance(walk, Grouped):
        return
    rows, groups, space = walk.rows, text(walk.groups.count), lowered.epilogue.problem
    chosen = f"tiles of {rows} rows, each of one group; one group after another"
    most = f"{text(space.m)} rows fill at most {text(space.m)} // {rows} tiles, and each group has at most one more"
    if not walk.groups.ragged:
        most = f"each of {groups} groups has at most {text(space.m)} rows"
    why = (
        f"how many rows a group has is read on the device from {walk.groups.arg}: the launch is for at most "
        f"{text(walk.tiles_m)} rows of tiles ({most}), and no tile is spent on rows past a group's end"
    )
    yield Decision(f"groups of {space.m_axis}", chosen, why)


def explain_stores(lowered: LoweredKernel) -> list[Decision]:
    """How each output reaches memory."""
    program, found = lowered.epilogue, list[Decision]()
    for output in program.outputs:
        chosen, why = CONSTRUCTS.of_output(output).explained(output, program)
        if is_asked(lowered.schedule, output):
            chosen = "TMA" if output.store.via == "tma" else "plain stores"
            found.append(Decision(f"store of {output.arg}", chosen, "asked for", chosen_by="schedule"))
        else:
            found.append(Decision(f"store of {output.arg}", chosen, why))
    return found
