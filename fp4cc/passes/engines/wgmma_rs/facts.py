"""What `explain` says of a kernel with weights in registers."""

from __future__ import annotations

from fp4cc.ir.lowered import LoweredKernel, WgmmaRS
from fp4cc.passes.choice.facts import Facts
from fp4cc.targets.sm90 import SM90A


def wgmma_rs_facts(lowered: LoweredKernel) -> Facts:
    """Its rate is that of 16-bit operands, or of FP8."""
    return Facts(
        flop_per_clock=SM90A.flop_per_clock * (2 if lowered.engine_as(WgmmaRS).fast else 1),
        slower="weights are converted by the warps that multiply them, and the card's power is limited",
    )
