"""Where the warps of an epilogue meet: at the named barriers of the lowered kernel, for which constructs have asked."""

from __future__ import annotations

from fp4cc.ir.lowered import EPILOGUE_BARRIER, LoweredKernel


def barrier_number(lowered: LoweredKernel, barrier: str = EPILOGUE_BARRIER.name) -> int:
    """The number of a barrier. KeyError for one that the plan's half has not asked for."""
    return lowered.named_barrier(barrier).number


def meet(lowered: LoweredKernel, barrier: str = EPILOGUE_BARRIER.name) -> str:
    """The statement at which all warps of the epilogue meet."""
    threads = 32 * lowered.role_of("epilogue").warps
    return f"prims.barrier_cta_sync({barrier_number(lowered, barrier)}, thread_count={threads})"
