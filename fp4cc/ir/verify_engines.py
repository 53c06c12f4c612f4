"""What must hold of each engine's kernels beyond what must hold of all, by the engine's name: a line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.verify_decode import decode_problems
from fp4cc.ir.verify_tcgen05 import tcgen05_problems
from fp4cc.ir.verify_wgmma import wgmma_problems
from fp4cc.ir.verify_wgmma_fp8 import wgmma_fp8_problems
from fp4cc.ir.verify_wgmma_rs import wgmma_rs_problems

_PROBLEMS: dict[str, Callable[[LoweredKernel], Iterator[str]]] = {
    "decode": decode_problems,
    "tcgen05": tcgen05_problems,
    "wgmma": wgmma_problems,
    "wgmma_fp8": wgmma_fp8_problems,
    "wgmma_rs": wgmma_rs_problems,
}


def engine_problems(lowered: LoweredKernel) -> Iterator[str]:
    """What is wrong with a kernel by its engine's own rules; nothing where it has none."""
    found = _PROBLEMS.get(lowered.engine.name) if lowered.engine is not None else None
    if found is not None:
        yield from found(lowered)
