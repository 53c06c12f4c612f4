"""What `explain` says of a product of FP8 as it is."""

from __future__ import annotations

from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes.choice.facts import Facts
from fp4cc.targets.sm90 import SM90A


def wgmma_fp8_facts(_lowered: LoweredKernel) -> Facts:
    """Its rate is twice that of 16-bit operands."""
    return Facts(
        flop_per_clock=2 * SM90A.flop_per_clock,
        slower="the warps that multiply add the sums in f32 too, and the card's power is limited",
    )
