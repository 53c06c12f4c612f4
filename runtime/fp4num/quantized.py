"""`Quantized`: the codes, scales and tensor scale of one tensor, with the format that gives them meaning."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import dtypes, groups, scale_arrays, slices, tensors
from fp4num.errors import DataError, FormatError
from fp4num.formats import FORMATS, BlockFormat, block_format
from fp4num.layouts import ScaleLayout


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A quantized tensor of logical shape `shape`.

    `codes` uint8 [.., K*bits/8], packed along the last axis; `scales` a 1-D buffer in the format's layout (uint8, or
    float32 for f32 scales, or empty without scales); `tensor_scale` a 0-d float32 array, [..] of one a batch where the
    format has `each_batch`, or None for a format without one. `offsets` [groups + 1] are those of a ragged tensor
    (`fp4num.groups`), else None. The arrays are all numpy's, or all torch tensors on one device. `q[rows, columns]`
    slices along whole blocks. `prepared` is what a kernel has made of codes and scales once (`fp4rt.Kernel.prepare`):
    it goes with them to other devices and into files, and not with parts of the tensor.
    """

    codes: Any
    scales: Any
    tensor_scale: Any
    format: BlockFormat
    shape: tuple[int, ...]
    offsets: Any = None
    prepared: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.format, BlockFormat):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise FormatError(
                f"the format of a Quantized is a BlockFormat, not {self.format!r}; "
                f"fp4num.FORMATS has {', '.join(FORMATS)}"
            )
        # The rest is checked where it is used: this alone would never be missed there.
        given = self.tensor_scale
        if given is not None and (self.format.tensor_scale is None or not hasattr(given, "dtype")):
            _tensor_scale(given, self.format, tuple(self.shape))

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.shape))
        parts = [f"codes {_kind(self.codes)}"]
        if self.format.scale is not None:
            parts.append(f"scales {_kind(self.scales)} in {self.format.layout.name}")
        if self.tensor_scale is not None:
            parts.append(f"tensor_scale {_kind(self.tensor_scale)}")
        if self.prepared is not None:
            parts.append(repr(self.prepared))
        return f"<{self.format.name}[{shape}]: {', '.join(parts)}>"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled as its arrays and the format's JSON object: it is checked as a new one where it is unpickled."""
        parts = (self.codes, self.scales, self.tensor_scale)
        beside = () if self.prepared is None else (self.prepared,)
        return restored, (*parts, self.format.to_json(), tuple(self.shape), self.offsets, *beside)

    def __getitem__(self, key: object) -> Quantized:
        """The part of the tensor at integers (not on the last axis), slices of step 1 and `...`.

        Bounds lie between blocks; codes are contiguous, copied only where they are not, and scales are laid anew. The
        tensor scale is shared, or those of the batches are kept. `DataError` for a bound within a block, and for a
        ragged tensor.
        """
        codes, scales, shape = slices.sliced(self, key)
        return Quantized(codes, scales, slices.tensor_scale(self, key), self.format, shape)

    def to(self, device: Any, *, non_blocking: bool = False) -> Quantized:
        """The same tensor as torch tensors on a device ("cpu", "cuda:1", a `torch.device`); numpy arrays, too.

        What is there already is not copied.
        """
        return self._mapped(lambda x: tensors.to_tensor(x, device, non_blocking=non_blocking))

    def numpy(self) -> Quantized:
        """The same tensor as numpy arrays, which share the memory of tensors on the CPU."""
        return self._mapped(tensors.to_array)

    def natural(self) -> Quantized:
        """The same tensor without what a kernel has made of it: its codes and scales are those it always had."""
        return self if self.prepared is None else replace(self, prepared=None)

    def _mapped(self, f: Callable[[Any], Any]) -> Quantized:
        parts = (None if x is None else f(x) for x in (self.codes, self.scales, self.tensor_scale, self.offsets))
        codes, scales, tensor_scale, offsets = parts
        prepared = None if self.prepared is None else self.prepared.moved(f, codes, scales)
        return Quantized(codes, scales, tensor_scale, self.format, self.shape, offsets, prepared)

    @staticmethod
    def from_parts(
        codes: Any,
        scales: Any,
        tensor_scale: Any,
        fmt: BlockFormat | str,
        shape: Sequence[int],
        *,
        layout: ScaleLayout | str | None = None,
        offsets: Any = None,
        nan_blocks: bool = False,
    ) -> Quantized:
        """A `Quantized` of existing arrays, not copied where they are contiguous and in the format's layout.

        Scales are the flat buffer of the format's layout or, in a row-major layout, an array of one element a block:
        [.., rows of blocks, blocks of a row]. With `layout` they lie in that layout instead ("linear", another name of
        `LAYOUTS`, a `ScaleLayout`, or "cutlass", the view (32, 4, m, 4, k, l)) and are converted. `offsets` are those
        of a ragged tensor. One-byte types (float8_e4m3fn, float8_e8m0fnu, float4_e2m1fn_x2) that agree with the
        format are seen as bytes. e4m3 scales are numbers of sign 0; `nan_blocks` allows NaN as well. Arrays of other
        libraries are taken by DLPack; a tensor scale that is a number goes where the codes are. Raises `DataError`
        naming the array, what it is and should be.
        """
        f = block_format(fmt)
        codes, scales = tensors.adopted(codes, "codes"), tensors.adopted(scales, "scales")
        tensor_scale, offsets = tensors.adopted(tensor_scale, "the tensor scale"), tensors.adopted(offsets, "offsets")
        try:
            dims = tuple(operator.index(n) for n in shape)
        except TypeError:
            raise DataError(f"shape is the tensor's sizes, such as (128, 256), not {shape!r}") from None
        codes = _as_bytes(codes, "codes", f.element)
        wanted = f.codes_shape(dims)
        if tuple(codes.shape) != wanted:
            raise DataError(f"codes of {f.name}{list(dims)} have the shape {wanted}, not {tuple(codes.shape)}")
        if offsets is not None:
            offsets = _offsets(offsets, dims, codes)
        if f.scale is None:
            scales = _beside(_no_scales(scales, f), codes)
        else:
            _same_kind(scales, codes)
            if f.scale == "f32":
                if _dtype(scales, "scales") != "float32":
                    raise DataError(f"scales of {f.name} are float32, not {_dtype(scales, 'scales')}")
            else:
                scales = _as_bytes(scales, "scales", f.scale)
            if layout is None:
                scales = scale_arrays.flat(scales, f, dims, offsets)
            else:
                scales = scale_arrays.converted(scales, layout, f, dims, offsets)
            scale_arrays.check_bytes(scales, f, dims, offsets, nan_blocks=nan_blocks)
        return Quantized(codes, scales, _beside(_tensor_scale(tensor_scale, f, dims), codes), f, dims, offsets)

    @staticmethod
    def from_linear(
        codes: Any,
        scales: Any,
        tensor_scale: Any,
        fmt: BlockFormat | str,
        shape: Sequence[int],
        *,
        offsets: Any = None,
        nan_blocks: bool = False,
    ) -> Quantized:
        """`from_parts` of row-major scales, one a block in the blocks' order, whatever the format's layout is."""
        return Quantized.from_parts(
            codes, scales, tensor_scale, fmt, shape, layout="linear", offsets=offsets, nan_blocks=nan_blocks
        )

    def scale_places(self) -> NDArray[np.int64]:
        """Where each stored scale lies in `scales`: element offsets [batch, row, k]. Of a ragged tensor the rows are
        those of its groups, one group after another."""
        offsets = None if self.offsets is None else groups.check_offsets(self.offsets, self.shape)
        return scale_arrays.places(self.format, self.shape, offsets)

    def scale_grid(self) -> NDArray[Any]:
        """The stored scales as [batch, row, k], out of the layout: uint8 codes or float32."""
        size = scale_arrays.buffer_size(self.format, self.shape, self.offsets)
        if self.scales.shape != (size,):
            raise DataError(
                f"scales of {self.format.name}{list(self.shape)} fill a flat buffer of {size} in layout "
                f"{self.format.layout.name}, not one of shape {tuple(self.scales.shape)}"
            )
        places = self.scale_places()
        return self.scales[tensors.to_tensor(places, self.scales.device) if tensors.is_tensor(self.scales) else places]


