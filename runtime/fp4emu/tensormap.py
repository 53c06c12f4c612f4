"""The tensor map: what a TMA instruction knows of a tensor in global memory (PTX ISA, "Tensors"; CUDA driver API,
`cuTensorMapEncodeTiled`).

The 128-byte object is opaque by contract, but kernels take it as bytes, so its fields are decoded here. The positions
were read off maps that the CUDA 13.0 driver encoded on a Hopper GPU; those of the sub-byte types and of the swizzle
atoms off maps that the CuTe DSL encodes for sm_100a. Little-endian 32-bit words:

    0, 1    global address
    2       0-3 encoder flags, 4-6 rank - 1, 7-10 element type, 11-12 interleave, 13-14 swizzle, 15 NaN fill,
            16 tf32, 17-18 L2 promotion, 19-20 swizzle atom, 21 encoder flag
    3..6    bits 4-35 of the strides of dimensions 1..4;  7: bits 36-39 of each, a nibble a dimension
    8..12   extents - 1
    13      element strides - 1, three bits a dimension; 24-31 box extent 0 - 1
    14      box extents 1..4 minus 1, a byte each
    15      unused; words 16..31 hold the driver's own notes and are ignored
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from fp4emu.errors import Fault
from fp4emu.swizzle import PATTERNS, Swizzle

MAP_BYTES = 128
USED_BYTES = 64
"""The part that carries anything: kernels that edit maps in shared memory copy no more."""
MAX_RANK = 5
MAX_BOX_BYTES = 227 << 10


class DataType(IntEnum):
    """Element types of a tensor map; the values are those of `CUtensorMapDataType`."""

    U8 = 0
    U16 = 1
    U32 = 2
    I32 = 3
    U64 = 4
    I64 = 5
    F16 = 6
    F32 = 7
    F64 = 8
    BF16 = 9
    F32_FTZ = 10
    TF32 = 11
    TF32_FTZ = 12
    B4X16 = 13  # 16U4_ALIGN8B: 16 elements in 8 bytes, in shared memory as in global memory
    B4X16_P64 = 14  # 16U4_ALIGN16B: 8 bytes of elements, then 8 bytes of padding in shared memory
    B6X16_P32 = 15  # 16U6_ALIGN16B: 12 bytes of elements, then 4 bytes of padding in shared memory


class Interleave(IntEnum):
    """Interleaved layouts; the values are those of `CUtensorMapInterleave`."""

    NONE = 0
    B16 = 1
    B32 = 2


class L2Promotion(IntEnum):
    """Granularity of L2 fetches; no effect on results. The values are those of `CUtensorMapL2promotion`."""

    NONE = 0
    B64 = 1
    B128 = 2
    B256 = 3


class OobFill(IntEnum):
    """What lies outside of the tensor; the values are those of `CUtensorMapFloatOOBfill`."""

    ZERO = 0
    NAN = 1


FLOATS = frozenset(
    {DataType.F16, DataType.F32, DataType.F64, DataType.BF16, DataType.F32_FTZ, DataType.TF32, DataType.TF32_FTZ}
)
PADDED = frozenset({DataType.B4X16_P64, DataType.B6X16_P32})
SUB_BYTE = PADDED | {DataType.B4X16}

BITS: dict[DataType, int] = {
    DataType.U8: 8,
    DataType.U16: 16,
    DataType.U32: 32,
    DataType.I32: 32,
    DataType.U64: 64,
    DataType.I64: 64,
    DataType.F16: 16,
    DataType.F32: 32,
    DataType.F64: 64,
    DataType.BF16: 16,
    DataType.F32_FTZ: 32,
    DataType.TF32: 32,
    DataType.TF32_FTZ: 32,
    DataType.B4X16: 4,
    DataType.B4X16_P64: 4,
    DataType.B6X16_P32: 6,
}

# Element type as the hardware numbers it, and its tf32 bit.
_TYPE_CODE: dict[DataType, tuple[int, int]] = {
    DataType.U8: (0, 0),
    DataType.U16: (1, 0),
    DataType.U32: (2, 0),
    DataType.I32: (3, 0),
    DataType.U64: (4, 0),
    DataType.I64: (5, 0),
    DataType.F16: (6, 0),
    DataType.F32: (7, 0),
    DataType.F32_FTZ: (8, 0),
    DataType.F64: (9, 0),
    DataType.BF16: (10, 0),
    DataType.TF32: (7, 1),
    DataType.TF32_FTZ: (8, 1),
    DataType.B4X16: (11, 0),
    DataType.B4X16_P64: (12, 0),
    DataType.B6X16_P32: (13, 0),
}
_TYPE_OF_CODE = {code: dtype for dtype, code in _TYPE_CODE.items()}

# Swizzle mode as (span field, atom field).
_SWIZZLE_CODE: dict[Swizzle, tuple[int, int]] = {
    Swizzle.NONE: (0, 0),
    Swizzle.B32: (1, 0),
    Swizzle.B64: (2, 0),
    Swizzle.B128: (3, 0),
    Swizzle.B128_ATOM_32B: (3, 1),
    Swizzle.B128_ATOM_32B_FLIP_8B: (3, 2),
    Swizzle.B128_ATOM_64B: (3, 3),
}
_SWIZZLE_OF_CODE = {code: mode for mode, code in _SWIZZLE_CODE.items()}

# Bits 0-3 and 21 differ between encoders (driver: clear; CuTe DSL: bits 1 and 21 set) and change nothing seen.
_ENCODER_FLAGS = 0x0020_000F
_KNOWN_BITS = 0x003F_FFFF


@dataclass(frozen=True, slots=True)
class TensorMap:
    """The arguments of `cuTensorMapEncodeTiled`.

    `dims`, `box` and `element_strides` count elements, innermost first; `strides` are the byte strides of dimensions
    1 to rank - 1. `address` is the byte address of element (0, ..., 0). `element_strides` defaults to ones.
    """

    dtype: DataType
    address: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    element_strides: tuple[int, ...] = ()
    interleave: Interleave = Interleave.NONE
    swizzle: Swizzle = Swizzle.NONE
    l2: L2Promotion = L2Promotion.NONE
    oob_fill: OobFill = OobFill.ZERO

    def __post_init__(self) -> None:
        if not self.element_strides:
            object.__setattr__(self, "element_strides", (1,) * len(self.dims))

    @property
    def rank(self) -> int:
        return len(self.dims)

    @property
    def bits(self) -> int:
        """Bits of one element in global memory."""
        return BITS[self.dtype]

    @property
    def counts(self) -> tuple[int, ...]:
        """Elements that one box holds along each dimension: ceil(box / element stride)."""
        return tuple(-(-b // s) for b, s in zip(self.box, self.element_strides, strict=True))

    @property
    def transaction_bytes(self) -> int:
        """Bytes that a box adds to an mbarrier's transaction count: packed elements, without padding."""
        total = self.bits
        for count in self.counts:
            total *= count
        return total // 8

    def validate(self) -> None:
        """Raises `Fault` unless the driver would encode this map; the rules are those of the driver API's page."""
        for reason in _violations(self):
            raise Fault(f"illegal tensor map: {reason}", hint="see cuTensorMapEncodeTiled in the CUDA driver API")

    def encode(self) -> bytes:
        """The hardware's 128 bytes; raises `Fault` for what the driver refuses."""
        self.validate()
        code, tf32 = _TYPE_CODE[self.dtype]
        span, atom = _SWIZZLE_CODE[self.swizzle]
        pad = MAX_RANK - self.rank
        strides = (*self.strides, *(0,) * (MAX_RANK - 1 - len(self.strides)))
        box = (*self.box, *(1,) * pad)
        control = (
            (self.rank - 1) << 4
            | code << 7
            | self.interleave << 11
            | span << 13
            | self.oob_fill << 15
            | tf32 << 16
            | self.l2 << 17
            | atom << 19
        )
        high = sum((stride >> 36) << (4 * i) for i, stride in enumerate(strides))
        steps = sum((step - 1) << (3 * i) for i, step in enumerate(self.element_strides))
        words = [
            self.address & 0xFFFF_FFFF,
            self.address >> 32,
            control,
            *((stride >> 4) & 0xFFFF_FFFF for stride in strides),
            high,
            *(extent - 1 for extent in self.dims),
            *(0,) * pad,
            steps | (box[0] - 1) << 24,
            sum((extent - 1) << (8 * i) for i, extent in enumerate(box[1:])),
            0,
        ]
        return struct.pack("<16I", *words) + bytes(64)

    @classmethod
    def decode(cls, raw: bytes) -> TensorMap:
        """The map in 128 raw bytes; raises `Fault` for bits that no known encoder sets and for illegal fields."""
        if len(raw) != MAP_BYTES:
            raise Fault(f"a tensor map has {MAP_BYTES} bytes, not {len(raw)}")
        words = struct.unpack_from("<16I", raw)
        if not any(words):
            raise Fault("the tensor map is all zeros", hint="it was never encoded, or the host decided not to need it")
        control = words[2]
        if control & ~_KNOWN_BITS or words[7] >> 16 or words[13] & 0x00FF_8000 or words[15]:
            raise Fault(
                f"the tensor map has unknown bits set (words 2, 7, 13, 15: "
                f"{control:#x} {words[7]:#x} {words[13]:#x} {words[15]:#x})",
                hint="an im2col map, or not a tensor map at all: only tiled maps are modelled",
            )
        rank = (control >> 4 & 7) + 1
        dtype = _TYPE_OF_CODE.get((control >> 7 & 15, control >> 16 & 1))
        mode = _SWIZZLE_OF_CODE.get((control >> 13 & 3, control >> 19 & 3))
        if rank > MAX_RANK or dtype is None or mode is None or (control >> 11 & 3) > Interleave.B32:
            raise Fault(f"the tensor map's control word {control:#x} names no known rank, type, interleave or swizzle")
        strides = tuple((words[3 + i] << 4) | (words[7] >> (4 * i) & 15) << 36 for i in range(rank - 1))
        boxes = (words[13] >> 24, *(words[14] >> (8 * i) & 255 for i in range(4)))
        found = cls(
            dtype=dtype,
            address=words[0] | words[1] << 32,
            dims=tuple(words[8 + i] + 1 for i in range(rank)),
            strides=strides,
            box=tuple(boxes[i] + 1 for i in range(rank)),
            element_strides=tuple((words[13] >> (3 * i) & 7) + 1 for i in range(rank)),
            interleave=Interleave(control >> 11 & 3),
            swizzle=mode,
            l2=L2Promotion(control >> 17 & 3),
            oob_fill=OobFill(control >> 15 & 1),
        )
        found.validate()
        return found


