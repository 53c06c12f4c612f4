"""A list of problems as launches: what lies in global memory for them, and how many clusters each problem has.

Each problem has a record with its parameters, tensor maps among them, and each CTA a word that says which record is
its own (`fp4rt.plan.record_layout`, `LIST_PARAMS`). A CTA never leaves its problem: so the kernel is that of a call,
and problems that differ in K share the device by time, not by the number of tiles.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fp4rt.plan import PLACE_BYTES, RECORD_ALIGN, record_layout
from fp4rt.resolve import Resolved, ResolvedLaunch, ResolvedMap


@dataclass(frozen=True, slots=True)
class OverList:
    """A launch over the problems that take one plan, `variant`. `launch` is that of any of them; `records` and `places`
    are what its two parameters point to, both aligned to 128 bytes."""

    variant: str
    launch: ResolvedLaunch
    grid: tuple[int, int, int]
    records: bytes
    places: bytes

    @property
    def table(self) -> bytes:
        """Both, one behind the other, and zeros up to a multiple of 128 bytes."""
        return self.records + self.places + bytes(-len(self.places) % RECORD_ALIGN)


@dataclass(frozen=True, slots=True)
class ListRun:
    """A list of problems, ready to run where streams mean nothing; `launches`: of how many kernels."""

    run: Callable[[], None]
    launches: int

    def __call__(self, stream: object | None) -> None:
        self.run()


def over_lists(
    plans: Sequence[Resolved],
    record: Callable[[int, ResolvedLaunch], bytes],
    clusters: Callable[[Resolved, ResolvedLaunch], int],
) -> list[OverList]:
    """The launches of a list, in order: for each plan that its problems take those of that plan.

    Args:
        plans: what each problem takes.
        record: makes the record of a problem, by its number, for a launch.
        clusters: how many clusters of a launch the device holds at once.
    """
    found: list[OverList] = []
    for variant in dict.fromkeys(plan.variant for plan in plans):
        numbers = [number for number, plan in enumerate(plans) if plan.variant == variant]
        first = plans[numbers[0]]
        for index in range(len(first.launches)):
            launches = {number: plans[number].launches[index] for number in numbers}
            busy = {number: launch for number, launch in launches.items() if not launch.empty}
            if busy:
                found.append(_over_list(variant, busy, record, clusters(first, first.launches[index])))
    return found


def _over_list(
    variant: str,
    launches: Mapping[int, ResolvedLaunch],
    record: Callable[[int, ResolvedLaunch], bytes],
    clusters: int,
) -> OverList:
    each = list(launches.values())
    launch = each[0]
    size = launch.cluster[0] * launch.cluster[1] * launch.cluster[2]
    tiles = [x.grid[0] // size if x.tiles is None else x.tiles for x in each]
    work = [x.work for x in each]
    counts = tiles if launch.tiles is None else shares(tiles, work, clusters)
    ctas = [size * count for count in counts]
    # The clusters with most to do come first: where not all fit at once, the last to start then end soon.
    longest = sorted(range(len(each)), key=lambda i: -(-(-tiles[i] // counts[i]) * work[i]))
    places = np.zeros((sum(ctas), PLACE_BYTES // 4), "<u4")
    at = 0
    for i in longest:
        own = places[at : at + ctas[i]]
        own[:, 0], own[:, 1], own[:, 2] = i, np.arange(ctas[i]), ctas[i]
        at += ctas[i]
    records = b"".join(record(number, x) for number, x in launches.items())
    return OverList(variant, launch, (sum(ctas), 1, 1), records, places.tobytes())


def shares(tiles: Sequence[int], work: Sequence[int], clusters: int) -> list[int]:
    """How many clusters each problem has, of `clusters` that run at once; at least one.

    They end within the least time in which that many can, a tile of problem i taking `work[i]`. Where there are more
    problems than clusters, the time is the average of a cluster, and what does not fit waits.
    """
    if sum(tiles) <= clusters:
        return list(tiles)

    def needed(time: int) -> list[int]:
        return [-(-count // max(1, time // each)) for count, each in zip(tiles, work, strict=True)]

    low = max(1, -(-sum(count * each for count, each in zip(tiles, work, strict=True)) // clusters))
    high = max(count * each for count, each in zip(tiles, work, strict=True))
    if sum(needed(high)) > clusters:
        return needed(low)
    while low < high:
        middle = (low + high) // 2
        if sum(needed(middle)) > clusters:
            low = middle + 1
        else:
            high = middle
    return needed(high)


def record_bytes(
    launch: ResolvedLaunch,
    maps: Sequence[ResolvedMap],
    addresses: Mapping[str, int],
    scalars: Mapping[str, float],
    encode: Callable[[ResolvedMap, int], bytes],
) -> bytes:
    """The record of a problem for a launch. `encode` gives the 128 bytes of a tensor map for an address."""
    places, size = record_layout(p.kind for p in launch.params)
    by_name = {m.name: m for m in maps}
    out = bytearray(size)
    for p, place in zip(launch.params, places, strict=True):
        match p.kind:
            case "tensor_map":
                m = by_name[p.source]
                if m.active:
                    out[place : place + p.size] = encode(m, addresses[m.source] + m.byte_offset)
            case "pointer":
                struct.pack_into("<Q", out, place, addresses[p.source] + p.byte_offset)
            case "f32":
                struct.pack_into("<f", out, place, scalars[p.source])
            case _:
                struct.pack_into("<q", out, place, p.value)
    return bytes(out)
