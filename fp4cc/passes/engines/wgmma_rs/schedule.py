"""What a schedule block may ask of weights in registers."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Schedule
from fp4cc.ir.lowered import NamedBarrier, Problem
from fp4cc.passes.choice.refused import is_harmless, left_to_hopper
from fp4cc.passes.choice.split import split_refusals

#: The rows of x of a tile that no other engine has.
_OWN_ROWS = 256
#: Of FP8: where the multiplying warpgroups take turns, each at its own, and where one agrees on how to go on.
ORDER_BARRIERS = (
    NamedBarrier("ORDER_BARRIER", 6, "mma", "where the first multiplying warpgroup waits for its turn"),
    NamedBarrier("ORDER_BARRIER_2", 7, "mma", "and the second"),
)
SPAN_BARRIERS = (
    NamedBarrier(
        "SPAN_BARRIER", 8, "mma", "where the first asks whether e5m2 holds its weights; the second has the next"
    ),
    NamedBarrier("SPAN_BARRIER_2", 9, "mma", "of the second"),
)
#: What a block may choose.
_OWN_FIELDS = ("tile", "stages", "split_k", "raster")


def obeys(schedule: Schedule | None) -> bool:
    """Whether this engine can do, or has to judge, what a block asks for: tiles of 256 rows are its own."""
    if schedule is None or asks_for_it(schedule):
        return True
    alone = schedule.fields.get("cluster", (1, 1)) in ((1, 1), ("auto",))
    own = (*_OWN_FIELDS, "cluster")
    return alone and all(field in own or is_harmless(field, values) for field, values in schedule.fields.items())


def asks_for_it(schedule: Schedule) -> bool:
    """Whether a block has a tile that only this engine makes."""
    return schedule.fields.get("tile", (0,))[0] == _OWN_ROWS


def too_few_rows(schedule: Schedule) -> Diagnostic:
    """A block asks for a tile that does not have all the rows there may be."""
    rows = schedule.fields["tile"][0]
    what = f"a tile of {rows} rows is for at most {rows} rows of the product"
    way = f"give the block the condition `when M <= {rows}`, of the rows, or ask for a tile of 128"
    return error("FP5010", what, schedule.field_spans["tile"], "there may be more", help=way)


def asked_wrongly(schedule: Schedule, tiles: Sequence[tuple[int, ...]], problem: Problem) -> list[Diagnostic]:
    """What a schedule asks for that this engine does not have."""
    found: list[Diagnostic] = []
    legal = " or ".join(" x ".join(map(str, tile)) for tile in tiles)
    for field, values in schedule.fields.items():
        span = schedule.field_spans[field]
        if field == "tile" and values not in tiles:
            found.append(
                error("FP5010", f"with weights in registers tiles are {legal} here", span, "another tile",
                      help=f"write `tile {' x '.join(map(str, tiles[0]))}`"),
            )  # fmt: skip
        elif field == "cluster" and values != (1, 1):
            found.append(
                error("FP5090", "with weights in registers each CTA is a cluster of its own", span, "another cluster",
                      notes=["tiles of 256 rows are made with weights in registers"],
                      help="write `cluster 1 x 1`, or a tile of 128 rows"),
            )  # fmt: skip
        elif field == "split_k":
            found += split_refusals(schedule, problem)
    return [*found, *left_to_hopper(schedule, (*_OWN_FIELDS, "cluster"))]
