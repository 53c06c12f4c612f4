"""Shared memory, loads and rings of Hopper's GEMM.

A CTA loads its rows of A for itself, and its share of B's rows and scale atoms for the cluster. What threads convert is
loaded as bytes, without a swizzle, because it is read by rows; what wgmma reads where TMA puts it, with the swizzle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fp4cc.ir.lowered import (
    CONSUMERS,
    TILE_K,
    Barrier,
    Cluster,
    Exchange,
    Load,
    Mainloop,
    NamedBarrier,
    Operand,
    Pipeline,
    Problem,
    Promotion,
    Scales,
    Slotted,
    Smem,
    SmemBuffer,
    Tile,
    Wgmma,
)
from fp4cc.ir.lowered.wgmma import slot_of, slotted, slotted_roles
from fp4cc.ir.part import Part
from fp4cc.ir.sizes import scaled
from fp4cc.passes.engines.wgmma.operands import Steps
from fp4cc.passes.resources.smem import ATOM_BYTES, place_buffers
from fp4cc.passes.resources.tensor_maps import BOX_ROWS, codes_map, scale_atoms_map
from fp4cc.targets.sm90 import SM90A
from fp4rt.manifest import TensorMap

#: Converted operands: one being multiplied, one being waited for, one being written.
SLOTS = 3
#: Of a product with promoted sums: the two stages of a step, which are multiplied before the next is converted.
PROMOTED_SLOTS = 2
SLOT_BYTES = SM90A.tile_m * 2 * TILE_K
#: Where the warps that convert and multiply meet.
OPERAND_BARRIER = NamedBarrier("OPERAND_BARRIER", 2, "epilogue", "the named barrier of those four")
#: A row of a tile's sums in shared memory; 4 floats of padding keep both sides of the exchange free of bank conflicts.
EXCHANGE_PITCH = 4 * (SM90A.tile_n + 4)
_EXCHANGE_BYTES = SM90A.tile_m * EXCHANGE_PITCH
_MAP_TYPES = {"bf16": "BF16", "f16": "F16"}


def plan_mainloops(
    problem: Problem, steps: Sequence[Steps], tile: Tile, cluster: Cluster
) -> tuple[tuple[Mainloop, ...], tuple[TensorMap, ...]]:
    """The mainloops with their feeds, and the tensor maps of the loads."""
    planner = _Loads(problem, tile, cluster)
    mainloops = tuple(planner.mainloop(each) for each in steps)
    return mainloops, tuple(planner.maps.values())


@dataclass
class _Loads:
    """Makes the loads of mainloops. Those that read alike share a tensor map."""

    problem: Problem
    tile: Tile
    cluster: Cluster
    maps: dict[str, TensorMap] = field(default_factory=dict[str, TensorMap])

    def mainloop(self, steps: Steps) -> Mainloop:
        alone = replace(self.problem, products=steps.products)  # K is the mainloop's
        mainloop = Mainloop(steps.products, steps.tile_k, steps.slotted, 0)
        slots = [(part, operand, slot_of(mainloop, part)) for part, operand in mainloop.operands]
        loads = [self._codes(alone, part, operand, slot) for part, operand, slot in slots]
        loads += [
            self._atoms(alone, part, operand, slot.loaded_scales)
            for part, operand, slot in slots
            if slot is not None and slot.loaded_scales is not None
        ]
        total = sum(load.slice_bytes * load.slices for load in loads)
        return replace(mainloop, feeds=(*loads, *steps.slotted), tx_bytes=total)

    def _codes(self, problem: Problem, part: Part, operand: Operand, slot: Slotted | None) -> Load:
        all_rows = self.tile.m if part.role == "A" else self.tile.n
        rows = all_rows // self._slices(part)
        if slot is not None:
            width, dtype, row_bytes = scaled(problem.k, operand.bits, 8), "U8", slot.row_bytes
            box, swizzle = (row_bytes, rows), "none"
        else:
            width, dtype, row_bytes = problem.k, _MAP_TYPES[operand.element], 2 * TILE_K
            box, swizzle = (self.tile.k, rows), "128B"
        boxes = 1
        if operand.across:
            boxes, box = all_rows // BOX_ROWS, (BOX_ROWS, self.tile.k)
        wanted = codes_map(f"{operand.arg}_codes", problem, operand, dtype, width, box, swizzle)
        return replace(self._load(wanted, part, all_rows * row_bytes), boxes=boxes)

    def _atoms(self, problem: Problem, part: Part, operand: Operand, scales: Scales) -> Load:
        box = (256 // self._slices(part), 1, 1)
        wanted = scale_atoms_map(f"{operand.arg}_scales", problem, operand, scales.block, box)
        return self._load(wanted, part.of_scales, ATOM_BYTES)

    def _load(self, wanted: TensorMap, part: Part, size: int) -> Load:
        slices = self._slices(part)
        everyone = (1 << self.cluster.m) - 1
        masks = tuple(everyone if part.role == "B" else 1 << rank for rank in range(self.cluster.m))
        return Load(self._name(wanted), part, slices, size // slices, size // slices, masks)

    def _slices(self, part: Part) -> int:
        return self.cluster.m if part.role == "B" else 1

    def _name(self, wanted: TensorMap) -> str:
        """The name of a map that reads as wanted: one there is, or a new one."""
        name, number = wanted.name, 1
        while name in self.maps and self.maps[name] != replace(wanted, name=name):
            number += 1
            name = f"{wanted.name}{number}"
        self.maps[name] = replace(wanted, name=name)
        return name


def plan_pipeline(mainloops: Sequence[Mainloop], cluster: Cluster, stages: int) -> Pipeline:
    """The ring of stages that all mainloops share."""
    total, *others = (f"{loop.tx_bytes}" for loop in mainloops)
    then = "".join(f"; then {other}" for other in others)
    when = "multiplied" if any(loop.direct for loop in mainloops) else "converted"
    barriers = (
        Barrier("ab_full", stages, 1, int(total), f"the load warp, with the bytes of the stage{then}",
                "the four other warps", ("load",), ("epilogue",), "cta" if cluster.size == 1 else "cluster"),
        Barrier("ab_empty", stages, CONSUMERS * cluster.m, 0,
                f"a lane of each warp that has {when} it, of every CTA of the cluster", "the load warp",
                ("epilogue",), ("load",), "cta" if cluster.size == 1 else "cluster"),
    )  # fmt: skip
    return Pipeline(stages, barriers, (), ())


def factors_buffer(promotion: Promotion) -> tuple[SmemBuffer, ...]:
    """Where the f32 scales of B's columns lie for a step, if each has its own."""
    if not promotion.b.each_row:
        return ()
    return (SmemBuffer("b_factors", 0, 4 * SM90A.tile_n, 1, 16, "B's scales of a step, one a column"),)


