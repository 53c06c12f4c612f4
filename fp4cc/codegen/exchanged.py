"""How an epilogue reads a tile's sums in shared memory: where a thread's row has a sub-tile of each accumulator."""

from __future__ import annotations

from fp4cc.ir.lowered_epilogue import EpilogueProgram


def exchanged_reads(epilogue: EpilogueProgram, accumulators: int, columns: int) -> list[tuple[str, str]]:
    """Names of accumulators and the bytes before a sub-tile of theirs, as text.

    A row has `accumulators` of `columns` columns side by side. Of one that is unzipped the epilogue sees the halves.
    """
    wide, group = epilogue.subtile, epilogue.group
    if group is None or accumulators > 1:
        places = [f"subtile * {4 * wide}{f' + {4 * slot * columns}' if slot else ''}" for slot in range(accumulators)]
    elif group <= wide:
        # Both halves of the sub-tile lie in twice as many adjacent columns, in turns of the group.
        places = [f"subtile * {8 * wide}", f"subtile * {8 * wide} + {4 * wide}"]
    elif 2 * group == columns:
        places = [f"subtile * {4 * wide}", f"subtile * {4 * wide} + {4 * group}"]
    else:
        raise ValueError(f"{columns} columns of groups of {group}")
    return [(f"acc{place + 1 if place else ''}", text) for place, text in enumerate(places)]


def exchanged_steps(epilogue: EpilogueProgram, columns: int) -> str:
    """The sub-tiles of a tile, as text over the columns of an accumulator."""
    return f"TILE_N // {columns // epilogue.tile_n * epilogue.subtile}"
