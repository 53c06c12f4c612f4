"""What converter warps cost, for estimates: clocks of an SM and bytes of ordinary loads, by operand.

Instructions are those counted in SASS for a unit or a row; that converter warps issue two a clock beside the epilogue,
and that ordinary loads touch a line of memory a clock, are assumptions: nothing here was measured on a GPU.
"""

from __future__ import annotations

from fp4cc.ir.lowered import LoweredKernel

#: Warp instructions that converter warps issue a clock: half of what an SM can.
ISSUED = 2.0
#: Lines of memory that ordinary loads touch a clock.
LINES = 1.0
#: Instructions for a load: its address, its predicate, itself.
LOAD = 6


def warps_in_words(lowered: LoweredKernel) -> str:
    """The converter warps of a kernel that has some. TypeError for another."""
    converters = lowered.converters
    if converters is None:
        raise TypeError("no converter warps")
    return f"{converters.warps} warp{'s' * (converters.warps > 1)}"
