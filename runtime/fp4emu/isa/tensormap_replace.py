"""Tensor maps that a kernel edits: tensormap.replace and tensormap.cp_fenceproxy (PTX ISA 9.7.9.28 and 9.7.13.17)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import ThreadContext, WarpContext
from fp4emu.memory import RANK_SHIFT
from fp4emu.order import tensor_maps
from fp4emu.registry import instruction
from fp4emu.tensormap import MAP_BYTES, MAX_RANK, USED_BYTES

OFFSET_MASK = (1 << RANK_SHIFT) - 1
SECTION = "9.7.9.28"
SPACE = "[space=global|shared::cta]"

# `.elemtype` values as (hardware type code, tf32 bit).
_ELEMENT_CODES = (
    *((code, 0) for code in range(8)),  # u8 u16 u32 s32 u64 s64 f16 f32
    *((code, 0) for code in (8, 9, 10)),  # f32.ftz f64 bf16
    *((7, 1), (8, 1)),  # tf32 tf32.ftz
    *((code, 0) for code in (11, 12, 13)),  # b4x16 b4x16_p64 b6x16_p32
)

# Enumerated fields of the control word: (first bit, number of values).
_ENUMS = {"interleave_layout": (11, 3), "swizzle_mode": (13, 4), "fill_mode": (15, 2), "swizzle_atomicity": (19, 4)}


def _read(thread: ThreadContext, ins: Instruction, address: int) -> npt.NDArray[np.uint8]:
    if address % MAP_BYTES:
        raise Fault(f"tensor map address {address:#x} is not a multiple of {MAP_BYTES}")
    if ins.mod("space") == "shared::cta":
        offset = address & OFFSET_MASK
        thread.cta.shared.check_read(offset, USED_BYTES)
        return thread.cta.shared.data[offset : offset + USED_BYTES].copy()
    return np.frombuffer(thread.memory.read(address, USED_BYTES), np.uint8).copy()


def _write(thread: ThreadContext, ins: Instruction, address: int, raw: npt.NDArray[np.uint8]) -> None:
    if ins.mod("space") == "shared::cta":
        offset = address & OFFSET_MASK
        thread.cta.shared.data[offset : offset + USED_BYTES] = raw
    else:
        thread.memory.write(address, raw)


def _put(words: npt.NDArray[np.uint32], word: int, first: int, bits: int, value: int) -> None:
    mask = ((1 << bits) - 1) << first
    words[word] = np.uint32((int(words[word]) & ~mask) | (value << first) & mask)


@instruction(
    "tensormap.replace",
    f"tile field=global_address {SPACE} b1024 b64",
    f"tile field=rank|elemtype|interleave_layout|swizzle_mode|fill_mode|swizzle_atomicity {SPACE} b1024 b32",
    style="thread",
    section=SECTION,
)
def replace(thread: ThreadContext, ins: Instruction, address: int, value: int) -> None:
    """Changes one field of a tensor map in memory. `.rank` takes the rank minus one."""
    raw = _read(thread, ins, address)
    words = raw.view(np.uint32)
    field = ins.mod("field")
    if field == "global_address":
        words[0], words[1] = value & 0xFFFF_FFFF, value >> 32
    elif field == "rank":
        if not 0 <= value < MAX_RANK:
            raise Fault(f"rank - 1 is {value}; it must be 0 to {MAX_RANK - 1}")
        _put(words, 2, 4, 3, value)
    elif field == "elemtype":
        if not 0 <= value < len(_ELEMENT_CODES):
            raise Fault(f".elemtype {value} does not exist")
        code, tf32 = _ELEMENT_CODES[value]
        _put(words, 2, 7, 4, code)
        _put(words, 2, 16, 1, tf32)
    else:
        first, count = _ENUMS[field]
        if not 0 <= value < count:
            raise Fault(f".{field} {value} does not exist")
        _put(words, 2, first, (count - 1).bit_length(), value)
    _write(thread, ins, address, raw)


@instruction(
    "tensormap.replace",
    f"tile field=box_dim|global_dim|element_stride {SPACE} b1024 b32",
    f"tile field=global_stride {SPACE} b1024 b64",
    style="thread",
    section=SECTION,
)
def replace_dimension(thread: ThreadContext, ins: Instruction, address: int, axis: int, value: int) -> None:
    """Changes a field of one dimension; strides are in bytes, of dimension `axis` + 1."""
    raw = _read(thread, ins, address)
    words = raw.view(np.uint32)
    field = ins.mod("field")
    last = MAX_RANK - 2 if field == "global_stride" else MAX_RANK - 1
    if not 0 <= axis <= last:
        raise Fault(f".{field} of dimension {axis}; it must be 0 to {last}")
    if field == "global_stride":
        if value % 16 or not 0 <= value < 1 << 40:
            raise Fault(f"stride {value} is not a multiple of 16 below 2^40")
        words[3 + axis] = (value >> 4) & 0xFFFF_FFFF
        _put(words, 7, 4 * axis, 4, value >> 36)
    elif value < 1:
        raise Fault(f".{field} {value} must be positive")
    elif field == "global_dim":
        words[8 + axis] = value - 1
    elif field == "element_stride":
        _put(words, 13, 3 * axis, 3, value - 1)
    elif axis == 0:
        _put(words, 13, 24, 8, value - 1)
    else:
        _put(words, 14, 8 * (axis - 1), 8, value - 1)
    _write(thread, ins, address, raw)


@instruction(
    "tensormap.cp_fenceproxy",
    "global shared::cta tensormap::generic release scope=cta|cluster|gpu|sys sync aligned",
    style="warp",
    section="9.7.13.17",
)
def copy_with_fence(warp: WarpContext, ins: Instruction, dst: Any, src: Any, size: int) -> None:
    """Copies a tensor map from shared to global memory, visible to the tensor-map proxy after an acquire."""
    if warp.active != 0xFFFF_FFFF:
        raise Fault("tensormap.cp_fenceproxy must be executed by the whole warp")
    target, source = (int(np.broadcast_to(np.asarray(v), 32)[0]) for v in (dst, src))
    if size != MAP_BYTES or target % MAP_BYTES or source % MAP_BYTES:
        raise Fault(f"tensormap.cp_fenceproxy copies {MAP_BYTES} bytes between addresses aligned to them")
    offset = source & OFFSET_MASK
    warp.cta.shared.check_read(offset, USED_BYTES)
    warp.memory.offset(target, MAP_BYTES)
    warp.memory.write(target, warp.cta.shared.data[offset : offset + USED_BYTES])
    observer = warp.machine.order
    if observer is not None:
        tensor_maps.released(observer.warp(warp), warp.active, together=True)