def _violations(m: TensorMap) -> list[str]:
    """What the driver would refuse, in words."""
    if not 1 <= m.rank <= MAX_RANK:
        return [f"rank {m.rank} is outside of 1..5"]
    if len(m.strides) != m.rank - 1 or len(m.box) != m.rank or len(m.element_strides) != m.rank:
        return ["dims, box and element strides need one entry a dimension, strides one less"]
    bad: list[str] = []
    if min(m.element_strides) < 1:
        return ["element strides must be positive"]
    wide = m.interleave is Interleave.B32 or m.dtype in PADDED
    unit = 32 if wide else 16
    if m.address % unit or not 0 <= m.address < 1 << 64:
        bad.append(f"global address {m.address:#x} is not a multiple of {unit}")
    for i, extent in enumerate(m.dims):
        if not 1 <= extent <= 1 << 32:
            bad.append(f"extent {extent} of dimension {i} is outside of 1..2^32")
    for i, stride in enumerate(m.strides):
        if stride % unit or not 0 <= stride < 1 << 40:
            bad.append(f"stride {stride} of dimension {i + 1} is not a multiple of {unit} below 2^40")
    for i, extent in enumerate(m.box):
        if not 1 <= extent <= 256:
            bad.append(f"box extent {extent} of dimension {i} is outside of 1..256")
    for i, step in enumerate(m.element_strides):
        if not 1 <= step <= 8:
            bad.append(f"element stride {step} of dimension {i} is outside of 1..8")
    if m.interleave is not Interleave.NONE and m.rank < 3:
        bad.append("interleaved layouts need rank 3 or more")
    if m.interleave is Interleave.NONE and _floor_bytes(m) > MAX_BOX_BYTES:
        bad.append(f"a box of {_floor_bytes(m)} bytes does not fit into shared memory")
    if m.oob_fill is OobFill.NAN and m.dtype not in FLOATS:
        bad.append(f"NaN fill needs a float type, not {m.dtype.name}")
    return bad + _inner_violations(m)


