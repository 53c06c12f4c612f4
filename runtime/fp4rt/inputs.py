"""Random arguments for a kernel, made so that kernel and reference can be compared with `==`.

A product's sums are exact in f32 in any order: every term of a row is an integer multiple of one power of two, and the
sum of their magnitudes stays below 2^24 of it. Rows get their own powers of two and, for elements of a wide range,
their own window of codes, so that all exponents occur. Operands of products that are added up have one unit in common,
1, so that the whole sum is exact: a kernel may keep it in one accumulator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import BlockFormat, Quantized, decode, encode, pack
from fp4num.groups import check_offsets, first_rows
from fp4num.scale_arrays import to_buffer
from fp4rt.arrays import Input
from fp4rt.errors import DimensionError
from fp4rt.limits import call_bytes, check_memory
from fp4rt.manifest import Manifest
from fp4rt.reference.sums import sums
from fp4rt.signature import complete_dims
from fp4rt.typed import Arg, TypedKernel, shape_of

Generator = np.random.Generator
#: Sums stay below this many units in the last place of the row.
_EXACT = 1 << 24
#: What scales of wide elements reach at least; the largest integer that an element of four bits is.
_SCALES, _FEW = 4, 12
#: Drawing an argument holds this many times its memory: numbers as int64 and float64.
_COPIES = 4


def random_inputs(
    manifest: Manifest | TypedKernel,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    *,
    exact: bool = True,
    defaults: bool = True,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Input]:
    """Arguments by name, as numpy arrays, `Quantized` and numbers, for a call with these dynamic dims.

    `exact` restricts the operands of products as described above; without it every finite code occurs. `defaults`
    keeps the default values of params, otherwise they are random too. The same seed gives the same arguments.
    `given` are arguments that the caller has: the scales of ragged ones go by its offsets.
    Raises ArgumentError FP6110 if a dim is not given, DimensionError FP6202 for a shape that has no meaning, and
    DeviceError FP6120 if the arguments do not fit in this machine's memory.
    """
    kernel = manifest.kernel if isinstance(manifest, Manifest) else manifest
    static = {d.name: d.value for d in kernel.dims if d.value is not None}
    sizes_of = complete_dims(kernel, {**static, **(dims or {})})
    check_memory(_COPIES * call_bytes(kernel, sizes_of), None, f"making random inputs of {kernel.name}")
    bounds = _bounds(kernel, sizes_of) if exact else {}
    out: dict[str, Input] = {}
    for index, arg in enumerate(kernel.args):
        rng = np.random.default_rng((seed, index))
        shape = shape_of(arg, sizes_of)
        if arg.direction == "param":
            if arg.default is None or not defaults:
                out[arg.name] = (
                    float(np.float32(rng.uniform(0.5, 2.0))) if arg.dtype == "f32" else int(rng.integers(1, 5))
                )
        elif arg.direction != "out":
            bound, aligned = bounds.get(arg.name, (None, False))
            out[arg.name] = _tensor(kernel, arg, shape, bound, rng, sizes_of, aligned)
    factors = _factors(kernel)
    for arg in kernel.args:
        by = arg.axes[-2].by if arg.format is not None and len(arg.axes) > 1 else None
        if arg.name in factors and arg.direction == "in" and arg.dtype == "f32":
            out[arg.name] = np.asarray(np.abs(out[arg.name]))  # a negative scale has no meaning
        if by is not None and arg.name in out:
            out[arg.name] = grouped(out[arg.name], (given or {}).get(by, out[by]))
    return out


def _factors(kernel: TypedKernel) -> set[str]:
    """The arguments that are the tensor scale, amax or scale of a quantizer."""
    quantizers = [v for v in kernel.values if v.op == "quantize" and v.attrs.get("mode", "none") != "none"]
    found = [_argument(kernel, value.operands[1]) for value in quantizers]
    return {arg.name for arg in found if arg is not None}


def _bounds(kernel: TypedKernel, dims: Mapping[str, int]) -> dict[str, tuple[int, bool]]:
    """For each operand of a product, the largest integer that an exact row may hold, and whether its unit is 1."""
    out: dict[str, tuple[int, bool]] = {}
    for products in sums(kernel):
        args = [[_argument(kernel, i) for i in kernel.values[product].operands] for product in products]
        depths = [shape_of(left, dims)[-1] for left, _ in args if left is not None]
        bound = max(1, math.isqrt((_EXACT - 1) // max(1, sum(depths))))
        for arg in (arg for pair in args for arg in pair if arg is not None):
            before, aligned = out.get(arg.name, (bound, False))
            out[arg.name] = min(bound, before), aligned or len(products) > 1
    return out


def _argument(kernel: TypedKernel, index: int) -> Arg | None:
    """The argument behind a product's operand, None if it is computed."""
    value = kernel.values[index]
    while value.op in ("transpose", "cast"):
        value = kernel.values[value.operands[0]]
    return kernel.arg(str(value.attrs["name"])) if value.op == "arg" else None


