"""Quantizers whose rows are read and written by lanes: no shared memory, no tensor map, nothing to wait for.

Four lanes have 128 columns of a row, 32 each, and a warp eight rows at a time. A lane loads its 64 bytes of bf16 and
stores its 16 or 32 bytes of codes; whole sectors of 32 bytes are used, and scales of neighboring blocks leave together.
The reverse is `dequantize` of an input: 16 or 32 bytes of codes in, and the 256 bytes of a row out by the four lanes.
Only what a thread knows of its own 32 columns may be stored. Kernels that need more, such as reductions or blocks along
the rows, give a thread a row (benchmarks/hopper.md has both).
"""

from __future__ import annotations

from dataclasses import replace

from fp4cc.ir.lowered_epilogue import ByLanes, EpilogueInput, EpilogueOutput, EpilogueProgram, StorePlan
from fp4cc.passes.epilogue.memory import ELEMENT_BYTES

#: Columns of a tile.
COLUMNS = 128
_CONSTRUCTS = frozenset(
    ("hoisted", "tile_inputs", "decoded", "uniform", "elements", "quantize", "hadamard", "stores", "gathered")
)
_SCOPES = frozenset(("kernel", "tile", "element"))
_KINDS = frozenset(("scalar_param", "device_scalar", "batch", "tile", "uniform", "dim", "points", "codes"))
#: Types of which a lane's columns are 64 bytes.
_HALVES = ("bf16", "f16")


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
    decodes = any(leaf.kind == "codes" for leaf in program.inputs)
    if not all(_readable(leaf) for leaf in program.inputs):
        return None
    if not all(_storable(x) or (decodes and _widens(x)) for x in program.outputs):
        return None
    return replace(
        program,
        # What is only made wide needs no whole scale atoms of a tile: many small tiles start sooner.
        parts=(ByLanes(steps=1 if all(x.kind == "plain" for x in program.outputs) else ByLanes().steps),),
        inputs=tuple(replace(leaf, load=None) for leaf in program.inputs),
        outputs=tuple(replace(output, store=_stored(output)) for output in program.outputs),
    )


def _readable(leaf: EpilogueInput) -> bool:
    """Whether a lane's columns of it are adjacent, two bytes each at most: of wider ones a load would waste sectors."""
    if leaf.kind == "tile":
        return leaf.column_stride == 1 and leaf.half is None and ELEMENT_BYTES[leaf.dtype] <= 2
    if leaf.kind == "gathered":
        return leaf.column_stride == 1 and ELEMENT_BYTES[leaf.dtype] <= 2
    return leaf.kind in _KINDS


def _storable(output: EpilogueOutput) -> bool:
    """Whether a lane knows all blocks of its columns, whose codes fill 16 bytes."""
    if output.numbers is not None:
        return False
    plan = output.quantize
    if plan is None or plan.along != "columns" or plan.measure != "line" or plan.known is not None:
        return False
    return output.format.block[0] == output.format.stored[0] == 1 and output.store.tensor_map is not None


def _widens(output: EpilogueOutput) -> bool:
    """Whether it is a plain output whose rows lanes store whole: such as that of numbers made of codes."""
    plain = output.kind == "plain" and output.numbers is None and output.dtype in _HALVES and output.column_stride == 1
    return plain and output.store.via == "tma"


def _stored(output: EpilogueOutput) -> StorePlan:
    """By the lanes: 16 bytes at once, where TMA could have stored it."""
    flag = None if output.store.flag is None else f"{output.arg}_vector"
    return StorePlan("direct", flag=flag, row_bytes=output.store.row_bytes)
