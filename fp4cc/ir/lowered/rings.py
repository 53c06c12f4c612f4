"""The rings between the warps, the warps by their roles, and the barriers that have numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RoleName = Literal["epilogue", "load", "mma", "convert"]


@dataclass(frozen=True, slots=True)
class WarpRole:
    """Warps of a CTA that do the same: `warps` of them from number `first` on. `what` they do, in words."""

    name: RoleName
    first: int
    warps: int
    what: str


@dataclass(frozen=True, slots=True)
class NamedBarrier:
    """One of a CTA's sixteen barriers (PTX ISA, barrier); 0 is that of all threads. All warps of `role` meet at it."""

    name: str
    number: int
    role: RoleName
    what: str


#: Where the epilogue's warps meet: its constructs share it.
EPILOGUE_BARRIER = NamedBarrier("EPILOGUE_BARRIER", 1, "epilogue", "the epilogue's")


@dataclass(frozen=True, slots=True)
class Barrier:
    """A ring of mbarriers. A phase ends after `arrivals` arrivals and `tx_bytes` transferred bytes.

    `scope`: whose threads, copies and commits arrive: those of this CTA, or other CTAs' of the cluster as well. A wait
    acquires what was handed over at that scope. `by` and `awaited_by`: the roles whose warps, or their copies and
    commits, arrive, and those that wait.
    """

    name: str
    stages: int
    arrivals: int
    tx_bytes: int
    arrive: str  # who arrives, in words
    wait: str  # who waits
    by: tuple[RoleName, ...]
    awaited_by: tuple[RoleName, ...]
    scope: Literal["cta", "cluster"] = "cta"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The rings, and the multicast masks of tcgen05.commit by the rank of the issuing (leader) CTA, 0 elsewhere."""

    stages: int
    barriers: tuple[Barrier, ...]
    empty_masks: tuple[int, ...]
    acc_full_masks: tuple[int, ...]

    def barrier(self, name: str) -> Barrier:
        """The ring of that name; KeyError if there is none."""
        for barrier in self.barriers:
            if barrier.name == name:
                return barrier
        raise KeyError(name)
