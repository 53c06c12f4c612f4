"""Tensor maps through cuTensorMapEncodeTiled, cached by address: a call on the same memory encodes nothing."""

from __future__ import annotations

import ctypes
from typing import Any

from fp4rt.cuda.driver import Context, check, driver
from fp4rt.errors import ArgumentError
from fp4rt.resolve import Key, Resolved, ResolvedMap

_TYPES = {
    "U8": "UINT8", "U16": "UINT16", "U32": "UINT32", "I32": "INT32", "U64": "UINT64", "I64": "INT64",
    "F16": "FLOAT16", "BF16": "BFLOAT16", "F32": "FLOAT32", "F64": "FLOAT64", "F32_FTZ": "FLOAT32_FTZ",
    "TF32": "TFLOAT32", "TF32_FTZ": "TFLOAT32_FTZ",
    "B4X16": "16U4_ALIGN8B", "B4X16_P64": "16U4_ALIGN16B", "B6X16_P32": "16U6_ALIGN16B",
}  # fmt: skip
_L2 = {"none": "NONE", "64B": "L2_64B", "128B": "L2_128B", "256B": "L2_256B"}
_FILL = {"zeros": "NONE", "nan": "NAN_REQUEST_ZERO_FMA"}
ZEROS = bytes(128)
_MAX_CACHED = 4096


class MapCache:
    """The encoded maps of one loaded kernel."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._encoded: dict[tuple[str, Key, str, int], bytes] = {}

    def get(self, plan: Resolved, m: ResolvedMap, address: int) -> bytes:
        """The 128 bytes of a plan's map over the buffer at `address`; zeros if the map is not active."""
        if not m.active:
            return ZEROS
        key = (plan.variant, plan.key, m.name, address)
        found = self._encoded.get(key)
        if found is None:
            with self._context.current():  # CUDA encodes for the device of the current context
                found = encode(m, address + m.byte_offset)
            if len(self._encoded) >= _MAX_CACHED:
                self._encoded.clear()
            self._encoded[key] = found
        return found


def encode(m: ResolvedMap, address: int) -> bytes:
    """cuTensorMapEncodeTiled; ArgumentError where the address is not aligned, DeviceError where CUDA refuses."""
    unit = alignment(m)
    if address % unit:
        raise ArgumentError(
            f"{m.source} lies at {address:#x}: its tensor map needs an address that is a multiple of {unit}",
            argument=m.source.partition(".")[0],
            code="FP6106",
            help="pass a whole tensor, or a copy of the slice",
        )
    cu = driver()
    result = cu.cuTensorMapEncodeTiled(
        _member(cu.CUtensorMapDataType, "CU_TENSOR_MAP_DATA_TYPE_" + _TYPES[m.dtype]),
        len(m.dims),
        address,
        [cu.cuuint64_t(d) for d in m.dims],
        [cu.cuuint64_t(s) for s in m.strides],
        [cu.cuuint32_t(b) for b in m.box],
        [cu.cuuint32_t(s) for s in m.element_strides],
        cu.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        _member(cu.CUtensorMapSwizzle, "CU_TENSOR_MAP_SWIZZLE_" + m.swizzle.upper()),
        _member(cu.CUtensorMapL2promotion, "CU_TENSOR_MAP_L2_PROMOTION_" + _L2[m.l2]),
        _member(cu.CUtensorMapFloatOOBfill, "CU_TENSOR_MAP_FLOAT_OOB_FILL_" + _FILL[m.fill]),
    )
    encoded = check(result, f"cuTensorMapEncodeTiled of {m.name} {m.dtype}{list(m.dims)}")
    return ctypes.string_at(int(encoded.getPtr()), 128)


def alignment(m: ResolvedMap) -> int:
    """The alignment of the map's address in bytes (CUDA driver API, cuTensorMapEncodeTiled)."""
    return 32 if m.dtype in ("B4X16_P64", "B6X16_P32") else 16


def _member(enum: Any, name: str) -> Any:
    return getattr(enum, name)
