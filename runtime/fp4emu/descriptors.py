"""Matrix descriptors of tcgen05 and wgmma: which shared-memory bytes a matrix operand is made of.

PTX ISA, "tcgen05: Shared memory layout and swizzling", "Matrix descriptor" and "Strides"; "wgmma: Matrix descriptor
format". A descriptor names a canonical layout of core matrices (8 rows of 16 bytes). With T elements in 16 bytes, in
units of elements before the swizzle (S is the swizzle span in bytes):

    K-major, no swizzle   ((8, m), (T, 2k)) : ((T, SBO), (1, LBO))
    K-major, swizzle S    ((8, m), (T, 2k)) : ((S, SBO), (1, T))
    MN-major, no swizzle  ((T, m), (8, k))  : ((1, SBO), (T, LBO))
    MN-major, swizzle S   ((T*S/16, m), (8, k)) : ((1, LBO), (S, SBO))

The swizzle acts on the final absolute address, so that advancing the start address inside of a swizzle row is legal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fp4emu.errors import Fault
from fp4emu.memory import ASYNC_BITS, READABLE, SharedMemory, unreadable
from fp4emu.selection import Units
from fp4emu.swizzle import PATTERNS, Swizzle, swizzle

Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]

_TCGEN05_LAYOUTS: dict[int, Swizzle] = {
    0: Swizzle.NONE,
    1: Swizzle.B128_ATOM_32B,
    2: Swizzle.B128,
    4: Swizzle.B64,
    6: Swizzle.B32,
}
_WGMMA_LAYOUTS: dict[int, Swizzle] = {0: Swizzle.NONE, 1: Swizzle.B128, 2: Swizzle.B64, 3: Swizzle.B32}


@dataclass(frozen=True, slots=True)
class MatrixDescriptor:
    """The decoded 64 bits; `start`, `lbo` and `sbo` in bytes. `absolute_lbo` is the LBO mode of K = 96."""

    start: int
    lbo: int
    sbo: int
    mode: Swizzle
    absolute_lbo: bool = False


@lru_cache(maxsize=4096)
def tcgen05_descriptor(value: int) -> MatrixDescriptor:
    """Decodes a tcgen05 shared-memory descriptor; raises `Fault` where its fixed fields are wrong."""
    _no_stray_bits(value, 0x3 << 14 | 0x3 << 30 | 0xFF << 53, "tcgen05")
    if value >> 46 & 7 != 1:
        raise Fault(
            f"matrix descriptor {value:#018x}: bits 46-48 are {value >> 46 & 7}, tcgen05 needs 0b001",
            hint="the descriptor was built for wgmma, or its high word is missing",
        )
    if value >> 49 & 7:
        raise Fault(f"matrix descriptor {value:#018x}: a base offset ({value >> 49 & 7}) is not modelled")
    mode = _TCGEN05_LAYOUTS.get(value >> 61)
    if mode is None:
        raise Fault(f"matrix descriptor {value:#018x}: layout type {value >> 61} does not exist (0, 1, 2, 4, 6)")
    return MatrixDescriptor(
        start=(value & 0x3FFF) << 4,
        lbo=(value >> 16 & 0x3FFF) << 4,
        sbo=(value >> 32 & 0x3FFF) << 4,
        mode=mode,
        absolute_lbo=bool(value >> 52 & 1),
    )


@lru_cache(maxsize=4096)
def wgmma_descriptor(value: int) -> MatrixDescriptor:
    """Decodes a wgmma shared-memory descriptor; raises `Fault` where its fixed fields are wrong."""
    _no_stray_bits(value, 0x3 << 14 | 0x3 << 30 | 0x7 << 46 | 0x3FF << 52, "wgmma")
    if value >> 49 & 7:
        raise Fault(f"matrix descriptor {value:#018x}: a base offset ({value >> 49 & 7}) is not modelled")
    return MatrixDescriptor(
        start=(value & 0x3FFF) << 4,
        lbo=(value >> 16 & 0x3FFF) << 4,
        sbo=(value >> 32 & 0x3FFF) << 4,
        mode=_WGMMA_LAYOUTS[value >> 62],
    )


def _no_stray_bits(value: int, mask: int, what: str) -> None:
    if value & mask:
        raise Fault(f"{what} matrix descriptor {value:#018x} has reserved bits {value & mask:#x} set")


@dataclass(frozen=True, slots=True, eq=False)
class Chunks:
    """Where the 16-byte chunks of an operand lie: byte addresses, their units of 16 bytes, the least and the greatest
    address. `touched` is what an access to the first bytes of each touches, by how many these are."""

    addresses: Index
    units: Index
    first: int
    last: int
    touched: dict[int, Units]

    @classmethod
    def at(cls, addresses: Index) -> Chunks:
        units = addresses >> 4
        for array in (addresses, units):
            array.setflags(write=False)
        touched = {used: Units(units.reshape(-1), 16, used) for used in (8, 12, 16)}
        return cls(addresses, units, int(addresses.min()), int(addresses.max()), touched)


def k_major_chunks(descriptor: MatrixDescriptor, rows: int, chunks: int) -> Chunks:
    """The chunks [rows, chunks] of a K-major operand: row, then 16 bytes along K."""
    d = descriptor
    return _k_major(d.start, d.lbo, d.sbo, d.mode, d.absolute_lbo, rows, chunks)


@lru_cache(maxsize=1024)
def _k_major(start: int, lbo: int, sbo: int, mode: Swizzle, absolute: bool, rows: int, chunks: int) -> Chunks:
    if mode is Swizzle.B128_ATOM_32B:
        raise Fault("the 128B swizzle with 32-byte atoms is for MN-major operands of 32-bit elements only")
    row = np.arange(rows, dtype=np.int64)[:, None]
    chunk = np.arange(chunks, dtype=np.int64)[None, :]
    if mode is Swizzle.NONE:
        address = start + row % 8 * 16 + row // 8 * sbo + chunk * lbo
    else:
        span = PATTERNS[mode].span
        # Chunks past the end of the swizzle row lie in the next stage of the operand, which only K = 96 may reach
        # and whose absolute address the LBO field then holds.
        column = start % span + chunk * 16
        base = start - start % span
        beyond = column >= span
        if beyond.any() and not absolute:
            raise Fault(
                f"the operand at {start:#x} reaches past its {span}-byte swizzle row",
                hint="advance the start address by the bytes of one K step, and to the next tile after the row's end",
            )
        origin = np.where(beyond, lbo, base)
        address = origin + row % 8 * span + row // 8 * sbo + np.where(beyond, column - span, column)
    return Chunks.at(swizzle(address, mode))


def mn_major_bytes(descriptor: MatrixDescriptor, rows: int, depth: int, size: int) -> Index:
    """Byte addresses [rows, depth] of the first byte of each element of an MN-major operand of `size`-byte elements."""
    return _mn_major(descriptor.start, descriptor.lbo, descriptor.sbo, descriptor.mode, rows, depth, size)


@lru_cache(maxsize=1024)
def _mn_major(start: int, lbo: int, sbo: int, mode: Swizzle, rows: int, depth: int, size: int) -> Index:
    offset = np.arange(rows, dtype=np.int64)[:, None] * size
    k = np.arange(depth, dtype=np.int64)[None, :]
    if mode is Swizzle.NONE:
        address = start + offset % 16 + offset // 16 * sbo + k % 8 * 16 + k // 8 * lbo
    else:
        span = PATTERNS[mode].span
        group = 4 if mode is Swizzle.B128_ATOM_32B else 8
        address = start + offset % span + offset // span * lbo + k % group * span + k // group * sbo
    result = swizzle(address, mode)
    result.setflags(write=False)
    return result


_CLEAN = np.uint64(0x0101_0101_0101_0101 * READABLE)
_LOOK = np.uint64(0x0101_0101_0101_0101 * ASYNC_BITS)


def _byte_mask(used: int) -> npt.NDArray[np.uint64]:
    """Ones in the first `used` bytes of every chunk of 16, as the two words of a chunk."""
    return np.frombuffer(b"\xff" * used + bytes(16 - used), np.uint64)


_MASKS = {used: _byte_mask(used) for used in (8, 12)}


def gather_chunks(shared: SharedMemory, chunks: Chunks, used: int = 16) -> Bytes:
    """The bytes of chunks ([...] -> [..., 16]); the first `used` bytes of each must have been written."""
    if chunks.first < 0 or chunks.last + 16 > shared.size:
        raise Fault(
            f"the operand spans shared bytes {chunks.first:#x} to {chunks.last + 16:#x}, "
            f"outside of the CTA's {shared.size} bytes",
            hint="check the descriptor's start address and offsets",
        )
    addresses, rows = chunks.addresses, chunks.units
    limit = len(shared.data) // 16 * 16
    # A complex128 is 16 bytes, so one gather moves a chunk.
    state = shared.state[:limit].view(np.complex128).take(rows).view(np.uint64)
    if used != 16:
        mask = np.tile(_MASKS[used], rows.size).reshape(state.shape)
        wrong = (state & mask & _LOOK) != (mask & _CLEAN)
    else:
        wrong = (state & _LOOK) != _CLEAN
    if np.count_nonzero(wrong):
        _explain_unwritten(shared, addresses, state.view(np.uint8).reshape(*rows.shape, 16)[..., :used])
    if shared.touch is not None:
        shared.touch(chunks.touched[used], False)
    return shared.data[:limit].view(np.complex128).take(rows).view(np.uint8).reshape(*rows.shape, 16)


def gather_elements(shared: SharedMemory, addresses: Index, size: int) -> Bytes:
    """The `size`-byte elements at `addresses` ([...] -> [..., size])."""
    first, last = int(addresses.min()), int(addresses.max())
    if first < 0 or last + size > shared.size:
        raise Fault(
            f"the operand spans shared bytes {first:#x} to {last + size:#x}, outside of the CTA's {shared.size}"
        )
    index = addresses[..., None] + np.arange(size)
    state = shared.state[index]
    if ((state & ASYNC_BITS) != READABLE).any():
        _explain_unwritten(shared, addresses, state)
    if shared.touch is not None:
        shared.touch(Units(addresses.reshape(-1) // size, size, size), False)
    return shared.data[index]


def _explain_unwritten(shared: SharedMemory, addresses: Index, state: Bytes) -> None:
    where = np.argwhere((state & ASYNC_BITS) != READABLE)
    row, column = int(where[0][0]), int(where[0][1])
    address = int(addresses[row, column]) + int(where[0][2])
    reason = unreadable(int(state[row, column, int(where[0][2])]))
    raise Fault(
        f"the operand reads shared byte {shared.describe(address)}, which {reason} "
        f"(row {row}, step {column} along K; {len(where)} such bytes)",
        hint="a wrong descriptor, a missing wait, or a copy that did not fill the tile",
    )