def restored(
    codes: Any, scales: Any, tensor_scale: Any, fmt: Any, shape: Any, offsets: Any, prepared: Any = None
) -> Quantized:
    """The `Quantized` that `__reduce__` took apart."""
    found = BlockFormat.from_json(fmt)
    known = FORMATS.get(found.name, found)
    return Quantized(codes, scales, tensor_scale, known if known == found else found, tuple(shape), offsets, prepared)


def _kind(array: Any) -> str:
    """The type and shape of an array, and where it is if that is not this process' memory."""
    dtype = str(getattr(array, "dtype", type(array).__name__)).removeprefix("torch.")
    device = str(getattr(array, "device", "cpu"))
    return f"{dtype} {list(getattr(array, 'shape', ()))}" + (f" on {device}" if device != "cpu" else "")


def _dtype(array: Any, what: str) -> str:
    if not hasattr(array, "dtype"):
        raise DataError(f"{what}: expected a numpy array or a torch tensor, not {type(array).__name__}")
    if isinstance(array, np.ma.MaskedArray):
        raise DataError(f"{what} is a masked array, whose mask would be lost: fill it, x.filled(0)")
    if isinstance(array, (np.ndarray, np.generic)):
        if not array.dtype.isnative:
            raise DataError(f"{what} has the other byte order: {array.dtype}")
        return dtypes.dtype_name(array.dtype)
    return str(array.dtype).removeprefix("torch.")


