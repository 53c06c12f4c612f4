"""Where a tile lies, as text: among those of a matrix, of a batch of them, or of groups of rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fp4cc.codegen.fragments import Call, Fragment, fragment
from fp4cc.ir.lowered import Grouped, LoweredKernel

#: Where the search for a tile's group goes on: each warp has its own.
_SEARCH = ("group0", "tiles0", "atoms0")
#: What is found of a tile's group.
FOUND = ("batch", "group_first", "group_end", "tiles_m", "tiles_before", "atoms_before")


@dataclass(frozen=True, slots=True)
class PlacesText:
    """How the warps of a kernel find their tiles.

    `start`: at the kernel's start; `search`: before a warp's first tile; then for each tile, for the warps that load,
    that only multiply, and that run the epilogue.
    """

    start: Fragment
    search: Fragment
    load: Fragment
    mma: Fragment
    epilogue: Fragment


def places_text(lowered: LoweredKernel, uses: Collection[str], by_batch: bool) -> PlacesText:
    """`uses`: what the epilogue reads; `by_batch`: whether something else in its warps depends on the batch."""
    operands = (operand for mainloop in lowered.mainloops for _, operand in mainloop.operands)
    in_epilogue = {*uses, "group_end", *first_used(lowered)}
    contracted = part_text(lowered)
    batched = any(operand.batched for operand in operands)
    return PlacesText(
        start=start_text(lowered),
        search=search_text(lowered),
        load=(*place_text(lowered, batch=batched or bool(contracted), others=used_by_a(lowered)), *contracted),
        mma=(*place_text(lowered, batch=bool(contracted)), *contracted),
        epilogue=place_text(lowered, batch=by_batch or "batch" in uses, others=in_epilogue),
    )


def part_text(lowered: LoweredKernel) -> Fragment:
    """Which part of K a tile's group has, where what is contracted is in groups."""
    groups = lowered.problem.contracted if lowered.problem is not None else None
    if groups is None:
        return ()
    step = lowered.mainloops[0].tile_k
    arguments = (f"{groups.arg}_ptr", str(groups.ragged), "batch", "k_size", str(step), "k_tiles")
    by_blocks = lowered.products.a.divided  # the operands have both or neither block scales
    function = "part_of_k_by_blocks" if by_blocks else "part_of_k"
    return fragment(Call(f"k_first, k_count, k_steps = {function}", arguments))


def steps_of(lowered: LoweredKernel, number: int = 0) -> str:
    """The steps along K of a tile in a mainloop, as text: all there are, or those of its group."""
    if lowered.problem is not None and lowered.problem.contracted is not None:
        return "k_steps"
    return f"k_tiles{number + 1 if number else ''}"


def along_k(lowered: LoweredKernel, step: str) -> str:
    """The element of K at which a step starts."""
    first = "k_first + " if lowered.problem is not None and lowered.problem.contracted is not None else ""
    return f"{first}k_tile * {step}"


def start_text(lowered: LoweredKernel) -> Fragment:
    """At the kernel's start: how many tiles there are, where the device alone knows."""
    walk = lowered.walk
    if not isinstance(walk, Grouped):
        return ()
    return fragment(f"tiles = count_tiles({', '.join(_groups(walk))}, thread % 32) * tiles_n")


def search_text(lowered: LoweredKernel) -> Fragment:
    """Before a warp's first tile."""
    if not isinstance(lowered.walk, Grouped):
        return ()
    return fragment(*(f"{name} = Int32(0)" for name in _SEARCH))


def place_text(lowered: LoweredKernel, *, batch: bool, others: Collection[str] = ()) -> Fragment:
    """A tile's place. `batch`: whether its batch, or the number of its group, is used; so are `others` of `FOUND`."""
    walk = lowered.walk
    if not isinstance(walk, Grouped):
        batched = bool(lowered.epilogue.problem.batch_axes)
        names = "tile_m, tile_n" + (", batch" if batch else ", _") * batched
        return fragment(f"{names} = place(tile, tiles_m, tiles_n)")
    used = {"tiles_m", "tiles_before", *others, *(["batch"] if batch else [])}
    names = ", ".join([*_SEARCH, *(name if name in used else "_" for name in FOUND)])
    search = (f"{name}={name}" for name in _SEARCH)
    arguments = (*_groups(walk), "row_tile=tile // tiles_n", *search, "lane=thread % 32")
    return fragment(
        Call(f"{names} = find_group", arguments),
        "tile_m, tile_n = place(tile - tiles_before * tiles_n, tiles_m, tiles_n)",
    )


def rows_end(lowered: LoweredKernel) -> str:
    """The row after the last that is a tile's to use: of all, or of its group."""
    return "m_size" if lowered.epilogue.problem.groups is None else "group_end"


def of_group(lowered: LoweredKernel, row: str) -> str:
    """A row of a tile's group as one of the tensor's."""
    return f"group_first + {row}" if lowered.epilogue.problem.ragged else row


def first_used(lowered: LoweredKernel) -> tuple[str, ...]:
    """What `of_group` uses of a tile's group."""
    return ("group_first",) if lowered.epilogue.problem.ragged else ()


def used_by_a(lowered: LoweredKernel) -> set[str]:
    """What the loads of A use of a tile's group."""
    if not lowered.mainloops or not lowered.products.ragged:
        return set()
    scales = any(load.part.role == "A" and load.part.scales for load in lowered.loads)
    return {"group_first", *(["atoms_before"] if scales else [])}


def _groups(walk: Grouped) -> tuple[str, ...]:
    """The arguments that say which groups there are, and the rows of a tile."""
    return f"{walk.groups.arg}_ptr", str(walk.groups.ragged), "groups", "m_size", str(walk.rows)
