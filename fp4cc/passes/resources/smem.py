"""Shared memory: buffers one after the other, and the size of scale atoms in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.ir.lowered import Smem, SmemBuffer

ATOM_BYTES = 512  # a scale atom: 128 rows x 4 scales


def row_atoms(rows: int) -> int:
    """Scale atoms that hold `rows` rows starting at a multiple of 64 in steps of `rows`."""
    return -(-rows // 128)


def place_buffers(wanted: Sequence[SmemBuffer], limit: int) -> Smem:
    """Shared memory with the buffers one after the other, each on its alignment."""
    placed: list[SmemBuffer] = []
    end = 0
    for buffer in wanted:
        offset = -(-end // buffer.align) * buffer.align
        placed.append(replace(buffer, offset=offset))
        end = offset + buffer.bytes * buffer.stages
    return Smem(tuple(placed), end, limit)
