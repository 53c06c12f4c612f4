"""Outputs with blocks larger than a thread's line: a panel of the tile is walked once more, to measure them."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.ir.kernel import Arg, Value
from fp4cc.ir.lowered import EPILOGUE_BARRIER, NamedBarrier, SmemBuffer
from fp4cc.ir.lowered_epilogue import EPILOGUE_WARPS, LINE, EpilogueOutput, EpilogueProgram
from fp4cc.passes.epilogue.construct import Construct
from fp4cc.passes.epilogue.lines import along, measure
from fp4cc.passes.problem.unzip import Frame


class Measure(Construct):
    """What is measured of a panel, in shared memory: a float for each line that a thread sees, then one a warp."""

    name = "measure"

    def panel(self, frame: Frame) -> int:
        kernel, n_axis = frame.kernel, frame.problem.n_axis
        found = (columns_of_block(kernel.arg(s.arg), kernel.values[s.value], n_axis) for s in kernel.stores)
        return max(found, default=0)

    def buffers(self, program: EpilogueProgram) -> Sequence[SmemBuffer]:
        size = 4 * (program.panel // LINE * EPILOGUE_WARPS * LINE + EPILOGUE_WARPS)
        return [
            SmemBuffer(f"{o.arg}_blocks", 0, size, 1, 16, f"what is measured of {o.arg}, then its factors")
            for o in _measured(program)
        ]

    def barriers(self, program: EpilogueProgram) -> Sequence[NamedBarrier]:
        met = any(o.quantization.along == "rows" or _tall(o) for o in _measured(program))
        return [EPILOGUE_BARRIER] if met else []


def columns_of_block(arg: Arg, value: Value, n_axis: str) -> int:
    """The columns of a tile that must meet for an output: 0 where one walk of the tile is enough."""
    if arg.format is None or value.op != "quantize" or measure(value, along(arg, n_axis)) != "panel":
        return 0
    rows, columns = arg.format.block
    extent = columns if along(arg, n_axis) == "columns" else rows
    return max(LINE, extent if isinstance(extent, int) else LINE)


def _measured(program: EpilogueProgram) -> list[EpilogueOutput]:
    return [o for o in program.outputs if o.quantize is not None and o.quantize.measure == "panel"]


def _tall(output: EpilogueOutput) -> bool:
    """Whether the lines of a block are those of several warps."""
    rows = output.format.block[0]
    return isinstance(rows, int) and rows > LINE