def _tensor(
    kernel: TypedKernel,
    arg: Arg,
    shape: tuple[int, ...],
    bound: int | None,
    rng: Generator,
    dims: Mapping[str, int],
    aligned: bool,
) -> Any:
    if arg.format is not None:
        return _quantized(arg.format, shape, bound, rng, aligned)
    for user in kernel.args:  # offsets and counts have a meaning of their own
        for axis, limit in zip(user.axes, shape_of(user, dims), strict=True):
            if axis.by == arg.name:
                cuts = np.sort(rng.integers(0, limit + 1, max(0, shape[0] - 2)))
                return np.concatenate([[0], cuts, [limit]]).astype(_numpy(arg))[: shape[0]]
            if axis.upto == arg.name:
                return rng.integers(0, limit + 1, shape).astype(_numpy(arg))
    dtype = str(arg.dtype)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype in ("i32", "u32", "u64"):
        high = 1 << 63 if dtype == "u64" else 100
        return rng.integers(0, high, shape).astype(_numpy(arg))
    if bound is not None:
        values = rng.integers(-min(bound, 15), min(bound, 15) + 1, shape).astype(np.float32)
    else:
        values = rng.standard_normal(shape).astype(np.float32)
    if dtype == "f32":
        return np.asarray(values, np.float32)
    codes = encode(values, dtype)
    return codes.view(np.float16) if dtype == "f16" else codes


def _numpy(arg: Arg) -> Any:
    return {"i32": np.int32, "u32": np.uint32, "u64": np.uint64}.get(str(arg.dtype), np.int32)


def _quantized(fmt: BlockFormat, shape: tuple[int, ...], bound: int | None, rng: Generator, aligned: bool) -> Quantized:
    """Random codes and scales; the padding of the scales is what the layout says."""
    try:
        fmt.check_shape(shape)
    except ValueError as error:
        raise DimensionError(str(error)) from error
    columns = int(shape[-1])
    dense = (math.prod(shape[:-2]), math.prod(shape[-2:-1]), columns)
    codes, level, scale_bound = _codes(fmt, dense, bound, rng, aligned)
    packed = pack(codes, fmt.bits).reshape(fmt.codes_shape(shape))
    scales: NDArray[Any] = np.empty(0, np.uint8)
    if fmt.scale is not None:
        scales = fmt.layout.to_buffer(_scales(fmt, shape, scale_bound, level, rng, aligned))
    tensor_scale = None if fmt.tensor_scale is None else np.asarray(rng.uniform(0.25, 4.0), np.float32)
    return Quantized(packed, scales, tensor_scale, fmt, shape)


