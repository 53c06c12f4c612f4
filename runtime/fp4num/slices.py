"""Slices of a quantized tensor along whole blocks: codes are cut, scales laid anew in the layout of the smaller one."""

from __future__ import annotations

import operator
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fp4num import scale_arrays, tensors
from fp4num.errors import DataError
from fp4num.formats import BlockFormat, Extent

Range = tuple[int, int]


class Whole(Protocol):
    """The tensor that is sliced (`fp4num.Quantized`)."""

    @property
    def codes(self) -> Any: ...
    @property
    def scales(self) -> Any: ...
    @property
    def tensor_scale(self) -> Any: ...
    @property
    def format(self) -> BlockFormat: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def offsets(self) -> Any: ...

    def scale_places(self) -> NDArray[np.int64]:
        """Where the scale of each block lies in `scales`."""
        ...


def sliced(q: Whole, key: object) -> tuple[Any, Any, tuple[int, ...]]:
    """Contiguous codes, scales and shape of `q[key]`.

    `key` is what indexes an array: integers and slices of step 1, at most one for an axis, and `...`. An integer drops
    its axis; the last axis is kept. Bounds on the last two axes lie between blocks. `DataError` says what does not.
    """
    shape, f = q.shape, q.format
    if q.offsets is not None:
        raise DataError(
            f"{f.name}{list(shape)} is ragged: its scales lie group by group, and it is not sliced; "
            "slice the numbers and quantize them with offsets of their own"
        )
    keys = _expanded(key, shape)
    ranges = [_range(k, n, axis) for axis, (k, n) in enumerate(zip(keys, shape, strict=True))]
    if not isinstance(keys[-1], slice):
        raise DataError(
            f"{f.name}{list(shape)}: the last axis holds the blocks and is sliced, not indexed by {keys[-1]}"
        )
    unit, tall = f.row_unit, f.block[0]
    _between(ranges[-1], shape[-1], "all" if f.block[1] == "all" and f.scale is not None else unit, -1, f, shape)
    if len(shape) > 1 and f.scale is not None:
        _between(ranges[-2], shape[-2], tall, -2, f, shape)
    kept = [high - low for low, high in ranges]
    new = tuple(n for n, k in zip(kept, keys, strict=True) if isinstance(k, slice))
    cut = tuple(slice(*r) for r in ranges[:-1])
    last = slice(ranges[-1][0] * f.bits // 8, ranges[-1][1] * f.bits // 8)
    codes = _contiguous(q.codes[(*cut, last)].reshape(f.codes_shape(new)))
    return codes, _scales(q, ranges, tuple(kept), new), new


def tensor_scale(q: Whole, key: object) -> Any:
    """The tensor scale of `q[key]`: the whole tensor's, or those of its batches."""
    if not q.format.tensor_scale_shape(q.shape):
        return q.tensor_scale
    keys = _expanded(key, q.shape)
    if not isinstance(keys[-2], slice):
        raise DataError(
            f"{q.format.name}{list(q.shape)}: each batch has a tensor scale, so rows are sliced, not indexed by "
            f"{keys[-2]}"
        )
    found = q.tensor_scale[tuple(slice(*_range(k, n, 0)) if isinstance(k, slice) else k
                                 for k, n in zip(keys[:-2], q.shape, strict=False))]  # fmt: skip
    return np.asarray(found) if isinstance(found, np.generic) else found


def _scales(q: Whole, ranges: list[Range], kept: tuple[int, ...], new: tuple[int, ...]) -> Any:
    """A new buffer, in the format's layout, of the scales of the blocks in `ranges`."""
    f = q.format
    if f.scale is None:
        return q.scales
    grid = f.scale_grid(q.shape)
    lead = q.shape[:-2]
    places = q.scale_places().reshape((*lead, grid.rows, grid.columns))
    cut = [slice(*r) for r in ranges[:-2]]
    rows = ranges[-2] if len(q.shape) > 1 else (0, 1)
    have = places[(*cut, _blocks(rows, f.stored[0]), _blocks(ranges[-1], f.stored[1]))].reshape(-1)
    # Where the axis of rows was dropped, the one before it holds the rows now: the blocks keep their order.
    want = scale_arrays.places(f, new, None).reshape(-1)
    if have.size != want.size:
        raise DataError(f"{f.name}{list(q.shape)}: blocks of {f.block[0]} rows keep their axis: slice axis -2")
    return scale_arrays.relaid(q.scales, have, want, f.scales_size(new), f.layout.pad)


def _blocks(of: Range, extent: Extent) -> slice:
    if extent == "all":
        return slice(None)
    return slice(of[0] // extent, -(-of[1] // extent) if of[1] > of[0] else 0)


def _expanded(key: object, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """One key for each axis."""
    keys = cast("tuple[Any, ...]", key if isinstance(key, tuple) else (key,))
    if sum(k is Ellipsis for k in keys) == 0:
        keys = (*keys, Ellipsis)
    if sum(k is Ellipsis for k in keys) > 1 or len(keys) - 1 > len(shape):
        raise DataError(f"{len(keys) - 1} indices are too many for a tensor of shape {list(shape)}")
    at = next(i for i, k in enumerate(keys) if k is Ellipsis)
    return (*keys[:at], *[slice(None)] * (len(shape) - len(keys) + 1), *keys[at + 1 :])


def _range(key: Any, size: int, axis: int) -> Range:
    if isinstance(key, slice):
        try:
            start, stop, step = key.indices(size)
        except TypeError:
            raise DataError(f"axis {axis}: the bounds of a slice are integers, not {key}") from None
        if step != 1:
            raise DataError(f"axis {axis}: a quantized tensor is sliced with step 1, not {step}")
        return start, max(start, stop)
    try:
        index = -1 if isinstance(key, (bool, np.bool_)) else operator.index(key)
    except TypeError:
        index = -size - 1
    if isinstance(key, (bool, np.bool_)) or not -size <= index < size:
        shown = type(key).__name__ if hasattr(key, "shape") and not isinstance(key, np.generic) else repr(key)
        raise DataError(f"axis {axis} of {size} is indexed by an integer within it or a slice, not {shown}")
    return index % size, index % size + 1


def _between(of: Range, size: int, extent: Extent, axis: int, f: BlockFormat, shape: tuple[int, ...]) -> None:
    """`DataError` unless both bounds lie between blocks or at the ends."""
    step = max(size, 1) if extent == "all" else extent
    for bound in of:
        if bound % step and bound != size:
            below = bound // step * step
            raise DataError(
                f"{f.name}{list(shape)}: axis {axis} is cut at {bound}, within a block of "
                f"{'the whole axis' if extent == 'all' else extent}: cut at {below} or {min(below + step, size)}"
            )


def _contiguous(codes: Any) -> Any:
    return codes.contiguous() if tensors.is_tensor(codes) else np.ascontiguousarray(codes)
