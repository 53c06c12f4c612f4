"""What `explain` says of a kernel on wgmma."""

from __future__ import annotations

from fp4cc.ir.lowered import LoweredKernel, Wgmma
from fp4cc.ir.lowered.wgmma import slotted
from fp4cc.passes.choice.facts import Facts
from fp4cc.targets.sm90 import SM90A


def wgmma_facts(lowered: LoweredKernel) -> Facts:
    """Its rate is that of 16-bit operands, whatever they were."""
    if not slotted(lowered.mainloops):
        return Facts(flop_per_clock=SM90A.flop_per_clock, slower="the warps that multiply run the epilogue too")
    return Facts(
        flop_per_clock=SM90A.flop_per_clock,
        slower="converting operands takes the same warps that multiply",
        stages=f", {lowered.engine_as(Wgmma).slots} of converted operands",
    )
