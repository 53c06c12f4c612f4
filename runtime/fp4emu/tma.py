"""What a TMA instruction moves: boxes of a tensor between global and shared memory (PTX ISA, "Tensors";
`cp.async.bulk.tensor`, `cp.reduce.async.bulk.tensor`), tile mode without interleave.

Global addresses of a box are an affine function of its indices, so a box is one strided view of the arena. In shared
memory a box is one row after the other, innermost dimension first, 16 bytes at a time placed by the swizzle; a row that
is shorter than the swizzle span is padded to it. What the ISA leaves open was settled by running boxes of every shape
on a Hopper GPU: that padding, which coordinates are illegal, the NaNs of the fill, the rounding of tf32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fp4emu.errors import Fault
from fp4emu.memory import (
    ALLOCATED,
    ASYNC_BITS,
    BARRIER,
    READ_ONLY,
    READABLE,
    READING,
    SHARED_RESERVED,
    WRITTEN,
    GlobalMemory,
    SharedMemory,
    unreadable,
)
from fp4emu.selection import Selection, Strided, Units
from fp4emu.swizzle import PATTERNS, Swizzle, swizzle
from fp4emu.tensormap import BITS, PADDED, DataType, Interleave, OobFill, TensorMap
from fp4emu.values import nan_max32, nan_min32

Bytes = npt.NDArray[np.uint8]
ALIGNMENT = 128
"""Shared-memory alignment of a box (PTX ISA, `cp.async.bulk.tensor`: "dstMem must be 128 byte aligned")."""

_NAN_FILL = np.uint16(0x7FF7)
"""Repeated in every 16 bits, whatever the float type."""
_DATA_OF_16: dict[DataType, int] = {DataType.B4X16_P64: 8, DataType.B6X16_P32: 12}


@lru_cache(maxsize=256)
def decode_map(raw: bytes) -> TensorMap:
    """`TensorMap.decode`, remembered."""
    return TensorMap.decode(raw)


@dataclass(frozen=True, slots=True)
class Box:
    """The part of a box that lies inside of the tensor.

    `shape` is the whole box in shared memory, outermost first, its last entry the packed bytes of an inner row.
    `inside` selects the part that exists; `start` is the global address of its first byte and `strides` the byte
    strides of its outer axes. `empty` boxes lie outside altogether.
    """

    shape: tuple[int, ...]
    inside: tuple[slice, ...]
    start: int
    strides: tuple[int, ...]
    empty: bool


@lru_cache(maxsize=256)
def _geometry(tmap: TensorMap) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(elements along each dimension, shape of the box in shared memory), remembered for each map."""
    counts = tmap.counts
    return counts, (*reversed(counts[1:]), counts[0] * tmap.bits // 8)


def locate(tmap: TensorMap, coordinates: tuple[int, ...], *, store: bool = False) -> Box:
    """Where the box at `coordinates` (elements, innermost first, signed) lies.

    Stores and reductions clip the innermost dimension to whole 16 bytes, not to elements, and take no negative
    coordinates.
    """
    _check_supported(tmap, coordinates)
    if store and min(coordinates) < 0:
        raise Fault(f"a TMA store at the negative coordinates {coordinates} is an illegal instruction")
    bits = tmap.bits
    slices: list[slice] = []
    strides: list[int] = []
    start, empty = tmap.address, False
    counts, shape = _geometry(tmap)
    for axis in range(tmap.rank):
        step, count, origin = tmap.element_strides[axis], counts[axis], coordinates[axis]
        low = max(0, -(origin // step)) if origin < 0 else 0
        high = min(count, -(-(tmap.dims[axis] - origin) // step))
        empty = empty or high <= low
        first = origin + low * step
        if axis == 0:
            end = high * bits // 8
            slices.append(slice(low * bits // 8, min(-(-end // 16) * 16, count * bits // 8) if store else end))
            start += first * bits // 8
        else:
            slices.append(slice(low, high))
            start += first * tmap.strides[axis - 1]
            strides.append(tmap.strides[axis - 1] * step)
    return Box(shape, tuple(reversed(slices)), start, tuple(reversed(strides)), empty)


def _check_supported(tmap: TensorMap, coordinates: tuple[int, ...]) -> None:
    if len(coordinates) != tmap.rank:
        raise Fault(f"the instruction has {len(coordinates)} coordinates, its tensor map rank {tmap.rank}")
    if tmap.interleave is not Interleave.NONE:
        raise Fault("interleaved tensor maps are not modelled")
    if tmap.element_strides[0] != 1:
        raise Fault("TMA ignores an element stride of the innermost dimension; it must be 1")
    multiple = 128 if tmap.dtype in PADDED else max(1, 128 // tmap.bits)
    if coordinates[0] % multiple:
        raise Fault(
            f"coordinate 0 is {coordinates[0]}; with {tmap.dtype.name} it must be a multiple of {multiple}",
            hint="the inner coordinate moves in steps of 16 bytes; anything else is an illegal instruction",
        )


def _view(array: Bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Bytes:
    return np.ndarray(shape, np.uint8, array, offset, (*strides, 1))  # as_strided takes eight times as long


def _global_view(memory: GlobalMemory, box: Box, needed: int, what: str) -> tuple[Bytes, Bytes]:
    """(data, state) views of the existing part of a box, after a check that each byte has the `needed` state bits."""
    shape = tuple(part.stop - part.start for part in box.inside)
    reach = sum((extent - 1) * stride for extent, stride in zip(shape, (*box.strides, 1), strict=True)) + 1
    offset = memory.offset(box.start, 1)
    if offset + reach > len(memory.data):
        raise Fault(
            f"the box reaches {reach} bytes from {box.start:#x}, past every allocation", hint=memory.describe(box.start)
        )
    data = _view(memory.data, offset, shape, box.strides)
    state = _view(memory.state, offset, shape, box.strides)
    if int(np.bitwise_and.reduce(state, axis=None)) & needed != needed:
        index = tuple(int(i) for i in np.argwhere((state & needed) != needed)[0])
        address = box.start + sum(i * s for i, s in zip(index, (*box.strides, 1), strict=True))
        missing = "is in no allocation" if not state[index] & ALLOCATED else "was never written"
        raise Fault(f"{what} touches {address:#x}, which {missing}", hint=memory.describe(address))
    return data, state


def _touch_box(memory: GlobalMemory, box: Box, *, write: bool) -> None:
    """Tells who watches the order of accesses."""
    if memory.touch is not None:
        shape = tuple(part.stop - part.start for part in box.inside)
        memory.touch(Strided(memory.offset(box.start, 1), shape, box.strides), write)


def _writable(box: Box, state: Bytes, what: str) -> None:
    if int(np.bitwise_or.reduce(state, axis=None)) & READ_ONLY:
        raise Fault(f"{what} writes read-only memory at {box.start:#x}")


def read_box(memory: GlobalMemory, tmap: TensorMap, coordinates: tuple[int, ...]) -> Bytes:
    """The packed bytes of a box, `Box.shape`, with zeros or NaNs for what lies outside of the tensor."""
    box = locate(tmap, coordinates)
    if tmap.oob_fill is OobFill.NAN:
        out = np.full(int(np.prod(box.shape)) // 2, _NAN_FILL).view(np.uint8).reshape(box.shape)
    else:
        out = np.zeros(box.shape, np.uint8)
    if not box.empty:
        data, _ = _global_view(memory, box, ALLOCATED | WRITTEN, "the TMA load")
        _touch_box(memory, box, write=False)
        out[box.inside] = _round_tf32(data) if tmap.dtype in (DataType.TF32, DataType.TF32_FTZ) else data
    return out


def _round_tf32(data: Bytes) -> Bytes:
    """float32 rounded to the 10-bit mantissa of tf32, to nearest even; every NaN becomes 0x7FFFE000."""
    bits = np.ascontiguousarray(data).view(np.uint32)
    rounded = (bits + 0xFFF + ((bits >> 13) & 1)) & np.uint32(0xFFFF_E000)
    nan = (bits & 0x7FFF_FFFF) > 0x7F80_0000
    return np.where(nan, np.uint32(0x7FFF_E000), rounded).view(np.uint8)


def write_box(memory: GlobalMemory, tmap: TensorMap, coordinates: tuple[int, ...], packed: Bytes) -> None:
    """Stores the part of a box that lies inside of the tensor."""
    box = locate(tmap, coordinates, store=True)
    if box.empty:
        return
    data, state = _global_view(memory, box, ALLOCATED, "the TMA store")
    _writable(box, state, "the TMA store")
    _touch_box(memory, box, write=True)
    data[...] = packed.reshape(box.shape)[box.inside]
    state |= WRITTEN


def reduce_box(memory: GlobalMemory, tmap: TensorMap, coordinates: tuple[int, ...], packed: Bytes, op: str) -> None:
    """Reduces a box into global memory (`cp.reduce.async.bulk.tensor`); both sides must have been written."""
    box = locate(tmap, coordinates, store=True)
    if box.empty:
        return
    data, state = _global_view(memory, box, ALLOCATED | WRITTEN, "the TMA reduction")
    _writable(box, state, "the TMA reduction")
    _touch_box(memory, box, write=False)
    _touch_box(memory, box, write=True)
    mine = np.ascontiguousarray(packed.reshape(box.shape)[box.inside])
    data[...] = reduce_bytes(np.ascontiguousarray(data), mine, tmap.dtype, op)


_INTEGER: dict[DataType, type[np.generic]] = {
    DataType.U8: np.uint8,
    DataType.U16: np.uint16,
    DataType.U32: np.uint32,
    DataType.I32: np.int32,
    DataType.U64: np.uint64,
    DataType.I64: np.int64,
}
_HALVES = frozenset({DataType.F16, DataType.BF16})
_ADDS = frozenset({DataType.U32, DataType.I32, DataType.U64, DataType.F32, DataType.F32_FTZ, DataType.F64}) | _HALVES
_ORDERED = frozenset({DataType.U32, DataType.I32, DataType.U64, DataType.I64}) | _HALVES
_BITWISE = frozenset({DataType.U32, DataType.I32, DataType.U64})
REDUCTIONS: dict[str, frozenset[DataType]] = {
    "add": _ADDS,
    "min": _ORDERED,
    "max": _ORDERED,
    "inc": frozenset({DataType.U32}),
    "dec": frozenset({DataType.U32}),
    "and": _BITWISE,
    "or": _BITWISE,
    "xor": _BITWISE,
}
"""Element types that each reduction takes; the others are illegal instructions."""


def reduce_bytes(old: Bytes, new: Bytes, dtype: DataType, op: str) -> Bytes:
    """`old op new` elementwise on bytes of `dtype` elements, as an array of bytes."""
    if dtype not in REDUCTIONS[op]:
        raise Fault(
            f"reduction .{op} of {dtype.name} does not exist", hint=f"types: {sorted(t.name for t in REDUCTIONS[op])}"
        )
    if op in ("and", "or", "xor"):
        return {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[op](old, new)
    if dtype in _INTEGER:
        a, b = old.view(_INTEGER[dtype]), new.view(_INTEGER[dtype])
        return _integer_reduce(a, b, op).view(np.uint8)
    if dtype is DataType.BF16:
        wide = _float_reduce(_bf16_to_f32(old), _bf16_to_f32(new), op)
        return _f32_to_bf16(wide).view(np.uint8)
    kinds: dict[int, type[np.floating]] = {16: np.float16, 32: np.float32, 64: np.float64}
    kind = kinds[BITS[dtype]]
    a, b = old.view(kind), new.view(kind)
    flush = dtype is DataType.F32_FTZ
    result = _flush(_float_reduce(_flush(a), _flush(b), op)) if flush else _float_reduce(a, b, op).astype(kind)
    if kind is not np.float64:
        result[np.isnan(result)] = np.frombuffer(b"\xff" * (result.itemsize - 1) + b"\x7f", kind)[0]
    return result.view(np.uint8)


def _integer_reduce(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], op: str) -> npt.NDArray[np.generic]:
    one = np.ones_like(a)
    if op == "add":
        return a + b  # type: ignore[operator]
    if op == "min":
        return np.minimum(a, b)
    if op == "max":
        return np.maximum(a, b)
    if op == "inc":
        return np.where(a >= b, np.zeros_like(a), a + one)  # type: ignore[operator]
    return np.where((a == 0) | (a > b), b, a - one)  # type: ignore[operator]


def _float_reduce(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating], op: str) -> npt.NDArray[np.floating]:
    with np.errstate(over="ignore", invalid="ignore"):
        return a + b if op == "add" else nan_min32(a, b) if op == "min" else nan_max32(a, b)


def _flush(x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    tiny = np.abs(x) < np.finfo(np.float32).tiny
    return np.where(tiny, np.copysign(np.float32(0), x), x).astype(np.float32)


def _bf16_to_f32(raw: Bytes) -> npt.NDArray[np.float32]:
    return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _f32_to_bf16(x: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
    """Round to nearest even; a sum of two bf16 is exact enough in f32 that one more rounding decides no tie wrongly."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded).astype(np.uint16)


# --- the shared-memory side ---


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a box lies in shared memory: `reach` bytes from its start, cut into units of `unit` bytes, of which `order`
    (relative to the start) hold the box's units one after the other. `used` bytes of a unit carry data. Without gaps
    the box is `dense`."""

    reach: int
    unit: int
    used: int
    order: npt.NDArray[np.int64]
    dense: bool


@lru_cache(maxsize=512)
def _placement(base: int, rows: int, row_bytes: int, mode: Swizzle, used: int) -> Placement:
    pattern = PATTERNS[mode]
    unit = 8 if pattern.flip else 16
    pitch = row_bytes if mode is Swizzle.NONE else pattern.span
    offset = np.arange(rows, dtype=np.int64)[:, None] * pitch + np.arange(0, row_bytes, unit, dtype=np.int64)[None, :]
    order = (swizzle(base + offset, mode) - base) // unit
    dense = pitch == row_bytes and used == unit == 16
    return Placement(rows * pitch, unit, min(used, unit), order.reshape(-1), dense)


def placement(tmap: TensorMap, offset: int) -> Placement:
    """The placement of a box of `tmap` at byte `offset` of shared memory."""
    if offset % ALIGNMENT:
        raise Fault(f"the shared-memory address {offset:#x} of a TMA box is not a multiple of {ALIGNMENT}")
    _, shape = _geometry(tmap)
    rows = 1
    for count in shape[:-1]:
        rows *= count
    used = _DATA_OF_16.get(tmap.dtype, 16)
    row_bytes = shape[-1] * 16 // used
    return _placement(offset % 1024, rows, row_bytes, tmap.swizzle, used)


def _window(shared: SharedMemory, offset: int, reach: int) -> tuple[Bytes, Bytes]:
    """(data, state) of the bytes, which must lie in the CTA's shared memory."""
    if offset < SHARED_RESERVED or offset + reach > shared.size:
        raise Fault(
            f"a TMA box of {reach} bytes at shared {shared.base + offset:#x} is outside of the CTA's "
            f"{shared.size} bytes"
        )
    return shared.data[offset : offset + reach], shared.state[offset : offset + reach]


def _units(place: Placement, offset: int) -> Selection:
    """The bytes of a box in shared memory."""
    if place.dense:
        return slice(offset, offset + place.reach)
    return Units(place.order + offset // place.unit, place.unit, place.used)


def place_box(shared: SharedMemory, offset: int, tmap: TensorMap, packed: Bytes) -> None:
    """Writes the packed bytes of a box to shared memory at `offset`. Padding bytes stay as they are."""
    place = placement(tmap, offset)
    data, state = _window(shared, offset, place.reach)
    if int(np.bitwise_or.reduce(state)) & (BARRIER | READING):
        shared.check_write(offset, place.reach)
    if shared.touch is not None:
        shared.touch(_units(place, offset), True)
    if place.dense:
        # A complex128 is 16 bytes, so one assignment moves a unit.
        data.view(np.complex128)[place.order] = packed.reshape(-1).view(np.complex128)
        state[:] = READABLE
        return
    used = place.used
    data.reshape(-1, place.unit)[place.order, :used] = packed.reshape(-1, used)
    state.reshape(-1, place.unit)[place.order, :used] = READABLE


def fetch_box(shared: SharedMemory, offset: int, tmap: TensorMap) -> Bytes:
    """The packed bytes of a box in shared memory at `offset`, all of which must have been written."""
    place = placement(tmap, offset)
    data, state = _window(shared, offset, place.reach)
    state = state & ASYNC_BITS
    if place.dense and (state == READABLE).all():
        if shared.touch is not None:
            shared.touch(_units(place, offset), False)
        return np.take(data.view(np.complex128), place.order).view(np.uint8)
    wrong = state.reshape(-1, place.unit)[place.order, : place.used] != READABLE
    if wrong.any():
        unit = int(np.flatnonzero(wrong.any(axis=1))[0])
        byte = int(place.order[unit]) * place.unit + int(np.flatnonzero(wrong[unit])[0])
        where, why = shared.describe(offset + byte), unreadable(int(state[byte]))
        raise Fault(
            f"the TMA store reads {where}, which {why} ({place.unit}-byte unit {unit} of the box)",
            hint="the epilogue did not fill the box, wrote it with another swizzle, or did not fence the proxy",
        )
    if shared.touch is not None:
        shared.touch(_units(place, offset), False)
    return data.reshape(-1, place.unit)[place.order, : place.used].reshape(-1)
