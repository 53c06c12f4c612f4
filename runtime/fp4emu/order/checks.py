"""The checks of happens-before, and how severe each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from fp4emu.errors import Fault

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
        Check("tensormap", "fault", "fault", "a tensor map written with no fences of its proxy before a copy by it"),
        Check("host-map", "fault", "off", "a tensor map that the host wrote to global memory, with no acquire fence"),
        Check("proxy", "fault", "fault", "a generic write with no fence.proxy.async before the async proxy's access"),
        Check(
            "refill", "fault", "warn", "a generic read with no fence.proxy.async before the async proxy writes there"
        ),
        Check("lanes", "fault", "warn", "lanes of one warp that nothing but .sync instructions joins"),
        Check("tcgen05", "fault", "fault", "tcgen05 operations without completion, or without tcgen05.fence"),
        Check("alloc", "fault", "warn", "tensor memory used with no tcgen05.fence since another warp allocated it"),
        Check("mma-cp", "warn", "warn", "tcgen05.cp over what an earlier operation of its thread still uses"),
        Check("mma-mma", "fault", "warn", "tcgen05.mma over cells of an earlier one with another accumulator or shape"),
        Check("init-fence", "fault", "warn", "an mbarrier used asynchronously or remotely without fence.mbarrier_init"),
        Check("scope", "fault", "warn", "a wait of CTA scope on an arrival from another CTA"),
        Check("phase", "fault", "warn", "mbarrier phases that run ahead of those who wait for them"),
        Check("exit", "fault", "fault", "a remote access that nothing orders before the exit of the CTA it touches"),
        Check("dependency", "fault", "warn", "a CTA of a dependent launch that exits without griddepcontrol.wait"),
        Check("wgmma", "fault", "fault", "registers of a wgmma that is in flight or not fenced"),
    )
}


def levels(order: Order, changed: Mapping[str, Level] | None = None) -> dict[str, Level]:
    """What happens when a check fails, by its name: as the profile says, but for what is `changed`. `Fault` for a name
    or a level that there is not."""
    if order not in get_args(Order):
        raise Fault(f"unknown order {order!r}", hint='"strict", "default" or None')
    for name, level in (changed or {}).items():
        if name not in CHECKS:
            raise Fault(f"unknown check {name!r}", hint=f"the checks of order are {', '.join(CHECKS)}")
        if level not in get_args(Level):
            raise Fault(f"unknown level {level!r} of the check {name}", hint="fault, warn or off")
    own: dict[str, Level] = {c.name: c.strict if order == "strict" else c.default for c in CHECKS.values()}
    return {**own, **(changed or {})}
