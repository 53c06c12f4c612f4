"""How an epilogue reads a tile's sums in shared memory: where a thread's row has a sub-tile of each accumulator."""

from __future__ import annotations

from fp4cc.codegen.mainloops import numbered
from fp4cc.ir.lowered_epilogue import EpilogueProgram


def exchanged_reads(epilogue: EpilogueProgram, accumulators: int, columns: int) -> list[tuple[str, str]]:
    """Names of accumulators and the bytes before a sub-tile of theirs, as text.

    A row has `accumulators` of `columns` columns side by side. Of one that is unzipped the epilogue sees the halves.
    """
    wide, group = epilogue.subtile, epilogue.group
    if group is None:
        places = [("subtile", 4 * wide, 0)]
    elif group <= wide:
        # Both halves of the sub-tile lie in twice as many adjacent columns, in turns of the group.
        places = [("subtile", 8 * wide, part * 4 * wide) for part in (0, 1)]
    else:
        run = group // wide  # sub-tiles
        index = f"(subtile // {run} * {2 * run} + subtile % {run})" if 2 * group < columns else "subtile"
        places = [(index, 4 * wide, part * 4 * group) for part in (0, 1)]
    found = [
        f"{index} * {size}" + (f" + {offset + 4 * slot * columns}" if offset + 4 * slot * columns else "")
        for slot in range(accumulators)
        for index, size, offset in places
    ]
    return [(f"acc{numbered(place)}", text) for place, text in enumerate(found)]
