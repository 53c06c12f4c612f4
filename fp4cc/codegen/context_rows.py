"""What the template of rows that are made ready once substitutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fp4cc.codegen.context import Constant, Frame, frame
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Function
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.ir.lowered import FoldRows, LoweredKernel


@dataclass(frozen=True, slots=True)
class RowsText:
    """What templates/sm90/rows.py.j2 substitutes: the engine, where a row's scales start, and from there a block's."""

    engine: FoldRows
    row_start: str
    block_offset: str


def template_context(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Frame, RowsText]:
    """What templates/sm90/rows.py.j2 uses."""
    engine, batched = lowered.engine_as(FoldRows), bool(lowered.epilogue.problem.batch_axes)
    around = frame(
        lowered,
        epilogue,
        title=f"{lowered.name}: rows of e5m2 with a factor each, of {engine.arg}, for {lowered.target}.",
        plan="A warp has a row, and each of its lanes a block of 32 columns at a time.",
        constants=[[Constant("WARPS", lowered.tile.m, "of a CTA, with a row each")]],
        spaces=[],
        buffers=[],
        batched=batched,
        band=0,
        place_template="common/place_by_rows.py.j2",
    )
    around = replace(around, uses=replace(around.uses, lane=True))
    reader = ReaderText(engine.arg, engine.scales)
    return around, RowsText(engine, reader.row_offset("row"), reader.block_offset("block"))


def functions(lowered: LoweredKernel) -> Sequence[Function]:
    """Where scales lie."""
    engine = lowered.engine_as(FoldRows)
    return ReaderText(engine.arg, engine.scales).functions()
