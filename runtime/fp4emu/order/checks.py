"""The checks of happens-before, and how severe each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["fault", "warn", "off"]
Order = Literal["strict", "default"]


@dataclass(frozen=True, slots=True)
class Check:
    """`strict` is the PTX ISA's letter; `default` lets pass, with a warning, what published kernels do on purpose."""

    name: str
    strict: Level
    default: Level
    about: str


CHECKS = {
    check.name: check
    for check in (
        Check("race", "fault", "fault", "accesses that no synchronisation orders"),
        Check("proxy", "fault", "fault", "a generic write with no fence.proxy.async before the async proxy's access"),
        Check(
            "refill", "fault", "warn", "a generic read with no fence.proxy.async before the async proxy writes there"
        ),
        Check("lanes", "fault", "warn", "lanes of one warp that nothing but .sync instructions joins"),
        Check("tcgen05", "fault", "fault", "tcgen05 operations without completion, or without tcgen05.fence"),
        Check("alloc", "fault", "warn", "tensor memory used with no tcgen05.fence since another warp allocated it"),
        Check("mma-cp", "warn", "warn", "tcgen05.cp over what an earlier operation of its thread still uses"),
        Check("init-fence", "fault", "warn", "an mbarrier used asynchronously or remotely without fence.mbarrier_init"),
        Check("scope", "fault", "warn", "a wait of CTA scope on an arrival from another CTA"),
        Check("phase", "fault", "warn", "mbarrier phases that run ahead of those who wait for them"),
        Check("exit", "fault", "fault", "a remote access that nothing orders before the exit of the CTA it touches"),
        Check("wgmma", "fault", "fault", "registers of a wgmma that is in flight or not fenced"),
    )
}


def level(name: str, order: Order) -> Level:
    """What happens when a check fails."""
    check = CHECKS[name]
    return check.strict if order == "strict" else check.default
