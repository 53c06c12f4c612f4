"""How an epilogue walks a tile, as statements: what it finds out once a tile, a panel and a sub-tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4cc.codegen.context import Uses
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Fragment, fragment
from fp4cc.ir.lowered_epilogue import EpilogueProgram


@dataclass(frozen=True, slots=True)
class WalkText:
    """`counter` counts the sub-tiles of a walk; the rest stands at the start of a tile, a panel and a sub-tile."""

    counter: str
    tile: Fragment
    panel: Fragment
    subtile: Fragment


def walk_of_rows(program: EpilogueProgram, epilogue: EpilogueText, uses: Uses, end: str = "m_size") -> WalkText:
    """Where nothing was multiplied: sub-tiles one after the other. `end`: as of `start`."""
    wide = program.subtile
    if program.by_lanes:
        return _walk_of_lanes(epilogue, uses, wide, end)
    column = f"panel0 + {wide} * step" if epilogue.walks else f"n0 + {wide} * subtile"
    return WalkText(_counter(epilogue), start(uses, wide, end=end), _panel(program), fragment(f"column = {column}"))


def _walk_of_lanes(epilogue: EpilogueText, uses: Uses, wide: int, end: str) -> WalkText:
    """Where four lanes have a row: a quarter of the tile's rows in each sub-tile, at the same columns."""
    rows = fragment(
        "row = m0 + 32 * subtile + 8 * warp + lane // 4",
        *([f"row_valid = row < {end}"] if uses.row_valid else []),
    )
    return WalkText(_counter(epilogue), fragment(f"column = n0 + {wide} * (lane % 4)"), (), rows)


def walk_of_exchanged(
    program: EpilogueProgram, epilogue: EpilogueText, uses: Uses, reads: Sequence[tuple[str, str]], end: str = "m_size"
) -> WalkText:
    """Where a thread's row of sums is in shared memory, at `exchange`. `reads`: accumulators and their places.

    `end`: as of `start`.
    """
    wide = program.subtile
    each = fragment(
        *([f"subtile = {program.panel // wide} * panel + step"] if epilogue.walks else []),
        *(f"{acc} = shared_load_32_f32(exchange + {place})" for acc, place in reads),
        f"column = n0 + {wide} * subtile",
    )
    return WalkText(_counter(epilogue), start(uses, wide, end=end), _panel(program), each)


def start(uses: Uses, wide: int, last: int | None = None, end: str = "m_size") -> Fragment:
    """Once a tile: this thread's row, and the columns that inputs are loaded ahead for.

    `last`: the tile's last sub-tile's column, where every second tile is walked from there. `end`: the row after the
    last that counts.
    """
    if last is None:
        columns = ["first_column = n0", f"column_step = {wide}"]
    else:
        columns = [
            f"first_column = n0 if buffer == 1 else n0 + {last}",
            f"column_step = cutlass.Int32({wide}) if buffer == 1 else cutlass.Int32({-wide})",
        ]
    return fragment(
        *(["row = m0 + thread"] if uses.row or uses.row_valid else []),
        *([f"row_valid = row < {end}"] if uses.row_valid else []),
        *(columns if uses.first_column else []),
    )


def _counter(epilogue: EpilogueText) -> str:
    return "step" if epilogue.walks else "subtile"


def _panel(program: EpilogueProgram) -> Fragment:
    return fragment(f"panel0 = n0 + {program.panel or program.tile_n} * panel")