def grouped(q: Quantized, offsets: Any) -> Quantized:
    """A quantized tensor with its rows in groups: a block's scale is that of its first row."""
    fmt, shape = q.format, q.shape
    scales = q.scales
    known = check_offsets(offsets, shape)
    if fmt.scale is not None:
        tall = fmt.stored[0]
        rows = np.minimum(first_rows(known, tall), max(0, shape[-2] - 1))
        grid = q.scale_grid()
        scales = to_buffer(grid[:, rows * 0 if tall == "all" else rows // tall], fmt, shape, known)
    return Quantized(q.codes, scales, q.tensor_scale, fmt, shape, offsets)


def _codes(
    fmt: BlockFormat, shape: tuple[int, int, int], bound: int | None, rng: Generator, aligned: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
    """Codes; the exponent of each row's typical magnitude [batch, row]; the largest integer that a scale may be.

    With a bound each row draws from one window: the codes that are integers of magnitude at most `bound` times 2^w
    times the element's smallest step; with `aligned`, w is 0 everywhere. Codes of many bits leave a part of the bound
    to the scales, so that these differ along a row.
    """
    codes = np.arange(1 << fmt.bits, dtype=np.uint8)
    values = decode(codes, fmt.element).astype(np.float64)
    codes, values = codes[np.isfinite(values)], np.abs(values[np.isfinite(values)])
    out = np.empty(shape, np.uint8)
    level = np.zeros(shape[:2], np.int64)
    if bound is None:
        out[:] = rng.choice(codes, shape)
        level[:] = round(math.log2(float(np.median(values))))
        return out, level, 8
    units = values / float(np.min(values[values > 0]))
    largest, whole = int(np.max(units)), bound
    if fmt.scale is not None:
        bound = max(bound // _SCALES, min(bound, _FEW))
    windows = 1 if largest <= bound or aligned else largest.bit_length() - bound.bit_length() + 2
    window_of = rng.integers(0, windows, shape[:2])
    used = 1
    for w in range(windows):
        scaled = units / 2.0**w
        allowed = (scaled == np.floor(scaled)) & (scaled <= bound)
        rows = window_of == w
        out[rows] = rng.choice(codes[allowed], (int(rows.sum()), shape[2]))
        level[rows] = round(math.log2(float(np.sqrt(np.mean(values[allowed] ** 2)))))
        used = max(used, int(np.max(scaled[allowed])))
    return out, level, max(1, whole // used)


def _scales(
    fmt: BlockFormat,
    shape: tuple[int, ...],
    bound: int,
    level: NDArray[np.int64],
    rng: Generator,
    aligned: bool,
) -> NDArray[Any]:
    """Stored scales [batch, row, k]: for each row of blocks a power of two times integers up to `bound`.

    The power is such that sums over the last axis are of moderate size, whatever the codes' window (`level`); with
    `aligned`, such that the element's smallest step becomes 1.
    """
    grid = fmt.block_grid(shape)
    bound = min(bound, 16)
    depth = round(math.log2(max(1, int(shape[-1]))) / 4)
    tall = 1 if fmt.block[0] == 1 else (level.shape[1] or 1) if fmt.block[0] == "all" else int(fmt.block[0])
    base = rng.integers(-2, 3, grid[:2]) - level[:, ::tall] - depth - bound.bit_length() // 2
    if aligned:
        smallest = decode(np.arange(1 << fmt.bits, dtype=np.uint8), fmt.element)
        base[:] = -round(math.log2(float(np.min(smallest[smallest > 0]))))
    # Within these, an integer of up to 16 times the power of two is a scale exactly.
    base = np.clip(base, *{"e4m3": (-9, 4), "e8m0": (-120, 120)}.get(str(fmt.scale), (-120, 120)))[..., None]
    factors: NDArray[Any]
    if fmt.scale == "e8m0":
        factors = 1 << rng.integers(0, bound.bit_length(), grid)
    else:
        factors = rng.integers(1, bound + 1, grid)
    scales = np.ldexp(factors.astype(np.float32), base.astype(np.int32)).astype(np.float32)
    codes: NDArray[Any] = scales if fmt.scale == "f32" else encode(scales, str(fmt.scale))
    stored = fmt.scale_grid(shape)
    for axis, (block, part) in enumerate(zip(fmt.block, fmt.stored, strict=True), start=1):
        if block != part:
            index = np.arange(stored[axis])
            index = index * 0 if block == "all" else index * int(part) // int(block)
            codes = np.take(codes, index, axis=axis)
    return codes
