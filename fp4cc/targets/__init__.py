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

#: What chips and architectures are called elsewhere, by the digits and letters of the name.
_CALLED = {
    "sm_100a": ("100", "100a", "100f", "blackwell", "b100", "b200", "gb200"),
    "sm_90a": ("90", "90a", "hopper", "h100", "h200", "gh200"),
}
#: GPUs of other architectures, by the digits of the name: kernels with architecture-specific instructions do not run
#: on another one (PTX ISA, ".target").
_OTHERS = {
    "103": "B300 and GB300", "101": "Jetson Thor", "110": "Jetson Thor",
    "120": "GeForce RTX 50 and RTX PRO Blackwell", "121": "DGX Spark",
    "89": "GeForce RTX 40 and L40", "86": "GeForce RTX 30", "80": "A100",
}  # fmt: skip


def target_help(name: str) -> str:
    """What to write instead of a target that there is not."""
    word = name.casefold().replace("_", "").removeprefix("sm").removeprefix("compute")
    gpu = _OTHERS.get(word.rstrip("af"))
    if gpu is not None:
        return f"{gpu} cannot run kernels of other architectures; targets: {', '.join(NAMES)}"
    meant = next((target for target, others in _CALLED.items() if word in others), None)
    known = f"targets: {', '.join(NAMES)}"
    return f"did you mean {meant}? {known}" if meant is not None else known


__all__ = ["CHIPS", "NAMES", "SM90A", "SM100A", "TARGETS", "Chip", "Hopper", "Kind", "Rates", "Target", "target_help"]