def plan_smem(mainloops: Sequence[Mainloop], engine: Wgmma, stages: int, others: Sequence[SmemBuffer]) -> Smem:
    """Converted operands and exchanged sums in one place, the ring of stages, other buffers, barriers."""
    converted = slotted_roles(mainloops)
    if converted:
        what = f"{' and '.join(converted)} converted; then a tile's sums on their way to the epilogue"
    else:
        what = "a tile's sums on their way to the epilogue"
    # A mainloop that needs less leaves the rest of a stage unused.
    ring: dict[Part, int] = {}
    swizzled = {part for loop in mainloops for part, _ in loop.operands if slot_of(loop, part) is None}
    for load in (load for loop in mainloops for load in loop.loads):
        ring[load.part] = max(ring.get(load.part, 0), load.slice_bytes * load.slices)
    wanted = [
        SmemBuffer(exchange(mainloops).buffer, 0,
                   max(_EXCHANGE_BYTES, len(converted) * engine.slots * SLOT_BYTES), 1, 1024, what),
        *(SmemBuffer(part.buffer, 0, size, stages, 1024 if part in swizzled else 128, f"rows of {part.role}", part)
          for part, size in ring.items() if not part.scales),
        *(SmemBuffer(part.buffer, 0, size, stages, 128, f"a scale atom of {part.role}", part)
          for part, size in ring.items() if part.scales),
        *others,
        SmemBuffer("ab_full", 0, 8, stages, 8, "barriers: the stage holds data"),
        SmemBuffer("ab_empty", 0, 8, stages, 8, "barriers: the stage may be filled"),
    ]  # fmt: skip
    return place_buffers(wanted, SM90A.smem_bytes)


def exchange(mainloops: Sequence[Mainloop]) -> Exchange:
    """Where sums cross to the epilogue: over the converted operands, where there are any."""
    return Exchange("operands" if slotted(mainloops) else "exchange_smem", EXCHANGE_PITCH, between=True)
