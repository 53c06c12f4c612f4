"""What the conventions share: scales into and out of layouts, tensor scales from one sense to the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fp4num import BlockFormat, Quantized, tensors
from fp4num.formats import Sense, block_format
from fp4rt import arrays
from fp4rt.errors import ArgumentError, CheckpointError

#: Whose arrays a reader hands out; None: torch's where the checkpoint's tensors are, else numpy's.
Family = Literal["numpy", "torch"]
_Layer = TypeVar("_Layer", "Linear", Quantized)
#: A tensor scale, or those of the batches.
_Scale = TypeVar("_Scale", np.float32, "np.float32 | NDArray[np.float32]")


@dataclass(frozen=True, slots=True)
class Linear:
    """A quantized weight [.., N, K], and what else the checkpoint has for its layer: y = x @ weight.T + bias.

    `input_scale` is the calibrated tensor scale of the activations, in the sense of the weight's format: what a
    Quantized input of that format takes. `pre_quant_scale` [K] is what the activations are multiplied by before
    they are quantized (AWQ, SmoothQuant): without it the product is another one. Both float32, as is `bias` [N].
    All are numpy's, or all torch tensors.
    """

    weight: Quantized
    input_scale: Any = None
    pre_quant_scale: Any = None
    bias: Any = None

    def to(self, device: Any) -> Linear:
        """The layer as torch tensors on a device."""
        rest = (self.input_scale, self.pre_quant_scale, self.bias)
        return Linear(
            self.weight.to(device), *(None if x is None else tensors.to_tensor(np_or_tensor(x), device) for x in rest)
        )


def np_or_tensor(x: Any) -> Any:
    """A number of numpy as an array of no axes."""
    return np.array(x) if isinstance(x, np.generic) else x


def delivered(layer: _Layer, source: Any, family: Family | None) -> _Layer:
    """What a reader hands out: of torch where the checkpoint's tensor is (and on its device) or `family` says so."""
    if family not in (None, "numpy", "torch"):
        raise ArgumentError(f"family is 'numpy', 'torch' or None, not {family!r}", argument="family")
    given = tensors.is_tensor(source)
    if family == "numpy" or (family is None and not given):
        return layer
    return layer.to(source.device if given else "cpu")


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


def change_sense(value: _Scale, have: Sense, want: Sense, what: str) -> _Scale:
    """A tensor scale in the other convention: the reciprocal, rounded once. The same convention changes nothing.

    `CheckpointError` FP6408 where the reciprocal is no normal float32: it would be infinite or lose digits.
    """
    if have == want:
        return value
    with np.errstate(all="ignore"):
        reciprocal = cast("_Scale", np.float32(1) / value)
    wrong = np.argwhere(~(np.isfinite(reciprocal) & (reciprocal >= np.finfo(np.float32).smallest_normal)))
    if len(wrong):
        place = tuple(int(i) for i in wrong[0])
        at = f"{what}{list(place)}" if place else what
        raise CheckpointError(
            f"{at} is {np.asarray(value)[place]} and {have}, where one that {want} is wanted: its reciprocal "
            f"{np.asarray(reciprocal)[place]} is no normal float32",
            code="FP6408",
            help=f"ask for a format whose tensor scale {have}",
        )
    return reciprocal


def positive(value: Any, what: str) -> np.float32:
    """A scale to be written, which readers take to be positive and finite."""
    numbers = arrays.to_host(value)
    if numbers.size != 1:
        raise CheckpointError(
            f"{what} has one tensor scale, not one for each batch of shape {list(numbers.shape)}",
            code="FP6405",
            help="write each batch by itself: q[i]",
        )
    number = np.float32(numbers.reshape(())[()])
    if not np.isfinite(number) or number <= 0:
        raise CheckpointError(f"{what} is a positive scale, not {number}", code="FP6405")
    return number


def assemble(
    codes: NDArray[np.uint8],
    scales: NDArray[np.uint8],
    f: BlockFormat,
    tensor_scale: np.float32 | NDArray[np.float32] | None,
    name: str,
) -> Quantized:
    """A `Quantized` of packed codes [.., N, K*bits/8] and row-major scales [.., N, K/block], the tensor `name`.

    A checkpoint's one tensor scale is each batch's, where the format has one for each.
    """
    shape = (*codes.shape[:-1], codes.shape[-1] * 8 // f.bits)
    check_scales(scales, f, name)
    if (batches := f.tensor_scale_shape(shape)) and tensor_scale is not None:
        tensor_scale = np.array(np.broadcast_to(tensor_scale, batches), np.float32)
    return Quantized.from_linear(np.ascontiguousarray(codes), scales, tensor_scale, f, shape)


def check_scales(scales: NDArray[np.uint8], f: BlockFormat, name: str) -> None:
    """`CheckpointError` FP6407 for e4m3 scales that are negative or NaN: a weight has none. (In e8m0, 0xFF is MX's own
    way to say that a block is NaN.)"""
    if f.scale != "e4m3" or not scales.size or int(scales.max()) < 0x7F:
        return
    place = tuple(int(i) for i in np.argwhere(scales >= 0x7F)[0])
    byte = int(scales[place])
    raise CheckpointError(
        f"{name}{list(place)} is the byte 0x{byte:02X}, {'NaN' if byte & 0x7F == 0x7F else 'negative'}: block scales "
        "are e4m3 numbers of sign 0",
        code="FP6407",
    )


def on_host(q: Quantized) -> Quantized:
    """The tensor in numpy arrays: a copy of torch tensors, wherever they are."""
    scale = None if q.tensor_scale is None else arrays.to_host(q.tensor_scale)
    return Quantized(arrays.to_host(q.codes), arrays.to_host(q.scales), scale, q.format, q.shape, q.offsets)


def linear_scales(q: Quantized, name: str) -> NDArray[Any]:
    """Row-major scales [.., N, K/block] of a `Quantized`, to be written as the tensor `name`."""
    grid = q.scale_grid()
    scales = grid.reshape(*q.shape[:-1], grid.shape[-1])
    check_scales(scales, q.format, name)
    return scales


def tensor_scale_as(q: Quantized, want: Sense, what: str) -> np.float32:
    """The tensor scale in one convention; a format without one has the neutral scale 1."""
    if q.format.tensor_scale is None:
        return np.float32(1)
    return change_sense(positive(q.tensor_scale, what), q.format.tensor_scale, want, what)


def one_weight(q: Quantized, what: str) -> None:
    """`CheckpointError` unless the tensor is a matrix."""
    if len(q.shape) != 2:
        raise CheckpointError(f"{what} stores matrices [N, K], not the shape {list(q.shape)}", code="FP6404")