#: What one-byte types of ml_dtypes, torch and fp4num's own arrays say that their bytes are.
_BYTES = {
    "float8_e4m3fn": "e4m3",
    "float8_e5m2": "e5m2",
    "float8_e8m0fnu": "e8m0",
    "float4_e2m1fn_x2": "e2m1",
    "e4m3": "e4m3",
    "e5m2": "e5m2",
    "e8m0": "e8m0",
}


def _as_bytes(array: Any, what: str, element: str) -> Any:
    name = _dtype(array, what)
    if name == "uint8":
        return array
    if name not in _BYTES:
        raise DataError(f"{what} are bytes (uint8 or a one-byte float type), not {name}")
    if _BYTES[name] != element:
        raise DataError(f"{what} are {element}, but the array is {name}: view it as uint8 if its bytes are meant")
    if isinstance(array, np.ndarray):
        return array.view(np.uint8)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return array.view(tensors.imported().uint8)


def _same_kind(scales: Any, codes: Any) -> None:
    """`DataError` where one is numpy's and the other torch's: no kernel takes both."""
    if hasattr(scales, "dtype") and tensors.is_tensor(scales) != tensors.is_tensor(codes):
        kinds = ["a torch tensor" if tensors.is_tensor(x) else "a numpy array" for x in (codes, scales)]
        raise DataError(f"codes are {kinds[0]}, but scales {kinds[1]}: give all as numpy arrays, or all as tensors")


def _beside(value: Any, codes: Any) -> Any:
    """A small numpy array as a tensor where the codes are one, and a tensor on the CPU as numpy's beside numpy's."""
    if value is None or tensors.is_tensor(value) == tensors.is_tensor(codes):
        return value
    if tensors.is_tensor(codes):
        return tensors.to_tensor(np.array(value), codes.device)
    return tensors.to_array(value) if scale_arrays.on_host(value) else value


def _no_scales(scales: Any, f: BlockFormat) -> Any:
    if scales is None:
        return np.empty(0, np.uint8)
    if _dtype(scales, "scales") and scale_arrays.count(scales):
        raise DataError(f"{f.name} has no scales, but an array of shape {tuple(scales.shape)} was given")
    return scales.reshape(-1)


def _offsets(offsets: Any, shape: tuple[int, ...], codes: Any) -> Any:
    """Offsets as they were given, a list as an array; those on a device are the caller's word: a look would wait."""
    if hasattr(offsets, "shape") and not scale_arrays.on_host(offsets):
        if len(offsets.shape) != 1 or int(offsets.shape[0]) < 1:
            raise DataError(f"offsets are integers [groups + 1], not of shape {tuple(offsets.shape)}")
        return offsets
    checked = groups.check_offsets(offsets, shape)
    return _beside(offsets if hasattr(offsets, "shape") else checked.astype(np.int32), codes)


def _tensor_scale(value: Any, f: BlockFormat, shape: tuple[int, ...]) -> Any:
    if f.tensor_scale is None:
        if value is not None:
            raise DataError(f"{f.name} has no tensor scale, but one was given")
        return None
    if value is None:
        raise DataError(f"{f.name} has a tensor scale that {f.tensor_scale}: none was given")
    wanted = f.tensor_scale_shape(shape)
    if wanted:
        dtype, found = _dtype(value, "the tensor scale"), tuple(value.shape)
        if dtype != "float32" or (*wanted, *(1,) * (len(found) - len(wanted))) != found:
            raise DataError(
                f"the tensor scale of {f.name}{list(shape)} is float32, one for each batch: of shape {wanted}, not "
                f"{dtype} of shape {found}"
            )
        return value.reshape(wanted)
    if isinstance(value, Real) and not isinstance(value, (bool, np.integer)):
        try:
            with np.errstate(over="raise"):
                return np.asarray(float(value), np.float32)
        except (OverflowError, FloatingPointError):
            raise DataError(f"the tensor scale of {f.name} is one float32, for which {value} is too large") from None
    if (dtype := _dtype(value, "the tensor scale")) != "float32" or scale_arrays.count(value) != 1:
        what = f"{dtype} of shape {tuple(value.shape)}"
        raise DataError(f"the tensor scale of {f.name} is one float32, not {what}")
    return value.reshape(())
