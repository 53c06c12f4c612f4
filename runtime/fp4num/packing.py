"""Packing of codes into bytes along the last axis, as the tensor memory accelerator reads them.

Four bits: the even element is in the low nibble. Six bits: four codes fill three bytes, in little-endian bit order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fp4num.errors import DataError

#: Codes that share whole bytes, by bits a code.
GROUP = {4: 2, 6: 4, 8: 1}


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Bytes [.., K*bits/8] of codes [.., K]. K must be a multiple of 2 (4 bits) or 4 (6 bits)."""
    group = _group(bits)
    if codes.dtype != np.uint8:
        raise DataError(f"codes are uint8, not {codes.dtype}")
    if codes.ndim == 0 or codes.shape[-1] % group:
        raise DataError(f"{bits}-bit codes pack {group} at a time: the last axis of {codes.shape} is no multiple of it")
    if bits == 8:
        return codes
    if bits == 4:
        return (codes[..., 0::2] & np.uint8(0xF)) | (codes[..., 1::2] << np.uint8(4))
    c0, c1, c2, c3 = (codes[..., i::4] & 0x3F for i in range(4))
    out = np.empty((*codes.shape[:-1], codes.shape[-1] // 4, 3), np.uint8)
    out[..., 0] = c0 | (c1 << 6)
    out[..., 1] = (c1 >> 2) | (c2 << 4)
    out[..., 2] = (c2 >> 4) | (c3 << 2)
    return out.reshape(*codes.shape[:-1], codes.shape[-1] // 4 * 3)


def unpack(data: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Codes [.., K] of bytes [.., K*bits/8]: the inverse of `pack`."""
    group = _group(bits)
    if data.dtype != np.uint8:
        raise DataError(f"packed codes are uint8, not {data.dtype}")
    if bits == 8:
        return data
    size = group * bits // 8
    if data.ndim == 0 or data.shape[-1] % size:
        raise DataError(f"{bits}-bit codes come in {size} bytes: the last axis of {data.shape} is no multiple of it")
    out = np.empty((*data.shape[:-1], data.shape[-1] // size, group), np.uint8)
    if bits == 4:
        out[..., 0] = data & 0xF
        out[..., 1] = data >> 4
    else:
        b0, b1, b2 = (data[..., i::3] for i in range(3))
        out[..., 0] = b0 & 0x3F
        out[..., 1] = (b0 >> 6) | ((b1 & 0xF) << 2)
        out[..., 2] = (b1 >> 4) | ((b2 & 0x3) << 4)
        out[..., 3] = b2 >> 2
    return out.reshape(*data.shape[:-1], data.shape[-1] // size * group)


def _group(bits: int) -> int:
    if bits not in GROUP:
        raise DataError(f"codes have 4, 6 or 8 bits, not {bits}")
    return GROUP[bits]
