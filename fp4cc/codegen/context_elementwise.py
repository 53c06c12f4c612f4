"""What the template of kernels without a product substitutes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp4cc.codegen.context import BY_TILES, SMEM, BufferText, Constant, Frame, frame
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Fragment, fragment
from fp4cc.codegen.placing import of_group, places_text, rows_end
from fp4cc.codegen.walking import WalkText, walk_of_rows
from fp4cc.ir.lowered import LoweredKernel


@dataclass(frozen=True, slots=True)
class ElementwiseText:
    """What the template of kernels without a product substitutes.

    `start`: before the first tile; `place`: what finds a tile's place; `m0`: its first row.
    """

    start: Fragment
    place: Fragment
    m0: str
    walk: WalkText


def template_context(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Frame, ElementwiseText]:
    """What templates/common/elementwise.py.j2 uses."""
    grouped = lowered.epilogue.problem.groups is not None
    batched = bool(lowered.epilogue.problem.batch_axes) and not grouped  # `place` finds a tile in its group
    around = frame(
        lowered,
        epilogue,
        title=_title(lowered),
        plan=_plan(lowered),
        constants=[[Constant("TILE_M", lowered.tile.m), Constant("TILE_N", lowered.epilogue.tile_n)]],
        spaces=[SMEM] if lowered.smem.buffers else [],
        buffers=[BufferText.of_bytes(buffer) for buffer in lowered.smem.buffers],
        batched=batched,
        band=0,
        place_template=BY_TILES if grouped else "common/place_by_rows.py.j2",
    )
    if lowered.epilogue.by_lanes:
        around = replace(around, uses=replace(around.uses, lane=True))
    start, place = _places(lowered, epilogue)
    walk = walk_of_rows(lowered.epilogue, epilogue, around.uses, rows_end(lowered))
    return around, ElementwiseText(start, place, of_group(lowered, "tile_m * TILE_M"), walk)


def _places(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Fragment, Fragment]:
    """Before the first tile, and at each."""
    if lowered.epilogue.problem.groups is not None:
        places = places_text(lowered, epilogue.uses, by_batch=False)
        return fragment(places.start, places.search), places.epilogue
    names = "tile_m, tile_n"
    if not lowered.epilogue.problem.batch_axes:
        return (), fragment(f"{names} = place(tile, tiles_n)")
    names += ", batch" if "batch" in epilogue.uses else ", _"
    return (), fragment(f"{names} = place(tile, tiles_m, tiles_n)")


def _title(lowered: LoweredKernel) -> str:
    outputs = ", ".join(output.arg for output in lowered.epilogue.outputs)
    inputs = ", ".join(arg.name for arg in lowered.kernel.args if arg.direction != "out")
    return f"{lowered.name}: {outputs} from {inputs} for {lowered.target}."


def _plan(lowered: LoweredKernel) -> str:
    wide = lowered.epilogue.subtile
    rows = f"four lanes have a row, {wide} columns each" if lowered.epilogue.by_lanes else ""
    rows = rows or f"a thread has a row, {wide} columns at a time"
    return f"Tiles of {lowered.tile.m} x {lowered.tile.n}: {rows}; persistent: a CTA takes every n-th tile."
