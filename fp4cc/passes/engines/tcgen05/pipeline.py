"""The rings between the warps: loads with their multicast, barriers with their arrivals and bytes.

A CTA of rank m + n * cluster.m takes part in two multicasts. The CTAs with the same m need the same rows of A, those
with the same n the same columns of B (with 2-CTA MMAs, where each CTA of a pair holds half of B's rows: those with the
same n and the same half). Each cuts what they share into equal slices and loads one for all. A stage may be filled
again only when every CTA that got data from us has consumed it, so each MMA warp commits to all CTAs that send to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from fp4cc.ir.lowered import Barrier, Cluster, Load, Mainloop, Mma, Operand, Pipeline, RoleName, Tmem
from fp4cc.ir.lowered_converters import Converters
from fp4cc.ir.part import Part
from fp4cc.passes.engines.tcgen05.memory import StageBytes
from fp4cc.passes.feeds.steps import Steps
from fp4cc.passes.resources.smem import ATOM_BYTES, row_atoms
from fp4cc.passes.resources.tensor_maps import BOX_ROWS, SWIZZLE_ROW

Scope: TypeAlias = Literal["cta", "cluster"]

#: Epilogue warps of a CTA; one lane of each arrives when the accumulator has been read.
EPILOGUE_WARPS = 4


def plan_pipeline(
    steps: Sequence[Steps],
    converters: Converters | None,
    cluster: Cluster,
    stage: StageBytes,
    stages: int,
    tmem: Tmem,
    tile_n: int,
    done: str,
) -> tuple[Pipeline, tuple[Mainloop, ...]]:
    """The pipeline of a schedule and its mainloops. `done`: when a commit hands an accumulator over, in words."""
    ranks = range(cluster.size)
    group = steps[0].mmas[0].cta_group
    at = [(rank % cluster.m, rank // cluster.m) for rank in ranks]

    def sharing(same: Callable[[tuple[int, int], tuple[int, int]], bool]) -> list[int]:
        return [sum(1 << other for other in ranks if same(at[rank], at[other])) for rank in ranks]

    rows = sharing(lambda x, y: x[0] == y[0])
    columns = sharing(lambda x, y: x[1] == y[1])
    halves = sharing(lambda x, y: x[1] == y[1] and (x[0] - y[0]) % group == 0)
    planner = _Loads(stage, row_atoms(tile_n), rows, columns, halves)
    mainloops = [planner.mainloop(step) for step in steps]
    leaders = [rank for rank in ranks if at[rank][0] % group == 0]
    # Whoever sends to either CTA of the pair: its two (or one) row groups and its column.
    senders = [rows[rank] | rows[rank + group - 1] | columns[rank] if rank in leaders else 0 for rank in ranks]
    pair = [((1 << group) - 1) << rank if rank in leaders else 0 for rank in ranks]
    consumers = sum(1 for mask in senders if mask & 1)
    acc_stages = acc_ring_stages(tmem, tile_n)
    who = "the load warp, with the bytes of the stage" if group == 1 else (
        "the leader's load warp, with the bytes of both CTAs"
    )  # fmt: skip
    who += "".join(f"; {m.tx_bytes} of {m.products[0].a.arg}'s" for m in mainloops[1:])
    arrivals, fillers = 1, "the load warp"
    filling: tuple[RoleName, ...] = ("load",)
    if converters is not None:
        arrivals += converters.members * group
        fillers += " and the converter warps"
        filling = ("load", "convert")
        who += "; a lane of each converter warp of the stage's team" + (", in both CTAs" if group == 2 else "")
    in_pair: Scope = "cluster" if group == 2 else "cta"
    filled: Scope = "cluster" if any(load.multicast for mainloop in mainloops for load in mainloop.loads) else in_pair
    freed: Scope = "cluster" if consumers > 1 else in_pair
    barriers = (
        Barrier("ab_full", stages, arrivals, mainloops[0].tx_bytes, who, "the MMA warp", filling, ("mma",), filled),
        Barrier("ab_empty", stages, consumers, 0, "tcgen05.commit of each MMA that reads what this CTA loads", fillers,
                ("mma",), filling, freed),
        Barrier("acc_full", acc_stages, 1, 0, f"tcgen05.commit {done}", "the epilogue warps", ("mma",), ("epilogue",),
                in_pair),
        Barrier("acc_empty", acc_stages, EPILOGUE_WARPS * group, 0, "a lane of each epilogue warp"
                if group == 1 else "a lane of each epilogue warp of both CTAs", "the MMA warp", ("epilogue",), ("mma",),
                in_pair),
    )  # fmt: skip
    return Pipeline(stages, barriers, tuple(senders), tuple(pair)), tuple(mainloops)


@dataclass
class _Loads:
    """The loads of mainloops. An argument that is loaded twice has two tensor maps, but for halves of it in one."""

    stage: StageBytes
    row_atoms: int
    rows: list[int]
    columns: list[int]
    halves: list[int]
    used: set[str] = field(default_factory=set[str])

    def mainloop(self, steps: Steps) -> Mainloop:
        stage, mma = self.stage, steps.mmas[0]
        mainloop = Mainloop(steps.products, steps.tile_k, steps.conversions, 0)
        loads: list[Load] = []
        maps: dict[tuple[str, str, str], str] = {}  # halves of one argument share its map
        for part, operand in mainloop.operands:
            if mainloop.feed(part) is None:
                size, groups = (stage.a, self.rows) if part.role == "A" else (stage.b, self.halves)
                name = self._name(operand, "codes", maps)
                load = _load(name, part, size, groups, size, _counted(operand, mma))
                boxes = size // (BOX_ROWS * steps.tile_k * operand.bits // 8) if operand.across else 1
                if operand.gather is not None:  # a box for each row
                    boxes = load.slice_bytes // SWIZZLE_ROW
                loads.append(replace(load, boxes=boxes))
        for part, operand in mainloop.operands if mma.scale is not None else ():
            if mainloop.feed(part.of_scales) is None:
                runs, groups = (1, self.rows) if part.role == "A" else (self.row_atoms, self.columns)
                name, size = self._name(operand, "scales", maps), mma.atoms * runs * ATOM_BYTES
                loads.append(_load(name, part.of_scales, size, groups, mma.atoms))
        tx_bytes = sum(load.tx_bytes * load.slices for load in loads) * mma.cta_group
        return replace(mainloop, feeds=(*loads, *steps.conversions), tx_bytes=tx_bytes)

    def _name(self, operand: Operand, what: str, maps: dict[tuple[str, str, str], str]) -> str:
        """The tensor map of an operand; `maps` has those of the same mainloop."""
        key = (operand.role, operand.arg, what)
        if key not in maps:
            maps[key], number = f"{operand.arg}_{what}", 1
            while maps[key] in self.used:
                number += 1
                maps[key] = f"{operand.arg}_{what}{number}"
            self.used.add(maps[key])
        return maps[key]


def acc_ring_stages(tmem: Tmem, tile_n: int) -> int:
    """Slots of the accumulator's ring: overlapping accumulators hand over one set of columns."""
    return 1 if tmem.overlapped(tile_n) else tmem.acc_buffers


def _counted(operand: Operand, mma: Mma) -> float:
    """Bytes the transaction barrier counts for a byte of codes in shared memory.

    Below 1 where TMA unpacks 4- or 6-bit elements to a byte each: the count is of the packed bytes.
    """
    return operand.bits / 8 if mma.kind == "mxf8f6f4" else 1.0


def _load(tensor_map: str, part: Part, total: int, groups: list[int], divisible: int, packing: float = 1.0) -> Load:
    """A load whose multicast groups are `groups[rank]`; cut in slices if `divisible` is a multiple of the group."""
    size = groups[0].bit_count()
    slices = size if divisible % size == 0 else 1
    masks = tuple(mask if slices == size or mask & -mask == 1 << rank else 0 for rank, mask in enumerate(groups))
    return Load(tensor_map, part, slices, total // slices, round(total // slices * packing), masks)
