"""The operations on whole tensors but products: quantize, reduce, unzip, hadamard, uniform."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import BlockFormat, Quantized, f32, philox
from fp4num.batches import each_batch
from fp4num.quantize import quantize_as_kernels_do
from fp4rt import sizes
from fp4rt.errors import DeviceError
from fp4rt.reference.tensor import Array, Tensor
from fp4rt.typed import Value


def quantize(x: Array, others: list[Tensor], value: Value, offsets: Array | None = None) -> Quantized:
    """`fp4num.quantize` with what the IR says: the factor's kind in `mode`, then the random state if stochastic.
    `offsets` are those of ragged rows."""
    fmt = value.dtype
    if not isinstance(fmt, BlockFormat):
        raise DeviceError(f"quantize to {fmt!r}, which is no block format", code="FP6307")
    mode = str(value.attrs.get("mode", "none"))
    rounding = str(value.attrs.get("rounding", "nearest"))
    stream = value.attrs.get("stream", 0)
    operands = iter(others)
    factor = None if mode == "none" else next(operands).data
    rng = next(operands).data if rounding == "stochastic" else None
    if mode not in ("none", "tensor_scale", "amax", "scale") or rounding not in ("nearest", "stochastic"):
        raise DeviceError(f"quantize with mode {mode!r} and rounding {rounding!r}", code="FP6307")
    if fmt.tensor_scale_shape(x.shape):
        given = {mode: factor} if mode in ("tensor_scale", "amax") else {}
        return each_batch(quantize_as_kernels_do, np.asarray(x, np.float32, order="C"), fmt, given)
    return quantize_as_kernels_do(
        np.asarray(x, np.float32, order="C"),
        fmt,
        tensor_scale=factor if mode == "tensor_scale" else None,
        amax=factor if mode == "amax" else None,
        scale=factor if mode == "scale" else None,
        rounding="stochastic" if rounding == "stochastic" else "nearest",
        rng=rng,
        stream=stream if isinstance(stream, int) else 0,
        offsets=offsets,
    )


def with_padding(q: Quantized, unused: NDArray[np.bool_]) -> Quantized:
    """The tensor with padding for the scales of blocks whose rows are all `unused` (a mask of its elements)."""
    fmt = q.format
    if fmt.scale is None or not q.scales.size or isinstance(fmt.stored[0], str):
        return q
    tall, places = fmt.stored[0], q.scale_places()
    rows = unused[..., 0].reshape(-1, unused.shape[-2])[:, ::tall]
    scales = np.array(q.scales)
    pad = np.full(scales.itemsize, fmt.layout.pad, np.uint8).view(scales.dtype)[0]
    scales[places[rows]] = pad
    return Quantized(q.codes, scales, q.tensor_scale, fmt, q.shape, q.offsets)


def reduce(value: Value, operands: list[Tensor], dims: Mapping[str, int]) -> Tensor:
    """max, min (of a NaN and a number, the number; -0 < +0), sum, mean, mean_square over named axes.

    Over no elements: -inf, +inf, 0, NaN, NaN. Sums are f32 in the order of `ordered_sum`; a mean is one division.
    """
    x = operands[0]
    over_attr = value.attrs["over"]
    over = (over_attr,) if isinstance(over_attr, str) else tuple(str(a) for a in over_attr)  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
    positions = tuple(x.axes.index(a) for a in over)
    kept = tuple(a for a in x.axes if a not in over)
    kind = str(value.attrs["kind"])
    with np.errstate(all="ignore"):
        if kind in ("max", "min"):
            data = _extreme(kind, x.data.astype(np.float32), positions)
        elif kind in ("sum", "mean", "mean_square"):
            terms = x.data.astype(np.float32)
            total = ordered_sum(terms * terms if kind == "mean_square" else terms, positions)
            count = math.prod(x.extent(a) for a in over)
            data = total if kind == "sum" else total / np.float32(count)
        else:
            raise DeviceError(f"reduce: no kind {kind!r}", code="FP6307")
    return Tensor(Tensor(np.asarray(data, np.float32), kept).align(value.axes), value.axes)


def _extreme(kind: str, x: NDArray[np.float32], axes: Sequence[int]) -> Array:
    """The elementwise `max` or `min` of all elements along axes, whose order then does not matter."""
    function, identity, zero = (np.maximum, -np.inf, False) if kind == "max" else (np.minimum, np.inf, True)
    numbers = np.where(np.isnan(x), np.float32(identity), x)
    data = function.reduce(numbers, axis=tuple(axes), initial=np.float32(identity))
    # Of zeros, the one of the greater (lesser) sign, where there is one.
    preferred = np.any((x == 0) & (np.signbit(x) == zero), axis=tuple(axes))
    data = np.where(data == 0, np.where(preferred == zero, np.float32(-0.0), np.float32(0.0)), data)
    if x.size:  # the identity must not hide that all were NaN
        data = np.where(np.all(np.isnan(x), axis=tuple(axes)), np.float32(np.nan), data)
    return data


def ordered_sum(x: NDArray[np.float32], axes: Sequence[int]) -> NDArray[np.float32]:
    """The sum over axes in the language's order, one f32 addition at a time.

    Along one axis, blocks of 32 (the last padded with +0) are summed by halves (element i and i + 16, then i and i + 8,
    and so on), and the blocks' sums in their order. Over several axes, blocks are taken along the last two: 32 x 32
    elements are summed by halves over the last axis, then over the one before; the blocks of a row of blocks in their
    order; the rows of blocks by the rule for one axis. Further axes are summed by that rule one by one, last first.
    """
    axes = sorted(axes)
    if len(axes) == 1:
        return _in_order(_blocks(np.moveaxis(x, axes[0], -1)))
    *outer, rows, columns = axes
    last = np.moveaxis(x, (rows, columns), (-2, -1))
    blocks = _blocks(np.swapaxes(_blocks(last), -1, -2))  # [.., block columns, block rows]
    total = _in_order(_blocks(_in_order(np.swapaxes(blocks, -1, -2))))
    for axis in reversed(outer):
        total = _in_order(_blocks(np.moveaxis(total, axis, -1)))
    return total


def _blocks(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sums of blocks of 32 of the last axis, by halves."""
    pad = -x.shape[-1] % 32
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, pad)])
    parts = padded.reshape(*x.shape[:-1], padded.shape[-1] // 32, 32)  # -1 cannot be found of no elements
    half = 16
    while half:
        parts = parts[..., :half] + parts[..., half : 2 * half]
        half //= 2
    return parts[..., 0]


def _in_order(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum over the last axis, the first element first; 0 over none."""
    total = np.zeros(x.shape[:-1], np.float32)
    for i in range(x.shape[-1]):
        total = x[..., i] if i == 0 else total + x[..., i]
    return total


def unzip(value: Value, operands: list[Tensor], dims: Mapping[str, int]) -> Tensor:
    """Element i of the result is element (i // group) * 2 * group + part * group + i % group of `axis`."""
    x = operands[0]
    axis, into = str(value.attrs["axis"]), str(value.attrs["into"])
    group = int(sizes.evaluate(value.attrs["group"], dims))  # pyright: ignore[reportArgumentType]
    part = value.attrs["part"]
    if group < 1 or x.extent(axis) % (2 * group) or part not in (0, 1):
        raise DeviceError(f"unzip: {axis} = {x.extent(axis)} is no multiple of 2 * {group}", code="FP6307")
    i = np.arange(x.extent(axis) // 2)
    index = (i // group) * 2 * group + int(part) * group + i % group
    data = np.take(x.data, index, axis=x.axes.index(axis))
    renamed = tuple(into if a == axis else a for a in x.axes)
    return Tensor(Tensor(data, renamed).align(value.axes), value.axes)


def of_group(value: Value, x: Tensor, arrays: Mapping[str, Any]) -> Tensor:
    """For each row of a ragged axis the part of `x` of the row's group; the rows stand in the groups' place."""
    groups, rows, offsets = (str(value.attrs[key]) for key in ("groups", "rows", "ragged"))
    counts = np.diff(np.asarray(arrays[offsets]).astype(np.int64))
    data = np.repeat(x.data, counts, axis=x.axes.index(groups))
    return Tensor(data, tuple(rows if axis == groups else axis for axis in x.axes))


def hadamard(value: Value, operands: list[Tensor], dims: Mapping[str, int]) -> Tensor:
    """Signs, then butterflies at distance 1, 2, 4, .., then one multiplication by f32(1 / sqrt(size)), all in f32."""
    x = operands[0]
    axis, size = str(value.attrs["axis"]), value.attrs["size"]
    if not isinstance(size, int) or size < 2 or size & (size - 1) or x.extent(axis) % size:
        raise DeviceError(f"hadamard of size {size} along {axis} = {x.extent(axis)}", code="FP6307")
    data = np.moveaxis(x.data, x.axes.index(axis), -1)
    runs = data.astype(np.float32).reshape(*data.shape[:-1], data.shape[-1] // size, size)
    if len(operands) > 1:
        runs = f32.mul(runs, operands[1].data.reshape(-1))
    distance = 1
    while distance < size:
        pairs = runs.reshape(*runs.shape[:-1], size // (2 * distance), 2, distance)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        runs = np.stack([f32.add(low, high), f32.sub(low, high)], axis=-2).reshape(runs.shape)
        distance *= 2
    runs = f32.mul(runs, np.float32(1 / math.sqrt(size)))
    return Tensor(np.moveaxis(runs.reshape(data.shape), -1, x.axes.index(axis)), x.axes)


def uniform(value: Value, operands: list[Tensor], dims: Mapping[str, int]) -> Tensor:
    """Numbers in [0, 1) by logical index (`fp4num.philox`)."""
    stream = value.attrs.get("stream", 0)
    shape = tuple(dims[axis] for axis in value.axes)
    state = operands[0].data.reshape(-1)
    return Tensor(philox.uniform(shape, state, stream if isinstance(stream, int) else 0), value.axes)
