"""Shared memory, loads and rings of Hopper's GEMM.

A CTA loads its rows of A for itself, and its share of B's rows and scale atoms for the cluster. What threads convert is
loaded as bytes, without a swizzle, because it is read by rows; what wgmma reads where TMA puts it, with the swizzle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fp4cc.ir.lowered import Barrier, Cluster, Load, Pipeline, Problem, Smem, SmemBuffer
from fp4cc.ir.lowered_promoted import PromotedScales
from fp4cc.ir.lowered_wgmma import CONSUMERS, TILE_K, Scales, Side, WgmmaLoop, converted_roles
from fp4cc.ir.sizes import scaled
from fp4cc.passes.engines.wgmma.operands import Steps
from fp4cc.passes.resources.smem import ATOM_BYTES, place_buffers
from fp4cc.passes.resources.tensor_maps import codes_map, scale_atoms_map
from fp4cc.targets.sm90 import SM90A
from fp4rt.manifest import TensorMap

#: Converted operands: one being multiplied, one being waited for, one being written.
SLOTS = 3
#: Of a product with promoted sums: the two stages of a step, which are multiplied before the next is converted.
PROMOTED_SLOTS = 2
SLOT_BYTES = SM90A.tile_m * 2 * TILE_K
#: A row of a tile's sums in shared memory; 4 floats of padding keep both sides of the exchange free of bank conflicts.
EXCHANGE_PITCH = 4 * (SM90A.tile_n + 4)
_EXCHANGE_BYTES = SM90A.tile_m * EXCHANGE_PITCH
_MAP_TYPES = {"bf16": "BF16", "f16": "F16"}


def plan_loops(
    problem: Problem, steps: Sequence[Steps], cluster: Cluster
) -> tuple[tuple[WgmmaLoop, ...], tuple[TensorMap, ...]]:
    """The mainloops with their loads, and the tensor maps of these."""
    planner = _Loads(problem, cluster)
    loops = tuple(planner.loop(each) for each in steps)
    return loops, tuple(planner.maps.values())


@dataclass
class _Loads:
    """Makes the loads of mainloops. Those that read alike share a tensor map."""

    problem: Problem
    cluster: Cluster
    maps: dict[str, TensorMap] = field(default_factory=dict[str, TensorMap])

    def loop(self, steps: Steps) -> WgmmaLoop:
        alone = replace(self.problem, products=steps.products)  # K is the mainloop's
        sides = (steps.a, *steps.bs)
        loads = [self._codes(alone, side) for side in sides]
        loads += [self._atoms(alone, side, side.loaded_scales) for side in sides if side.loaded_scales is not None]
        total = sum(load.slice_bytes * load.slices for load in loads)
        return WgmmaLoop(steps.products, steps.a, steps.bs, tuple(loads), total, steps.tile_k)

    def _codes(self, problem: Problem, side: Side) -> Load:
        operand, rows = side.operand, side.rows // self._slices(side)
        if side.converted:
            width, dtype = scaled(problem.k, operand.bits, 8), "U8"
            box, swizzle = (side.row_bytes, rows), "none"
        else:
            width, dtype = problem.k, _MAP_TYPES[side.wide]
            box, swizzle = (TILE_K, rows), "128B"
        wanted = codes_map(f"{operand.arg}_codes", problem, operand, dtype, width, box, swizzle)
        return self._load(side, wanted, side.buffer, side.rows * side.row_bytes)

    def _atoms(self, problem: Problem, side: Side, scales: Scales) -> Load:
        box = (256 // self._slices(side), 1, 1)
        wanted = scale_atoms_map(f"{side.operand.arg}_scales", problem, side.operand, scales.block, box)
        return self._load(side, wanted, f"sf{side.buffer}", ATOM_BYTES)

    def _load(self, side: Side, wanted: TensorMap, buffer: str, size: int) -> Load:
        slices = self._slices(side)
        everyone = (1 << self.cluster.m) - 1
        masks = tuple(everyone if side.operand.role == "B" else 1 << rank for rank in range(self.cluster.m))
        return Load(self._name(wanted), buffer, slices, size // slices, size // slices, masks)

    def _slices(self, side: Side) -> int:
        return self.cluster.m if side.operand.role == "B" else 1

    def _name(self, wanted: TensorMap) -> str:
        """The name of a map that reads as wanted: one there is, or a new one."""
        name, number = wanted.name, 1
        while name in self.maps and self.maps[name] != replace(wanted, name=name):
            number += 1
            name = f"{wanted.name}{number}"
        self.maps[name] = replace(wanted, name=name)
        return name


def plan_pipeline(loops: Sequence[WgmmaLoop], cluster: Cluster, stages: int) -> Pipeline:
    """The ring of stages that all mainloops share."""
    total, *others = (f"{loop.tx_bytes}" for loop in loops)
    then = "".join(f"; then {other}" for other in others)
    when = "multiplied" if any(loop.direct for loop in loops) else "converted"
    barriers = (
        Barrier("ab_full", stages, 1, int(total), f"the load warp, with the bytes of the stage{then}",
                "the four other warps", "cta" if cluster.size == 1 else "cluster"),
        Barrier("ab_empty", stages, CONSUMERS * cluster.m, 0,
                f"a lane of each warp that has {when} it, of every CTA of the cluster", "the load warp",
                "cta" if cluster.size == 1 else "cluster"),
    )  # fmt: skip
    return Pipeline(stages, tuple(load for loop in loops for load in loop.loads), barriers, (), ())


def factors_buffer(scales: tuple[PromotedScales, PromotedScales]) -> tuple[SmemBuffer, ...]:
    """Where the f32 scales of B's columns lie for a step, if each has its own."""
    if not scales[1].each_row:
        return ()
    return (SmemBuffer("b_factors", 0, 4 * SM90A.tile_n, 1, 16, "B's scales of a step, one a column"),)


def plan_smem(loops: Sequence[WgmmaLoop], slots: int, stages: int, others: Sequence[SmemBuffer]) -> Smem:
    """Converted operands and exchanged sums in one place, the ring of stages, other buffers, barriers."""
    converted = converted_roles(loops)
    if converted:
        what = f"{' and '.join(converted)} converted; then a tile's sums on their way to the epilogue"
    else:
        what = "a tile's sums on their way to the epilogue"
    # A mainloop that needs less leaves the rest of a stage unused.
    ring: dict[str, int] = {}
    swizzled = {side.buffer for loop in loops for side in loop.sides if not side.converted}
    for load in (load for loop in loops for load in loop.loads):
        ring[load.buffer] = max(ring.get(load.buffer, 0), load.slice_bytes * load.slices)
    codes = {name: size for name, size in ring.items() if not name.startswith("sf")}
    wanted = [
        SmemBuffer("operands" if converted else "exchange_smem", 0,
                   max(_EXCHANGE_BYTES, len(converted) * slots * SLOT_BYTES), 1, 1024, what),
        *(SmemBuffer(name, 0, size, stages, 1024 if name in swizzled else 128, f"rows of {_role(name)}")
          for name, size in codes.items()),
        *(SmemBuffer(name, 0, size, stages, 128, f"a scale atom of {_role(name[2:])}")
          for name, size in ring.items() if name not in codes),
        *others,
        SmemBuffer("ab_full", 0, 8, stages, 8, "barriers: the stage holds data"),
        SmemBuffer("ab_empty", 0, 8, stages, 8, "barriers: the stage may be filled"),
    ]  # fmt: skip
    return place_buffers(wanted, SM90A.smem_bytes)


def _role(buffer: str) -> str:
    return "A" if buffer == "a_smem" else "B"
