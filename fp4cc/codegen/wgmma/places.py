"""Where Hopper's GEMM has its operands, as text."""

from __future__ import annotations

from fp4cc.ir.lowered import CONSUMERS, LoweredKernel
from fp4cc.ir.lowered.wgmma import slotted_roles
from fp4cc.ir.part import Part

THREADS = 32 * CONSUMERS  # that convert: one for each row of a slot


def bytes_name(part: Part) -> str:
    """The constant with the bytes of a part in a stage. Bs may differ in size; atoms of scales do not."""
    return "ATOM_BYTES" if part.scales else f"{part.name.upper()}_BYTES"


def rows_of(lowered: LoweredKernel, part: Part) -> int:
    """The rows of an operand in a tile."""
    return lowered.tile.m if part.role == "A" else lowered.tile.n


def slot(lowered: LoweredKernel, part: Part) -> str:
    """The bytes before an operand's slot; a step with promoted sums has one for each `part` of it."""
    start = "B_SLOTS + " if part.role == "B" and both_slotted(lowered) else ""
    return f"{start}{'slot' if lowered.promotion is None else 'part'} * SLOT_BYTES"


def both_slotted(lowered: LoweredKernel) -> bool:
    """Whether there are slots of A and of B."""
    return len(slotted_roles(lowered.mainloops)) == 2
