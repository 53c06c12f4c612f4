"""Warp-level matrix instructions: the layouts of ldmatrix, stmatrix and mma.sync (PTX ISA 9.7.15, "Warp level matrix
multiply-accumulate").

Registers are arrays [register, lane] of 32-bit words. In a fragment, lane = 4 g + t.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

import fp4num
from fp4emu import operands
from fp4emu.errors import Fault
from fp4emu.operands import Element

Words = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

LANE = np.arange(32)
G, T = LANE // 4, LANE % 4


def row_fragment(element: Element, depth: int) -> tuple[Index, Index]:
    """(row, k) of each byte-group of A, [register, lane] -> row, and first k; a register holds 32 / bits elements.

    A of m16n8k<depth>: register r of lane 4g + t holds row g + 8 (r % 2), k from (r // 2) 4e + t e, e = elements a
    register.
    """
    per = 32 // element.bits
    count = depth // (4 * per) * 2
    register = np.arange(count)[:, None]
    return G[None, :] + 8 * (register % 2), register // 2 * 4 * per + T[None, :] * per


def column_fragment(element: Element, depth: int) -> tuple[Index, Index]:
    """(n, first k) of B: register r of lane 4g + t holds column g, k from r 4e + t e."""
    per = 32 // element.bits
    register = np.arange(depth // (4 * per))[:, None]
    return G[None, :] + 0 * register, register * 4 * per + T[None, :] * per


def decode_words(words: Words, element: Element, container: bool) -> Floats:
    """Values [..., elements a register] of packed registers; with `container`, sub-byte elements sit one a byte."""
    raw = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)
    if container and element.bits < 8:
        shift = operands.CONTAINER_SHIFT[element.bits]
        mask = ((1 << element.bits) - 1) << shift
        if (raw & ~np.uint8(mask)).any():
            raise Fault(
                f"an {element.name} operand has bits outside of its place in the byte, "
                f"bits {shift} to {shift + element.bits - 1}",
                hint="after ldmatrix .b4x16_p64, 4-bit elements must be shifted left by two",
            )
        return fp4num.decode((raw & mask) >> shift, element.name)
    if element.bits == 4:
        return np.take(operands.pair_table(), raw).view(np.float32)
    return operands.decode_bytes(raw, element)


def gather(words: Words, element: Element, rows: Index, ks: Index, height: int, depth: int, container: bool) -> Floats:
    """The matrix [height, depth] that fragments hold."""
    values = decode_words(words, element, container)
    per = values.shape[-1]
    matrix = np.empty((height, depth), np.float32)
    matrix[rows[..., None], ks[..., None] + np.arange(per)] = values
    return matrix


def accumulator(height: int, width: int) -> tuple[Index, Index]:
    """(row, column) [register, lane] of a 32-bit accumulator: register pairs along the row, then 8 rows on, then 8
    columns on."""
    register = np.arange(height * width // 32)[:, None]
    rows = G[None, :] + 8 * (register // 2 % 2)
    return rows, register // 4 * 8 + 2 * T[None, :] + register % 2


def scale_rows(registers: Words, byte: int, thread: int, count: int) -> Bytes:
    """Scales [16, count] of A: lanes 4g + 2 `thread` hold row g, the lanes after them row g + 8."""
    lanes = 4 * np.arange(8)
    rows = np.concatenate([lanes + 2 * thread, lanes + 2 * thread + 1])
    return _scale_bytes(registers[rows], byte, count)


def scale_columns(registers: Words, byte: int, thread: int, count: int) -> Bytes:
    """Scales [8, count] of B: lane 4g + `thread` holds column g."""
    return _scale_bytes(registers[4 * np.arange(8) + thread], byte, count)


def _scale_bytes(words: Words, byte: int, count: int) -> Bytes:
    if byte + count > 4 or byte % count:
        raise Fault(f"scale byte id {byte} with {count} scales in a register; it must be a multiple of {count} below 4")
    raw = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 4)
    return raw[:, byte : byte + count]


# --- ldmatrix and stmatrix ---


@lru_cache(maxsize=16)
def matrix_layout(shape: str, count: int, trans: bool) -> tuple[int, Index, Index]:
    """(memory rows, row, byte in row) of each register byte [register, lane, byte]; rows of one matrix follow those of
    the last.

    Row r of matrix i lies at the address that lane (rows a matrix) * i + r gives.
    """
    byte = np.arange(4)[None, None, :]
    lane = LANE[None, :, None]
    g, t = lane // 4, lane % 4
    if shape == "m8n8":
        register = np.arange(count)[:, None, None]
        if trans:
            return 8 * count, 8 * register + 2 * t + byte // 2, 2 * g + byte % 2 + 0 * register
        return 8 * count, 8 * register + g + 0 * byte, 4 * t + byte + 0 * register
    if shape == "m8n16":
        register = np.arange(count)[:, None, None]
        return 8 * count, 8 * register + g + 0 * byte, 4 * t + byte + 0 * register
    if shape == "m16n16":
        register = np.arange(2 * count)[:, None, None]
        return 16 * count, register // 2 * 16 + 4 * t + byte + 0 * g, g + 8 * (register % 2) + 0 * byte
    if shape == "m16n8":
        register = np.arange(count)[:, None, None]
        return 8 * count, 8 * register + 2 * t + byte % 2 + 0 * g, g + 8 * (byte // 2) + 0 * register
    raise Fault(f"no matrix shape .{shape}")


def expand(rows: Bytes, source: str) -> Bytes:
    """Rows [n, 16] of 16 elements as bytes, each in the low bits of its byte (ldmatrix `.b8x16.b4x16_p64`,
    `.b6x16_p32`)."""
    if source == "b4x16_p64":
        data = rows[:, :8]
        return np.stack([data & np.uint8(15), data >> np.uint8(4)], axis=-1).reshape(len(rows), 16)
    return operands.unpack6(rows[:, :12])
