"""Shared memory and tensor memory: what goes where, and how many stages fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4cc.ir.lowered import Mma, Smem, SmemBuffer, Tile, Tmem
from fp4cc.targets import Target

ATOM_BYTES = 512  # a scale atom: 128 rows x 4 scales
ATOM_COLUMNS = 4  # the tensor memory columns it takes


@dataclass(frozen=True, slots=True)
class StageBytes:
    """Bytes of one stage in a CTA, by buffer."""

    a: int
    b: int
    sfa: int
    sfb: int

    @property
    def total(self) -> int:
        return self.a + self.b + self.sfa + self.sfb


def scale_atoms(mma: Mma) -> int:
    """Scale atoms along K in one stage."""
    return mma.instructions_per_tile_k // mma.instructions_per_atom


def row_atoms(rows: int) -> int:
    """Scale atoms that hold `rows` rows starting at a multiple of 64 in steps of `rows`."""
    return -(-rows // 128)


def stage_bytes(mma: Mma, tile: Tile, target: Target) -> StageBytes:
    """What a stage takes: rows one swizzle row long, and whole scale atoms (all of B's in each CTA of a pair)."""
    atoms = scale_atoms(mma)
    return StageBytes(
        a=tile.cta_m * target.tile_k_bytes,
        b=tile.n // mma.cta_group * target.tile_k_bytes,
        sfa=atoms * ATOM_BYTES,
        sfb=atoms * row_atoms(tile.n) * ATOM_BYTES,
    )


def fitting_stages(stage: StageBytes, acc_stages: int, staging: Sequence[SmemBuffer], most: int, target: Target) -> int:
    """The most stages that fit beside the epilogue's buffers, up to `most` (0: not even one)."""
    stages = most
    while stages and plan_smem(stage, stages, acc_stages, staging, target).total > target.smem_bytes:
        stages -= 1
    return stages


def plan_smem(stage: StageBytes, stages: int, acc_stages: int, staging: Sequence[SmemBuffer], target: Target) -> Smem:
    """Offsets in allocation order: the rings, the epilogue's buffers (`staging`), barriers, tensor memory address."""
    wanted = [
        SmemBuffer("a_smem", 0, stage.a, stages, 1024, "codes of A"),
        SmemBuffer("b_smem", 0, stage.b, stages, 1024, "codes of B"),
        SmemBuffer("sfa_smem", 0, stage.sfa, stages, 512, "scale atoms of A"),
        SmemBuffer("sfb_smem", 0, stage.sfb, stages, 512, "scale atoms of B"),
        *staging,
        SmemBuffer("ab_full", 0, 8, stages, 8, "barriers: the stage holds data"),
        SmemBuffer("ab_empty", 0, 8, stages, 8, "barriers: the stage may be filled"),
        SmemBuffer("acc_full", 0, 8, acc_stages, 8, "barriers: the accumulator is done"),
        SmemBuffer("acc_empty", 0, 8, acc_stages, 8, "barriers: the accumulator may be overwritten"),
        SmemBuffer("tmem_address", 0, 4, 1, 4, "where tcgen05.alloc writes"),
    ]
    return place_buffers(wanted, target.smem_bytes)


def place_buffers(wanted: Sequence[SmemBuffer], limit: int) -> Smem:
    """Shared memory with the buffers one after the other, each on its alignment."""
    placed: list[SmemBuffer] = []
    end = 0
    for buffer in wanted:
        offset = -(-end // buffer.align) * buffer.align
        placed.append(SmemBuffer(buffer.name, offset, buffer.bytes, buffer.stages, buffer.align, buffer.what))
        end = offset + buffer.bytes * buffer.stages
    return Smem(tuple(placed), end, limit)


def plan_tmem(mma: Mma, tile: Tile, accumulators: int, target: Target) -> Tmem:
    """One or two accumulators beside the scales; overlapping ones if two do not fit apart.

    Two accumulators of 256 columns and the scales exceed 512 columns, so the second then starts early enough to leave
    room for the scales, and the columns both use are read first in each tile.
    """
    atoms = scale_atoms(mma)
    sfa = atoms * ATOM_COLUMNS
    sfb = atoms * row_atoms(tile.n) * ATOM_COLUMNS
    needed = accumulators * tile.n + sfa + sfb
    if needed <= target.tmem_columns:
        stride, release = tile.n, tile.n // 32
        columns = max(32, 1 << (needed - 1).bit_length())
        scales = accumulators * tile.n
    else:
        columns = target.tmem_columns
        scales = (columns - sfa - sfb) // 16 * 16
        stride = scales - tile.n
        release = -(-(tile.n - stride) // 32)
    return Tmem(
        columns=columns,
        acc_buffers=accumulators,
        acc_stride=stride,
        release_after=release,
        sfa=scales,
        sfb=scales + sfa,
        sfa_columns=ATOM_COLUMNS,
        sfb_columns=ATOM_COLUMNS * row_atoms(tile.n),
    )
