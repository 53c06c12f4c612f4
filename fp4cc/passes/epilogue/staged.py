"""Values of a column that elements or outputs use: staged in shared memory, once a tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.ir.lowered import EPILOGUE_BARRIER, KernelParam, NamedBarrier, SmemBuffer
from fp4cc.ir.lowered_epilogue import COLUMNS_BUFFER, EPILOGUE_WARPS, EpilogueInput, EpilogueProgram
from fp4cc.passes.epilogue.construct import Construct, Planning
from fp4cc.passes.epilogue.inputs import pointer

_THREADS = 32 * EPILOGUE_WARPS


class StagedColumns(Construct):
    """The column values that elements use, and the inputs that columns have."""

    name = "staged_columns"
    reads = ("column",)

    def add(self, program: EpilogueProgram, planning: Planning) -> EpilogueProgram:
        scopes, values = planning.scopes, planning.kernel.values
        used = {o for i in planning.live if scopes[i] == "element" for o in values[i].operands}
        used |= program.taken
        return replace(program, staged=tuple(i for i in planning.live if i in used and scopes[i] == "column"))

    def input_params(self, leaf: EpilogueInput, planning: Planning) -> Sequence[KernelParam]:
        return [pointer(leaf, planning.kernel)]

    def buffers(self, program: EpilogueProgram) -> Sequence[SmemBuffer]:
        if not program.staged:
            return []
        stride = -(-program.tile_n // _THREADS) * _THREADS
        size = 4 * stride * len(program.staged)
        return [SmemBuffer(COLUMNS_BUFFER, 0, size, 1, 16, "column values of a tile, f32")]

    def barriers(self, program: EpilogueProgram) -> Sequence[NamedBarrier]:
        return [EPILOGUE_BARRIER] if program.staged else []
