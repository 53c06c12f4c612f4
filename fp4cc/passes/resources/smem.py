"""Shared memory: buffers one after the other, and what a stage's buffers are called and hold."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.ir.lowered import Smem, SmemBuffer

ATOM_BYTES = 512  # a scale atom: 128 rows x 4 scales


def row_atoms(rows: int) -> int:
    """Scale atoms that hold `rows` rows starting at a multiple of 64 in steps of `rows`."""
    return -(-rows // 128)


def b_buffer(number: int, scales: bool = False) -> str:
    """The buffer of the codes or scales of a mainloop's B, counted from 0."""
    return f"{'sfb' if scales else 'b'}{number + 1 if number else ''}_smem"


def place_buffers(wanted: Sequence[SmemBuffer], limit: int) -> Smem:
    """Shared memory with the buffers one after the other, each on its alignment."""
    placed: list[SmemBuffer] = []
    end = 0
    for buffer in wanted:
        offset = -(-end // buffer.align) * buffer.align
        placed.append(SmemBuffer(buffer.name, offset, buffer.bytes, buffer.stages, buffer.align, buffer.what))
        end = offset + buffer.bytes * buffer.stages
    return Smem(tuple(placed), end, limit)
