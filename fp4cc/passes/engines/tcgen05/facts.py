"""What `explain` says of a kernel on tcgen05: tensor memory, and what its time is made of."""

from __future__ import annotations

from fp4cc.ir.lowered import LoweredKernel, Tcgen05
from fp4cc.passes.choice.facts import Facts, Timing
from fp4cc.targets import TARGETS


def tcgen05_facts(lowered: LoweredKernel) -> Facts:
    """The timing model is of sums that stay in tensor memory; of promoted ones only the rate is known."""
    engine, target = lowered.engine_as(Tcgen05), TARGETS[lowered.target]
    mma, tmem, limit = engine.mma, engine.tmem, target.tmem_columns
    flop_per_clock = target.kind(mma.kind).flop_per_clock
    if lowered.promotion is not None:
        return Facts(
            flop_per_clock=flop_per_clock,
            slower="every partial sum passes through registers once a step of K",
            tensor_memory=(tmem.columns, tmem.columns, f"{tmem.columns} of {limit} columns: two partial sums"),
        )
    return Facts(
        timing=Timing(mma.cta_group, mma.k, flop_per_clock, tmem.acc_buffers > 1),
        flop_per_clock=flop_per_clock,
        tensor_memory=(tmem.end, tmem.columns, f"{tmem.end} of {limit} columns used, {tmem.columns} allocated"),
    )
