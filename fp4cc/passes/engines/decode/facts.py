"""What `explain` says of a kernel for few rows."""

from __future__ import annotations

from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes.choice.facts import Facts
from fp4cc.targets.sm90 import SM90A


def decode_facts(_lowered: LoweredKernel) -> Facts:
    """mma.sync has at most the rate of wgmma, and is not what bounds such a kernel."""
    return Facts(
        flop_per_clock=SM90A.flop_per_clock,
        slower="weights are made wide by the threads that multiply, and a CTA starts and ends by itself",
    )
