"""Hadamard transforms for which sub-tiles meet in shared memory: of 64 or 128 points."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import SmemBuffer
from fp4cc.ir.lowered_epilogue import CTA_ROWS, SpreadPlan
from fp4cc.passes.epilogue.blocks import is_spread

#: Bytes that keep neighboring rows off each other's banks.
_PADDING = 16


def plan_spread(kernel: Kernel, live: Sequence[int], panel: int) -> tuple[SpreadPlan, ...]:
    """A plan for each of the live values that is such a transform."""
    depths: dict[int, int] = {}
    found: list[SpreadPlan] = []
    for index in live:
        value = kernel.values[index]
        below = max((depths.get(operand, 0) for operand in value.operands), default=0)
        depths[index] = below
        if is_spread(value):
            depths[index] = below + 1
            found.append(SpreadPlan(index, f"points{len(found) + 1}_smem", 4 * panel + _PADDING, below))
    return tuple(found)


def spread_buffers(plans: Sequence[SpreadPlan]) -> list[SmemBuffer]:
    """The shared memory in which rows of a panel meet."""
    what = "a panel's rows on their way to a Hadamard transform"
    return [SmemBuffer(plan.buffer, 0, CTA_ROWS * plan.row_bytes, 1, 16, what) for plan in plans]
