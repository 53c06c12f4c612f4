"""What the template of kernels without a product substitutes."""

from __future__ import annotations

from typing import Any

from fp4cc.codegen.context import SMEM, Constant, Panels, constant_sizes, frame
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.ir.lowered import LoweredKernel


def template_context(lowered: LoweredKernel, epilogue: EpilogueText) -> dict[str, Any]:
    """The names that templates/common/elementwise.py.j2 may use."""
    space = lowered.epilogue.problem
    batched = bool(space.batch_axes)
    uses = {name: name in epilogue.uses for name in ("lane", "row", "row_valid", "batch", "first_column")}
    place = "tile_m, tile_n"
    if batched:
        place += ", batch" if uses["batch"] else ", _"
    return {
        **frame(lowered, epilogue, _title(lowered), _plan(lowered)),
        "constants": [[Constant("TILE_M", lowered.tile.m), Constant("TILE_N", lowered.epilogue.tile_n)]],
        "spaces": [SMEM] if lowered.smem.buffers else [],
        "place_template": "common/place_by_rows.py.j2",
        "buffers": [
            {"name": b.name, "dtype": "cutlass.Int8", "count": b.total, "align": b.align} for b in lowered.smem.buffers
        ],
        "sizes": constant_sizes(lowered),
        "batched": batched,
        "band": 0,
        "place": f"{place} = place(tile, {'tiles_m, ' if batched else ''}tiles_n)",
        "subtile": lowered.epilogue.subtile,
        "panels": Panels.of(lowered.epilogue),
        "uses": uses,
    }


def _title(lowered: LoweredKernel) -> str:
    outputs = ", ".join(output.arg for output in lowered.epilogue.outputs)
    inputs = ", ".join(arg.name for arg in lowered.kernel.args if arg.direction != "out")
    return f"{lowered.name}: {outputs} from {inputs} for {lowered.target}."


def _plan(lowered: LoweredKernel) -> str:
    return (
        f"Tiles of {lowered.tile.m} x {lowered.tile.n}: a thread has a row, {lowered.epilogue.subtile} columns at a "
        "time; persistent: a CTA takes every n-th tile."
    )
