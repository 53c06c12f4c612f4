"""Quantizers whose rows are read and written by lanes: no shared memory, no tensor map, nothing to wait for.

Four lanes have 128 columns of a row, 32 each, and a warp eight rows at a time. A lane loads its 64 bytes of bf16 and
stores its 16 or 32 bytes of codes; whole sectors of 32 bytes are used, and scales of neighboring blocks leave together.
Only what a thread knows of its own 32 columns may be stored. Kernels that need more, such as reductions or blocks along
the rows, give a thread a row (benchmarks/hopper.md has both).
"""

from __future__ import annotations

from dataclasses import replace

from fp4cc.ir.lowered_epilogue import ByLanes, EpilogueInput, EpilogueOutput, EpilogueProgram, StorePlan
from fp4cc.passes.epilogue.memory import ELEMENT_BYTES

#: Columns of a tile.
COLUMNS = 128
_CONSTRUCTS = frozenset(("hoisted", "tile_inputs", "uniform", "elements", "quantize", "hadamard", "stores"))
_SCOPES = frozenset(("kernel", "tile", "element"))
_KINDS = frozenset(("scalar_param", "device_scalar", "batch", "tile", "uniform", "dim", "points"))


def by_lanes(program: EpilogueProgram) -> EpilogueProgram | None:
    """The program with rows that lanes share; None for one that cannot have them."""
    alone = not (program.panel or program.staged or program.spread or program.parts or program.accumulators)
    if not alone or program.group is not None or program.workspace != 0 or program.tile_n != COLUMNS:
        return None
    if not _CONSTRUCTS.issuperset(program.constructs) or not all(s.scope in _SCOPES for s in program.statements):
        return None
    transforms = (program.kernel.values[s.value] for s in program.statements)
    if any(v.op == "hadamard" and v.attrs["axis"] == program.problem.m_axis for v in transforms):
        return None
    if not all(_readable(leaf) for leaf in program.inputs) or not all(_storable(x) for x in program.outputs):
        return None
    return replace(
        program,
        parts=(ByLanes(),),
        inputs=tuple(replace(leaf, load=None) for leaf in program.inputs),
        outputs=tuple(replace(output, store=_stored(output)) for output in program.outputs),
    )


def _readable(leaf: EpilogueInput) -> bool:
    """Whether a lane's columns of it are adjacent, two bytes each at most: of wider ones a load would waste sectors."""
    if leaf.kind == "tile":
        return leaf.column_stride == 1 and leaf.half is None and ELEMENT_BYTES[leaf.dtype] <= 2
    return leaf.kind in _KINDS


def _storable(output: EpilogueOutput) -> bool:
    """Whether a lane knows all blocks of its columns, whose codes fill 16 bytes."""
    plan = output.quantize
    if plan is None or plan.along != "columns" or plan.measure != "line" or plan.known is not None:
        return False
    return output.format.block[0] == output.format.stored[0] == 1 and output.store.tensor_map is not None


def _stored(output: EpilogueOutput) -> StorePlan:
    """By the lanes: 16 bytes at once, where TMA could have stored it."""
    flag = None if output.store.flag is None else f"{output.arg}_vector"
    return StorePlan("direct", flag=flag, row_bytes=output.store.row_bytes)
