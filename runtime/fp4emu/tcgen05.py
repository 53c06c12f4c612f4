"""What the tcgen05 instructions share: their targets, the CTA group of a kernel, and the order of its pipeline."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import Cta

TARGETS = ("sm_100a", "sm_103a")


@dataclass(slots=True)
class _Used:
    """The CTA group that the instructions of a CTA have named; 0 before the first."""

    cta_group: int = 0


def cta_group(cta: Cta, ins: Instruction) -> int:
    """1 or 2. All tcgen05 instructions of a kernel must name the same one (PTX ISA, "CTA pair")."""
    group = int(ins.mod("cta_group")[-1])
    used = cta.state.of(_Used)
    used.cta_group = used.cta_group or group
    if used.cta_group != group:
        raise Fault(f".cta_group::{group} in a kernel that used .cta_group::{used.cta_group} before")
    return group


def pipeline(cta: Cta, group: int) -> Hashable:
    """The key under which asynchronous tcgen05 operations of a CTA, or of a CTA pair, complete in order."""
    return ("tcgen05", cta.cluster.id, cta.rank // group)
