"""What the tcgen05 instructions share: their targets, the CTA group of a kernel, and the order of its pipeline."""

from __future__ import annotations

from collections.abc import Hashable

from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import Cta

TARGETS = ("sm_100a", "sm_103a")


def cta_group(cta: Cta, ins: Instruction) -> int:
    """1 or 2. All tcgen05 instructions of a kernel must name the same one (PTX ISA, "CTA pair")."""
    group = int(ins.mod("cta_group")[-1])
    known = cta.scratch.setdefault("tcgen05.cta_group", group)
    if known != group:
        raise Fault(f".cta_group::{group} in a kernel that used .cta_group::{known} before")
    return group


def pipeline(cta: Cta, group: int) -> Hashable:
    """The key under which asynchronous tcgen05 operations of a CTA, or of a CTA pair, complete in order."""
    return ("tcgen05", cta.cluster.id, cta.rank // group)
