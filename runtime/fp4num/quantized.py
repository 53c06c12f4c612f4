"""`Quantized`: the codes, scales and tensor scale of one tensor, with the format that gives them meaning."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num.errors import DataError
from fp4num.formats import BlockFormat, block_format


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A quantized tensor of logical shape `shape`.

    `codes` uint8 [.., K*bits/8], packed along the last axis; `scales` a 1-D buffer in the format's layout (uint8, or
    float32 for f32 scales, or empty without scales); `tensor_scale` a 0-d float32 array or None. The arrays may be
    numpy's, or torch tensors on any device: `fp4num` computes on numpy arrays only.
    """

    codes: Any
    scales: Any
    tensor_scale: Any
    format: BlockFormat
    shape: tuple[int, ...]

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.shape))
        parts = [f"codes {_kind(self.codes)}"]
        if self.format.scale is not None:
            parts.append(f"scales {_kind(self.scales)} in {self.format.layout.name}")
        if self.tensor_scale is not None:
            parts.append(f"tensor_scale {_kind(self.tensor_scale)}")
        return f"<{self.format.name}[{shape}]: {', '.join(parts)}>"

    @staticmethod
    def from_parts(
        codes: Any, scales: Any, tensor_scale: Any, fmt: BlockFormat | str, shape: Sequence[int]
    ) -> Quantized:
        """A `Quantized` of existing arrays, not copied.

        One-byte element types (float8_e4m3fn, float8_e8m0fnu, float4_e2m1fn_x2) are seen as bytes. Scales may have any
        shape whose elements in C order are the buffer. Raises `DataError` naming the array, what it is and should be.
        """
        f = block_format(fmt)
        try:
            dims = tuple(operator.index(n) for n in shape)
        except TypeError:
            raise DataError(f"shape is the tensor's sizes, such as (128, 256), not {shape!r}") from None
        codes = _as_bytes(codes, "codes")
        if tuple(codes.shape) != f.codes_shape(dims):
            wanted = f.codes_shape(dims)
            raise DataError(f"codes of {f.name}{list(dims)} have the shape {wanted}, not {tuple(codes.shape)}")
        if f.scale == "f32":
            if _dtype(scales, "scales") != "float32":
                raise DataError(f"scales of {f.name} are float32, not {scales.dtype}")
        else:
            scales = _as_bytes(scales if scales is not None else np.empty(0, np.uint8), "scales")
        size, have = f.scales_size(dims), _count(scales)
        if have != size:
            grid = f.scale_grid(dims)
            raise DataError(
                f"scales of {f.name}{list(dims)} fill {size} elements in layout {f.layout.name} "
                f"({grid.batches} x {grid.rows} x {grid.columns} blocks), not {have}"
                + (f"; lay them out with {f.layout.name}'s to_buffer" if have == grid[0] * grid[1] * grid[2] else "")
            )
        return Quantized(codes, scales.reshape(-1), _tensor_scale(tensor_scale, f), f, dims)

    def scale_grid(self) -> NDArray[Any]:
        """The stored scales as [batch, row, k], out of the layout: uint8 codes or float32. For numpy arrays."""
        return self.format.layout.from_buffer(self.scales, *self.format.scale_grid(self.shape))


def _kind(array: Any) -> str:
    """The type and shape of an array, and where it is if that is not this process' memory."""
    dtype = str(getattr(array, "dtype", type(array).__name__)).removeprefix("torch.")
    device = str(getattr(array, "device", "cpu"))
    return f"{dtype} {list(getattr(array, 'shape', ()))}" + (f" on {device}" if device != "cpu" else "")


def _dtype(array: Any, what: str) -> str:
    if not hasattr(array, "dtype"):
        raise DataError(f"{what}: expected a numpy array or a torch tensor, not {type(array).__name__}")
    return str(array.dtype).removeprefix("torch.")


def _count(array: Any) -> int:
    total = 1
    for n in array.shape:
        total *= int(n)
    return total


_BYTES = ("uint8", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float4_e2m1fn_x2")


def _as_bytes(array: Any, what: str) -> Any:
    name = _dtype(array, what)
    if name not in _BYTES:
        raise DataError(f"{what} are bytes (uint8 or a one-byte float type), not {name}")
    if name == "uint8":
        return array
    if isinstance(array, np.ndarray):
        return array.view(np.uint8)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    import torch  # pyright: ignore[reportMissingImports]  # the caller's array is a torch tensor, so torch is there

    return array.view(torch.uint8)


def _tensor_scale(value: Any, f: BlockFormat) -> Any:
    if f.tensor_scale is None:
        if value is not None:
            raise DataError(f"{f.name} has no tensor scale, but one was given")
        return None
    if value is None:
        raise DataError(f"{f.name} has a tensor scale that {f.tensor_scale}: none was given")
    if isinstance(value, (int, float)):
        return np.asarray(value, np.float32)
    if (dtype := _dtype(value, "the tensor scale")) != "float32" or _count(value) != 1:
        what = f"{dtype} of shape {tuple(value.shape)}"
        raise DataError(f"the tensor scale of {f.name} is one float32, not {what}")
    return value.reshape(())
