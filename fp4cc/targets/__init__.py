"""What each GPU target can do, as data: instruction kinds, operand formats, memories, limits, rates."""

from __future__ import annotations

from fp4cc.targets.base import Kind, Rates, Target
from fp4cc.targets.sm100 import SM100A

#: Targets a GEMM can be lowered for, by name.
TARGETS: dict[str, Target] = {target.name: target for target in (SM100A,)}

__all__ = ["SM100A", "TARGETS", "Kind", "Rates", "Target"]
