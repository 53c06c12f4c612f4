"""What each GPU target can do, as data: instruction kinds, operand formats, memories, limits, rates."""

from __future__ import annotations

from fp4cc.targets.base import Chip, Kind, Rates, Target
from fp4cc.targets.sm90 import SM90A, Hopper
from fp4cc.targets.sm100 import SM100A

#: Targets with block-scaled tensor cores, by name.
TARGETS: dict[str, Target] = {target.name: target for target in (SM100A,)}
#: Every target a kernel can be lowered for.
NAMES = (*TARGETS, SM90A.name)
#: What holds for every target.
CHIPS: dict[str, Chip] = {**TARGETS, SM90A.name: SM90A}

__all__ = ["CHIPS", "NAMES", "SM90A", "SM100A", "TARGETS", "Chip", "Hopper", "Kind", "Rates", "Target"]
