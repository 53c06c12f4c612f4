"""What a schedule block may ask of weights in registers."""

from __future__ import annotations

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Schedule
from fp4cc.ir.lowered.wgmma_rs import STAGE_K
from fp4cc.passes.engines.wgmma_rs.estimate import STAGE_CLOCKS

#: Rows of x of a tile: 128 sums a thread, or 64.
ROWS = tuple(STAGE_CLOCKS)


def obeys(schedule: Schedule | None) -> bool:
    """Whether this engine can do, or has to judge, what a block asks for: tiles of 256 rows are its own."""
    if schedule is None or asks_for_it(schedule):
        return True
    alone = schedule.fields.get("cluster", (1, 1)) in ((1, 1), ("auto",))
    return alone and schedule.fields.keys() <= {"tile", "cluster", "stages"}


def asks_for_it(schedule: Schedule) -> bool:
    """Whether a block has a tile that only this engine makes."""
    return schedule.fields.get("tile", (0,))[0] == ROWS[0]


def rows_asked(schedule: Schedule | None) -> int | None:
    """The rows of the tile that a block asks for."""
    asked = schedule.fields.get("tile", ("auto",))[0] if schedule is not None else "auto"
    return asked if isinstance(asked, int) else None


def asked_wrongly(schedule: Schedule, columns: int) -> list[Diagnostic]:
    """What a schedule asks for that this engine does not have."""
    found: list[Diagnostic] = []
    tiles = [(rows, columns, STAGE_K) for rows in ROWS]
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
        elif field not in ("tile", "cluster", "stages"):
            found.append(
                error("FP5013", f"`{field}` cannot be chosen on sm_90a yet", span, "asked for here",
                      help="leave it out"),
            )  # fmt: skip
    return found
