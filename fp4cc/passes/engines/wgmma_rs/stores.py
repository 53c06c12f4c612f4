"""Results that the warps which multiply store themselves: a plain one of 16 bits, made of sums and scalars.

wgmma's D is the result transposed, so stmatrix turns it around on its way to shared memory, and TMA stores from there.
Everything else crosses to the epilogue's warps.
"""

from __future__ import annotations

from dataclasses import fields, replace

from fp4cc.ir.lowered import NamedBarrier, SmemBuffer
from fp4cc.ir.lowered.wgmma_rs import MMA_WARPS, WARPGROUP_WARPS, WEIGHT_ROWS
from fp4cc.ir.lowered_epilogue import EpilogueOutput, EpilogueProgram
from fp4cc.passes.epilogue.plan import EpiloguePlan

#: Where the warps of a multiplying warpgroup meet around its store.
STORE_BARRIERS = (
    NamedBarrier("STORE_BARRIER", 2, "mma", "of the first multiplying warpgroup; the second has the next one"),
    NamedBarrier("STORE_BARRIER_2", 3, "mma", "of the second"),
)
WARPGROUPS = MMA_WARPS // WARPGROUP_WARPS
#: Where both meet when the second's sums have been written, and when they have been added to the first's.
PARTIAL_BARRIER = NamedBarrier("PARTIAL_BARRIER", 4, "mma", "of both multiplying warpgroups")
#: Columns of the result that a warpgroup has: 128 bytes, a swizzle row.
COLUMNS = WEIGHT_ROWS // WARPGROUPS
#: What each program has, and what makes each element by itself.
_FIELDS = frozenset({
    "kernel", "problem", "tile_n", "inputs", "accumulators", "statements", "outputs", "subtile", "constructs",
})  # fmt: skip
_CONSTRUCTS = frozenset({"hoisted", "elements", "stores"})
_SCALARS = ("scalar_param", "device_scalar", "batch", "dim")


def stored_by_engine(plan: EpiloguePlan, rows: int, warpgroups: int) -> EpiloguePlan | None:
    """The epilogue's plan where so many warpgroups store tiles of so many rows; None where an epilogue must."""
    program = plan.program
    if not _fits(program):
        return None
    (output,) = program.outputs
    buffer = SmemBuffer(
        f"{output.arg}_slabs", 0, 2 * COLUMNS * rows, warpgroups, 1024, f"columns of {output.arg} on their way out"
    )
    store = replace(output.store, via="engine", stages=warpgroups, row_bytes=2 * COLUMNS, swizzle="128B")
    maps = tuple(
        replace(each, box=(COLUMNS, rows, *each.box[2:]), swizzle="128B") if each.name == store.tensor_map else each
        for each in plan.tensor_maps
    )
    program = replace(program, outputs=(replace(output, store=store),))
    return EpiloguePlan(program, plan.params, maps, (buffer,), ())


def _fits(program: EpilogueProgram) -> bool:
    """Whether every value of the only output is made of the sum at its place, and of scalars.

    A thread has two rows of the weights by sixteen of x, so that what looks along a row (blocks, panels, reductions)
    does not find it in a thread: only what an epilogue always has may be there.
    """
    alone = len(program.outputs) == 1 and len(program.accumulators) == 1
    others = [field for field in fields(program) if field.name not in _FIELDS]
    bare = all(getattr(program, field.name) == field.default for field in others)
    scalars = all(leaf.kind in _SCALARS for leaf in program.inputs) and _CONSTRUCTS.issuperset(program.constructs)
    return alone and bare and scalars and all(_plain(output) for output in program.outputs)


def _plain(output: EpilogueOutput) -> bool:
    return output.kind == "plain" and output.dtype in ("bf16", "f16") and output.store.via in ("tma", "either")
