"""Tensors with a tensor scale for each batch: each is quantized by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import dtypes
from fp4num.errors import DataError
from fp4num.formats import BlockFormat
from fp4num.quantized import Quantized
from fp4num.scale_arrays import to_buffer


def each_batch(
    quantize: Callable[..., Quantized], x: NDArray[np.float32], f: BlockFormat, given: Mapping[str, Any]
) -> Quantized:
    """`x` [.., rows, columns] with the tensor scales of its batches: `quantize` makes one of each matrix.

    `given`: arguments of `quantize` that have one number a batch, or None. `DataError` for another shape.
    """
    lead, f_one = x.shape[:-2], replace(f, each_batch=False)
    f.check_shape(x.shape)
    factors = {name: _numbers(value, name, lead, f) for name, value in given.items() if value is not None}
    parts = [
        quantize(matrix, f_one, **{name: values[i] for name, values in factors.items()})
        for i, matrix in enumerate(x.reshape(math.prod(lead), *x.shape[-2:]))
    ]
    codes = np.array([part.codes for part in parts], np.uint8).reshape(f.codes_shape(x.shape))
    scales: NDArray[Any] = np.empty(0, np.uint8)
    if f.scale is not None:
        kind = np.float32 if f.scale == "f32" else np.uint8
        grid = np.array([part.scale_grid()[0] for part in parts], kind).reshape(f.scale_grid(x.shape))
        scales = to_buffer(grid, f, x.shape, None)
    overall = np.array([part.tensor_scale for part in parts], np.float32).reshape(lead)
    return Quantized(codes, scales, overall, f, x.shape)


def _numbers(value: Any, what: str, lead: tuple[int, ...], f: BlockFormat) -> NDArray[np.float32]:
    numbers = np.asarray(dtypes.numbers(value, what), np.float32)
    if numbers.shape != lead:
        raise DataError(f"{what} of {f.name} is one number a batch, of shape {lead}, not of shape {numbers.shape}")
    return numbers.reshape(-1)
