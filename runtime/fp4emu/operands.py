"""Operand element formats of the tensor-core instructions: from bytes to float32 values.

PTX ISA, "Alternate floating-point data formats" and "Packing formats used in shared memory" (tcgen05 `kind::f8f6f4`:
4- and 6-bit elements come as 16 elements in 16 bytes, 8 or 12 bytes of data and padding behind).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

import fp4num

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Packing = Literal["dense", "padded"]


@dataclass(frozen=True, slots=True)
class Element:
    """`name` is the number format, `bits` its width, `packing` how 16 bytes hold elements: dense, or 16 padded."""

    name: str
    bits: int
    packing: Packing = "dense"

    @property
    def used(self) -> int:
        """Bytes of a 16-byte chunk that hold data."""
        return 2 * self.bits if self.packing == "padded" else 16

    @property
    def per_chunk(self) -> int:
        """Elements in a 16-byte chunk."""
        return 16 if self.packing == "padded" else 128 // self.bits


F16, BF16, TF32 = Element("f16", 16), Element("bf16", 16), Element("tf32", 32)
E4M3, E5M2 = Element("e4m3", 8), Element("e5m2", 8)
U8, S8 = Element("u8", 8), Element("s8", 8)
E2M1 = Element("e2m1", 4)
E2M1_PADDED, E2M3_PADDED, E3M2_PADDED = (
    Element("e2m1", 4, "padded"),
    Element("e2m3", 6, "padded"),
    Element("e3m2", 6, "padded"),
)


@cache
def byte_table(name: str) -> Floats:
    """float32 value of each byte as an 8-bit element."""
    codes = np.arange(256, dtype=np.uint8)
    if name == "u8":
        return codes.astype(np.float32)
    if name == "s8":
        return codes.view(np.int8).astype(np.float32)
    return fp4num.decode(codes, name)


@cache
def pair_table() -> npt.NDArray[np.float64]:
    """The two E2M1 values of each byte, low nibble first, as the 8 bytes of two float32 (one gather for both)."""
    codes = np.arange(256, dtype=np.uint8)
    pairs = np.stack([fp4num.decode(codes & 15, "e2m1"), fp4num.decode(codes >> 4, "e2m1")], axis=-1)
    return np.ascontiguousarray(pairs).view(np.float64).reshape(256)


@cache
def scale_table(name: str) -> Floats:
    """float32 value of each scale byte: "ue4m3" (sign bit ignored by the hardware's unsigned type) or "ue8m0"."""
    codes = np.arange(256, dtype=np.uint8)
    if name == "ue8m0":
        return fp4num.decode(codes, "e8m0")
    return fp4num.decode(codes & 0x7F, "e4m3")


def decode_chunks(chunks: Bytes, element: Element) -> Floats:
    """Values [rows, K] of 16-byte chunks [rows, n, 16] of a K-major operand."""
    rows = len(chunks)
    data = chunks[..., : element.used] if element.used != 16 else chunks
    if element.bits == 4:
        return pair_table().take(data).view(np.float32).reshape(rows, -1)
    if element.bits == 6:
        return np.take(byte_table(element.name), unpack6(data)).reshape(rows, -1)
    return decode_bytes(np.ascontiguousarray(data).reshape(rows, -1), element)


def decode_bytes(data: Bytes, element: Element) -> Floats:
    """Values of dense 8-, 16- or 32-bit elements; the last axis is in bytes."""
    if element.bits == 8:
        return byte_table(element.name).take(data)
    if element.name == "f16":
        return data.view(np.float16).astype(np.float32)
    if element.name == "bf16":
        return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return (data.view(np.uint32) & np.uint32(0xFFFF_E000)).view(np.float32)


#: The lowest bit of a sub-byte element in a byte of its own: 4 bits lie in bits 2 to 5, 6 bits in bits 0 to 5, so that
#: their signs are in the same place (PTX ISA 9.7.15.5.14 and 9.7.16.9.1).
CONTAINER_SHIFT = {4: 2, 6: 0}


def contained(chunks: Bytes, bits: int) -> Bytes:
    """Chunks [..., 16] of 16 padded elements as [..., 16] bytes that contain one each."""
    data = chunks[..., : 2 * bits]
    if bits == 6:
        return np.ascontiguousarray(unpack6(data) << np.uint8(CONTAINER_SHIFT[6]))
    nibbles = np.stack([data & np.uint8(15), data >> np.uint8(4)], axis=-1).reshape(*data.shape[:-1], 16)
    return np.ascontiguousarray(nibbles << np.uint8(CONTAINER_SHIFT[4]))


def decode_contained(data: Bytes, element: Element) -> Floats:
    """Values of sub-byte elements that lie one a byte; the other bits of a byte are not read."""
    shift = CONTAINER_SHIFT[element.bits]
    return np.take(byte_table(element.name), data >> np.uint8(shift) & np.uint8((1 << element.bits) - 1))


def unpack6(data: Bytes) -> Bytes:
    """6-bit codes of bytes [..., 3n] -> [..., 4n], little-endian bit order."""
    triples = data.reshape(*data.shape[:-1], -1, 3).astype(np.uint32)
    word = triples[..., 0] | triples[..., 1] << 8 | triples[..., 2] << 16
    codes = np.stack([word >> shift & 63 for shift in (0, 6, 12, 18)], axis=-1)
    return codes.reshape(*data.shape[:-1], -1).astype(np.uint8)
