"""What the template of kernels without a product substitutes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp4cc.codegen.context import SMEM, BufferText, Constant, Frame, frame
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.walking import WalkText, walk_of_rows
from fp4cc.ir.lowered import LoweredKernel


@dataclass(frozen=True, slots=True)
class ElementwiseText:
    """What the template of kernels without a product substitutes: the line that finds a tile's place."""

    place: str
    walk: WalkText


def template_context(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Frame, ElementwiseText]:
    """What templates/common/elementwise.py.j2 uses."""
    batched = bool(lowered.epilogue.problem.batch_axes)
    place = "tile_m, tile_n"
    if batched:
        place += ", batch" if "batch" in epilogue.uses else ", _"
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
        place_template="common/place_by_rows.py.j2",
    )
    if lowered.epilogue.by_lanes:
        around = replace(around, uses=replace(around.uses, lane=True))
    walk = walk_of_rows(lowered.epilogue, epilogue, around.uses)
    return around, ElementwiseText(f"{place} = place(tile, {'tiles_m, ' if batched else ''}tiles_n)", walk)


def _title(lowered: LoweredKernel) -> str:
    outputs = ", ".join(output.arg for output in lowered.epilogue.outputs)
    inputs = ", ".join(arg.name for arg in lowered.kernel.args if arg.direction != "out")
    return f"{lowered.name}: {outputs} from {inputs} for {lowered.target}."


def _plan(lowered: LoweredKernel) -> str:
    wide = lowered.epilogue.subtile
    rows = f"four lanes have a row, {wide} columns each" if lowered.epilogue.by_lanes else ""
    rows = rows or f"a thread has a row, {wide} columns at a time"
    return f"Tiles of {lowered.tile.m} x {lowered.tile.n}: {rows}; persistent: a CTA takes every n-th tile."