def _floor_bytes(m: TensorMap) -> int:
    """Box bytes as the driver counts them for its size limit: rounded down where an element stride does not divide."""
    total = m.bits
    for extent, step in zip(m.box, m.element_strides, strict=True):
        total *= extent // step
    return total // 8


def _inner_violations(m: TensorMap) -> list[str]:
    """Rules on the innermost dimension."""
    bad: list[str] = []
    inner_bits = m.box[0] * m.bits
    if m.interleave is Interleave.NONE:
        if inner_bits % 128:
            bad.append(f"the inner box of {inner_bits}/8 bytes is not a multiple of 16 bytes")
        span = PATTERNS[m.swizzle].span
        if m.swizzle is not Swizzle.NONE and m.dtype not in PADDED and inner_bits > 8 * span:
            bad.append(f"the inner box of {inner_bits // 8} bytes exceeds the swizzle span of {span} bytes")
    if m.dtype in PADDED:
        if m.box[0] != 128:
            bad.append(f"{m.dtype.name} needs an inner box of 128 elements, not {m.box[0]}")
        if m.dims[0] % 128:
            bad.append(f"{m.dtype.name} needs an inner extent that is a multiple of 128, not {m.dims[0]}")
        if m.interleave is not Interleave.NONE:
            bad.append(f"{m.dtype.name} has no interleaved layout")
        if m.swizzle in (Swizzle.B32, Swizzle.B64, Swizzle.B128_ATOM_32B_FLIP_8B):
            bad.append(f"{m.dtype.name} takes no {m.swizzle.name} swizzle")
    if m.dtype is DataType.B4X16 and m.dims[0] % 2:
        bad.append("B4X16 needs an even inner extent")
    return bad
