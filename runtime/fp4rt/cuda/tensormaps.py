"""Tensor maps through cuTensorMapEncodeTiled: one for each set of sizes, as a new address does not need a new one."""

from __future__ import annotations

import ctypes
import struct

from fp4rt.cuda.driver import failure, native
from fp4rt.resolve import ResolvedMap

#: The numbers of cuda.h, which a driver never changes: CUtensorMapDataType, CUtensorMapSwizzle,
#: CUtensorMapL2promotion, CUtensorMapFloatOOBfill and CU_TENSOR_MAP_INTERLEAVE_NONE.
TYPES = {
    "U8": 0, "U16": 1, "U32": 2, "I32": 3, "U64": 4, "I64": 5, "F16": 6, "F32": 7, "F64": 8, "BF16": 9, "F32_FTZ": 10,
    "TF32": 11, "TF32_FTZ": 12, "B4X16": 13, "B4X16_P64": 14, "B6X16_P32": 15,
}  # fmt: skip
SWIZZLES = {"none": 0, "32B": 1, "64B": 2, "128B": 3}
PROMOTIONS = {"none": 0, "64B": 1, "128B": 2, "256B": 3}
FILLS = {"zeros": 0, "nan": 1}
_NO_INTERLEAVE = 0
#: Dims, strides, box and element strides, of which the driver reads as many as there are dims.
_LISTS = struct.Struct("<5Q5Q5I5I")
_DIMS, _STRIDES, _BOX, _ELEMENT_STRIDES = 0, 40, 80, 100
_SIZE, _ALIGN = 128, 64


def encode(m: ResolvedMap, address: int) -> bytes:
    """The 128 bytes of cuTensorMapEncodeTiled for an address that is aligned; DeviceError where CUDA refuses."""
    memory = ctypes.create_string_buffer(_SIZE + _LISTS.size + _ALIGN)
    base = ctypes.addressof(memory)
    place = base + -base % _ALIGN
    lists = place + _SIZE
    filled = (*_five(m.dims), *_five(m.strides), *_five(m.box), *_five(m.element_strides))
    _LISTS.pack_into(memory, lists - base, *filled)
    result = native().encode(
        place,
        TYPES[m.dtype],
        len(m.dims),
        address,
        lists + _DIMS,
        lists + _STRIDES,
        lists + _BOX,
        lists + _ELEMENT_STRIDES,
        _NO_INTERLEAVE,
        SWIZZLES[m.swizzle],
        PROMOTIONS[m.l2],
        FILLS[m.fill],
    )
    if result:
        raise failure(result, f"cuTensorMapEncodeTiled of {m.name} {m.dtype}{list(m.dims)}")
    return ctypes.string_at(place, _SIZE)


def _five(values: tuple[int, ...]) -> tuple[int, ...]:
    return (*values, *(0,) * (5 - len(values)))


def alignment(m: ResolvedMap) -> int:
    """The alignment of the map's address in bytes (CUDA driver API, cuTensorMapEncodeTiled)."""
    return 32 if m.dtype in ("B4X16_P64", "B6X16_P32") else 16
