"""Invariants of a lowered kernel's warps: who there is, and that they meet where others wait for them."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import LoweredKernel

_WARP = 32
#: A CTA's barriers by number; 0 is that of all its threads (PTX ISA, barrier).
_BARRIERS = 16


def role_problems(lowered: LoweredKernel) -> Iterator[str]:
    """What is wrong with the roles of the warps, the named barriers and the rings between roles."""
    end = 0
    for role in lowered.roles:
        if role.first != end or role.warps < 1:
            yield f"warps {role.first} to {role.first + role.warps - 1} are for {role.name}, and the next one is {end}"
        end = role.first + role.warps
    if end * _WARP != lowered.launch.threads:
        yield f"{lowered.launch.threads} threads, and {end} warps have a role"
    names = [role.name for role in lowered.roles]
    if len(set(names)) < len(names):
        yield "two roles have one name"
    yield from _named_barriers(lowered, set(names))
    for ring in lowered.pipeline.barriers if lowered.pipeline is not None else ():
        for who, what in ((ring.by, "arrives at"), (ring.awaited_by, "waits for")):
            if not who:
                yield f"nobody {what} {ring.name}"
            for role in who:
                if role not in names:
                    yield f"{role} {what} {ring.name}, and there are no such warps"
    if (lowered.converters is None) != ("convert" not in names):
        yield "converter warps are planned, and none have that role, or the other way round"
    elif lowered.converters is not None and lowered.role_of("convert").warps != lowered.converters.warps:
        yield f"{lowered.converters.warps} converter warps are planned, and {lowered.role_of('convert').warps} there"


def _named_barriers(lowered: LoweredKernel, roles: set[str]) -> Iterator[str]:
    numbers = [barrier.number for barrier in lowered.named_barriers]
    if len(set(numbers)) < len(numbers):
        yield f"two named barriers have one number: {sorted(numbers)}"
    if len({barrier.name for barrier in lowered.named_barriers}) < len(numbers):
        yield "two named barriers have one name"
    for barrier in lowered.named_barriers:
        if not 0 < barrier.number < _BARRIERS:
            yield f"{barrier.name} has the number {barrier.number}, and there are 1 to {_BARRIERS - 1}"
        if barrier.role not in roles:
            yield f"{barrier.role} meet at {barrier.name}, and there are no such warps"
    met = {barrier.name for barrier in lowered.named_barriers if barrier.role == "epilogue"}
    for name in lowered.epilogue.barriers:
        if name not in met:
            yield f"the epilogue's warps meet at {name}, and there is no such barrier of theirs"
