"""What the conventions share: scales into and out of layouts, tensor scales from one sense to the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import BlockFormat, Quantized
from fp4num.formats import Sense, block_format
from fp4rt.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Linear:
    """A quantized weight [.., N, K] and the calibrated tensor scale of the activations that meet it, if there is one.

    `input_scale` has the sense of the weight's format: it is what a Quantized input of that format takes.
    """

    weight: Quantized
    input_scale: np.float32 | None = None


def checked_format(fmt: BlockFormat | str, element: str, scale: str, columns: int, what: str) -> BlockFormat:
    """The format, if its element, scale and block are what the checkpoint's convention stores."""
    f = block_format(fmt)
    if (f.element, f.scale, f.block, f.stored) != (element, scale, (1, columns), (1, columns)):
        raise CheckpointError(
            f"{what} holds {element} with {scale} scales per 1 x {columns}, which {f.name} is not", code="FP6405"
        )
    return f


def sense_of(f: BlockFormat, what: str) -> Sense:
    """How the format's tensor scale works; `CheckpointError` if it has none to hold the checkpoint's."""
    if f.tensor_scale is None:
        raise CheckpointError(f"{what} has a tensor scale, but {f.name} has none", code="FP6405")
    return f.tensor_scale


def change_sense(value: np.float32, have: Sense, want: Sense) -> np.float32:
    """A tensor scale in the other convention: the reciprocal, rounded once. The same convention changes nothing."""
    return value if have == want else np.float32(np.float32(1) / value)


def assemble(
    codes: NDArray[np.uint8], scales: NDArray[np.uint8], f: BlockFormat, tensor_scale: np.float32 | None
) -> Quantized:
    """A `Quantized` of packed codes [.., N, K*bits/8] and row-major scales [.., N, K/block]."""
    shape = (*codes.shape[:-1], codes.shape[-1] * 8 // f.bits)
    grid = f.scale_grid(shape)
    buffer = f.layout.to_buffer(np.ascontiguousarray(scales).reshape(grid))
    return Quantized.from_parts(np.ascontiguousarray(codes), buffer, tensor_scale, f, shape)


def linear_scales(q: Quantized) -> NDArray[Any]:
    """Row-major scales [.., N, K/block] of a `Quantized`."""
    grid = q.scale_grid()
    return grid.reshape(*q.shape[:-1], grid.shape[-1])


def tensor_scale_as(q: Quantized, want: Sense, what: str) -> np.float32:
    """The tensor scale in one convention; a format without one has the neutral scale 1."""
    if q.format.tensor_scale is None:
        return np.float32(1)
    value = np.float32(np.asarray(q.tensor_scale).reshape(())[()])
    if not np.isfinite(value) or value <= 0:
        raise CheckpointError(f"{what} stores a positive tensor scale, not {value}", code="FP6405")
    return change_sense(value, q.format.tensor_scale, want)


def one_weight(q: Quantized, what: str) -> None:
    """`CheckpointError` unless the tensor is a matrix."""
    if len(q.shape) != 2:
        raise CheckpointError(f"{what} stores matrices [N, K], not the shape {list(q.shape)}", code="FP6404")
