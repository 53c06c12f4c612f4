"""How many CTAs share an SM: no more than its tensor memory has columns for.

The driver places CTAs by threads, registers and shared memory; of tensor memory it knows nothing. A CTA that finds too
few columns left waits in `tcgen05.alloc` until another has freed its own (PTX ISA, tcgen05.alloc). Persistent CTAs free
theirs when they end, so one that waits takes no part; and of two pairs of CTAs each may hold the columns that the other
waits for, for ever. Shared memory is what the driver does count: a launch asks for enough of it.
"""

from __future__ import annotations

from dataclasses import replace

from fp4cc.ir.lowered import Decision, Smem
from fp4cc.targets import Target

_ALIGN = 128  # bytes: the unit in which shared memory is given to CTAs


def resident(smem_bytes: int, threads: int, target: Target) -> int:
    """The most CTAs of so much shared memory and so many threads that an SM can hold, registers aside."""
    return min(target.smem_sm_bytes // (smem_bytes + target.smem_reserved_bytes), target.sm_threads // threads)


def bounded(smem: Smem, columns: int, threads: int, target: Target) -> Smem:
    """Shared memory with so much padding that all CTAs of an SM find `columns` columns of tensor memory each."""
    most = target.tmem_columns // columns
    if resident(smem.total, threads, target) <= most:
        return smem
    # More than one part of most + 1 equal ones of the SM.
    least = target.smem_sm_bytes // (most + 1) + 1 - target.smem_reserved_bytes
    return replace(smem, padding=-(-least // _ALIGN) * _ALIGN - smem.total)


def explain_residency(smem: Smem, columns: int, target: Target) -> list[Decision]:
    """Why a launch asks for more shared memory than the kernel uses, where it does."""
    if not smem.padding:
        return []
    most = target.tmem_columns // columns
    why = (
        f"each has {columns} of {target.tmem_columns} columns of tensor memory, which the driver does not count: "
        f"a launch asks for {smem.asked} bytes of shared memory, {smem.padding} more than are used"
    )
    return [Decision("CTAs on an SM", f"at most {most}", why, chosen_by="target")]
