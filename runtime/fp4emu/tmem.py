"""Tensor memory: allocation, lane and column checks, and the register layouts of tcgen05.ld and tcgen05.st.

PTX ISA, "Tensor Memory", "Tensor Memory Allocation and Management", "tcgen05: Matrix fragments". An address is
lane << 16 | column; a cell has 32 bits. Register layouts are the ones that CuTe publishes for the same shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fp4emu.errors import Fault
from fp4emu.memory import TensorMemory

Words = npt.NDArray[np.uint32]
Index = npt.NDArray[np.int64]

MIN_COLUMNS = 32


def split(address: int) -> tuple[int, int]:
    """(lane, column) of a tensor-memory address."""
    lane, column = address >> 16 & 0xFFFF, address & 0xFFFF
    if lane >= TensorMemory.LANES or column >= TensorMemory.COLUMNS:
        raise Fault(f"tensor-memory address {address:#x} is lane {lane}, column {column}: outside of 128 x 512")
    return lane, column


def check_columns(memory: TensorMemory, column: int, count: int, what: str) -> None:
    """Faults unless the columns exist and are allocated."""
    for start, size in memory.allocations.items():
        if start <= column and column + count <= start + size:
            return
    if column + count > TensorMemory.COLUMNS:
        raise Fault(f"{what} reaches column {column + count - 1}; tensor memory has {TensorMemory.COLUMNS} columns")
    if not memory.allocated[column : column + count].all():
        missing = column + int(np.flatnonzero(~memory.allocated[column : column + count])[0])
        raise Fault(f"{what} touches column {missing}, which is not allocated", hint="tcgen05.alloc more columns")


def check_written(memory: TensorMemory, lanes: slice, columns: slice, what: str) -> None:
    """Faults unless every cell of the rectangle was written."""
    written = memory.written[lanes, columns]
    if not written.all():
        row, column = (int(i) for i in np.argwhere(~written)[0])
        raise Fault(
            f"{what} reads lane {lanes.start + row}, column {columns.start + column}, which was never written",
            hint="a missing wait, a wrong column offset, or an accumulator that was not initialized",
        )


# --- allocation ---


def check_count(count: int) -> None:
    """Allocations are of 32, 64, 128, 256 or 512 columns."""
    if count < MIN_COLUMNS or count > TensorMemory.COLUMNS or count & (count - 1):
        raise Fault(f"tensor memory is allocated in powers of two from 32 to 512 columns, not {count}")


def find_free(memory: TensorMemory, count: int) -> int | None:
    """The first free range of `count` columns, aligned to 32, or None."""
    for start in range(0, TensorMemory.COLUMNS - count + 1, MIN_COLUMNS):
        if not memory.allocated[start : start + count].any():
            return start
    return None


def allocate(memory: TensorMemory, start: int, count: int) -> None:
    """Takes the columns; their contents are undefined."""
    memory.allocated[start : start + count] = True
    memory.written[:, start : start + count] = False
    memory.allocations[start] = count
    if memory.claim is not None:
        memory.claim(slice(start, start + count))


def deallocate(memory: TensorMemory, address: int, count: int) -> None:
    """Frees exactly what one tcgen05.alloc gave."""
    check_count(count)
    lane, column = split(address)
    if lane or memory.allocations.get(column) != count:
        held = ", ".join(f"{size} at column {start}" for start, size in sorted(memory.allocations.items())) or "nothing"
        raise Fault(f"tcgen05.dealloc of {count} columns at {address:#x}; allocated: {held}")
    if memory.touch is not None:
        memory.touch((slice(None), slice(column, column + count)), True)
    del memory.allocations[column]
    memory.allocated[column : column + count] = False


# --- tcgen05.ld / tcgen05.st ---


@dataclass(frozen=True, slots=True)
class Fragment:
    """Cells of each register and lane of a warp, [register, thread], relative to the address: lane and column offsets.

    `lanes` is the height of the shape and `columns` its width in cells (before unpacking). `whole`: register and thread
    are column and lane.
    """

    lane: Index
    column: Index
    lanes: int
    columns: int
    whole: bool = False


@lru_cache(maxsize=256)
def fragment(shape: str, repeat: int, split_offset: int = 0) -> Fragment:
    """The layout of `.shape.x<repeat>`; `split_offset` is the immediate of `.16x32bx2`, in columns."""
    thread = np.arange(32)[None, :]
    if shape == "32x32b":
        register = np.arange(repeat)[:, None]
        return replace(_fragment(thread + 0 * register, register + 0 * thread, 32), whole=True)
    if shape == "16x32bx2":
        register = np.arange(repeat)[:, None]
        return _fragment(thread % 16 + 0 * register, register + thread // 16 * split_offset, 16)
    if shape == "16x64b":
        register = np.arange(repeat)[:, None]
        return _fragment(thread % 2 * 8 + thread // 4 + 0 * register, thread // 2 % 2 + 2 * register, 16)
    if shape == "16x128b":
        register = np.arange(2 * repeat)[:, None]
        return _fragment(thread // 4 + 8 * (register % 2), thread % 4 + 4 * (register // 2), 16)
    if shape == "16x256b":
        register = np.arange(4 * repeat)[:, None]
        row = thread // 4 + 8 * (register // 2 % 2)
        return _fragment(row, thread % 4 * 2 + register % 2 + 8 * (register // 4), 16)
    raise Fault(f"tcgen05.ld has no shape .{shape}")


def _fragment(lane: Index, column: Index, lanes: int) -> Fragment:
    return Fragment(lane, column, lanes, int(column.max()) + 1)


def _rectangle(memory: TensorMemory, address: int, warp: int, part: Fragment, pack: bool, what: str) -> tuple[int, int]:
    """(lane, column) of the address, after the checks that do not depend on the contents."""
    lane, column = split(address)
    subpartition = warp % 4 * 32
    if lane < 32:
        # Public kernels (DeepGEMM) leave the lane 0 in every warp: the hardware adds the warp's own 32 lanes.
        lane += subpartition
    step = 32 if part.lanes == 32 else 16
    if lane // 32 * 32 != subpartition or lane % step:
        raise Fault(
            f"{what} of warp {warp} at lane {lane}: it may only start at lane {subpartition}"
            + (f" or {subpartition + 16}" if step == 16 else ""),
            hint="a warp reaches the 32 lanes that its index modulo 4 selects",
        )
    check_columns(memory, column, part.columns * (2 if pack else 1), what)
    return lane, column


def load(memory: TensorMemory, address: int, warp: int, part: Fragment, pack: bool) -> Words:
    """tcgen05.ld: registers [register, thread]. With `pack`, each holds the low halves of two neighboring columns."""
    lane, column = _rectangle(memory, address, warp, part, pack, "tcgen05.ld")
    if part.whole and not pack:
        return _load_whole(memory, slice(lane, lane + 32), slice(column, column + part.columns))
    rows, columns = lane + part.lane, column + part.column * (2 if pack else 1)
    _check_cells(memory, rows, columns)
    if memory.touch is not None:
        memory.touch((rows, columns), False)
    if not pack:
        return memory.data[rows, columns]
    _check_cells(memory, rows, columns + 1)
    if memory.touch is not None:
        memory.touch((rows, columns + 1), False)
    return (memory.data[rows, columns] & np.uint32(0xFFFF)) | (memory.data[rows, columns + 1] << np.uint32(16))


def _load_whole(memory: TensorMemory, lanes: slice, columns: slice) -> Words:
    """The cells of a rectangle of 32 lanes, [column, lane]."""
    if not memory.written[lanes, columns].all():
        _check_cells(memory, *np.broadcast_arrays(_steps(lanes)[None, :], _steps(columns)[:, None]))
    if memory.touch is not None:
        memory.touch((lanes, columns), False)
    return np.ascontiguousarray(memory.data[lanes, columns].T)


def _steps(part: slice) -> Index:
    return np.arange(part.start, part.stop)


def store(memory: TensorMemory, address: int, warp: int, part: Fragment, unpack: bool, values: Words) -> None:
    """tcgen05.st of registers [register, thread]. With `unpack`, the two halves of each go to neighboring columns."""
    lane, column = _rectangle(memory, address, warp, part, unpack, "tcgen05.st")
    rows, columns = lane + part.lane, column + part.column * (2 if unpack else 1)
    if memory.touch is not None:
        memory.touch((rows, columns), True)
        if unpack:
            memory.touch((rows, columns + 1), True)
    if unpack:
        memory.data[rows, columns + 1] = values >> np.uint32(16)
        memory.written[rows, columns + 1] = True
        values = values & np.uint32(0xFFFF)
    memory.data[rows, columns] = values
    memory.written[rows, columns] = True


def _check_cells(memory: TensorMemory, rows: Index, columns: Index) -> None:
    written = memory.written[rows, columns]
    if not written.all():
        register, thread = (int(i) for i in np.argwhere(~written)[0])
        raise Fault(
            f"tcgen05.ld reads lane {int(rows[register, thread])}, column {int(columns[register, thread])}, "
            "which was never written",
            hint="a missing wait for the MMA, a wrong column offset, or another register layout",
        )
