"""`quantize` and `dequantize`: a float32 tensor to a block format by a named rule, and back."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4num import stats
from fp4num.blocks import Job
from fp4num.codecs import Floats, decode, decode_table
from fp4num.errors import DataError
from fp4num.formats import Block, BlockFormat, block_format
from fp4num.ops import Numpy
from fp4num.packing import pack, unpack
from fp4num.quantized import Quantized
from fp4num.rules import Factors, FourOverSix, Rule, rule, unit


def quantize(
    x: ArrayLike,
    fmt: BlockFormat | str,
    *,
    tensor_scale: Any = None,
    amax: Any = None,
    scale: ArrayLike | None = None,
    rounding: Literal["nearest", "stochastic"] = "nearest",
    rng: ArrayLike | None = None,
    stream: int = 0,
    quantizer: str | None = None,
) -> Quantized:
    """Quantize a tensor [.., rows, columns] along its last axis.

    The rule is `quantizer`, or the format's own (docs/numerics.md). For a format with a tensor scale give that scale,
    in the format's own sense, or the tensor's `amax`, or neither: then `amax` is taken from `x`. `scale` gives the
    block scales instead of computing them: float32, one a block (in the block grid's order) or one number, for a format
    with f32 scales. Stochastic rounding needs `rng` = (seed, offset) and draws by logical element index
    (`fp4num.philox`). Raises `DataError` for a shape, `FormatError` for a format that the rule cannot make.
    """
    f = block_format(fmt)
    values = _as_f32(x)
    the_rule = rule(quantizer or f.quantizer)
    noise = _noise(rounding, rng)
    f.check_shape(values.shape)
    the_rule.check(f)
    if noise is not None and isinstance(the_rule, FourOverSix):
        raise DataError(f"{the_rule.name} compares errors of rounding to nearest: it does not round stochastically")
    with np.errstate(all="ignore"):
        given = None if scale is None else _given_scale(scale, f, values.shape, tensor_scale, amax)
        factors = _factors(values, f, the_rule, tensor_scale, amax)
        codes, scales = Job(f, the_rule, factors, noise, stream).run(values, given)
    stored = None
    if f.tensor_scale is not None:
        chosen = factors.decode if f.tensor_scale == "multiplies" else factors.encode
        stored = np.asarray(chosen, np.float32).reshape(())
    packed = pack(codes, f.bits).reshape(f.codes_shape(values.shape))
    return Quantized(packed, f.layout.to_buffer(_stored(scales, f, values.shape)), stored, f, values.shape)


def codes_under(
    x: ArrayLike,
    like: Quantized,
    *,
    tensor_scale: Any = None,
    amax: Any = None,
    rounding: Literal["nearest", "stochastic"] = "nearest",
    rng: ArrayLike | None = None,
    stream: int = 0,
    quantizer: str | None = None,
) -> NDArray[np.uint8]:
    """The codes, one a byte, that `quantize` gives `x` where its blocks have the scales of `like`.

    For rules with one scale a block. The arguments are those of `quantize`, `like` has its format.
    """
    f, values = like.format, _as_f32(x)
    the_rule = rule(quantizer or f.quantizer)
    with np.errstate(all="ignore"):
        factors = _factors(values, f, the_rule, tensor_scale, amax)
        job = Job(f, the_rule, factors, _noise(rounding, rng), stream)
        return job.run(values, _of_blocks(like.scale_grid(), f, values.shape))[0]


def _of_blocks(stored: NDArray[Any], f: BlockFormat, shape: tuple[int, ...]) -> NDArray[Any]:
    """The scale of each block: the first of those that are stored for it."""
    for axis, (block, part) in enumerate(zip(f.block, f.stored, strict=True), start=1):
        if block != part:
            assert part != "all"  # BlockFormat allows it only where the block is all, too
            stored = np.take(
                stored, np.arange(f.block_grid(shape)[axis]) * (0 if block == "all" else block // part), axis
            )
    return stored


def dequantize(q: Quantized, *, tensor_scale: bool = True) -> Floats:
    """The float32 values: fl(element * scale), then times (or divided by) the tensor scale, each rounded once.

    `tensor_scale=False` leaves the tensor scale out.
    """
    values: NDArray[Any] = _decoded(q, np.float32)
    if tensor_scale and q.tensor_scale is not None:
        with np.errstate(all="ignore"):
            ts = np.asarray(q.tensor_scale, np.float32)
            values = values * ts if q.format.tensor_scale == "multiplies" else values / ts
    return np.asarray(values, np.float32)


def operand_values(q: Quantized) -> NDArray[np.float64]:
    """element * scale without any rounding, as float64: what a product contracts.

    The tensor core multiplies elements and scales of both operands before it rounds, so an element times its scale may
    lie outside float32's range (6 * 2^127) where the product does not.
    """
    return _decoded(q, np.float64)


def _decoded(q: Quantized, kind: type[np.floating[Any]]) -> NDArray[Any]:
    """element * scale, each product rounded once to `kind`."""
    if not isinstance(q, Quantized):  # pyright: ignore[reportUnnecessaryIsInstance]  # it is the caller's
        raise DataError(f"dequantize takes a Quantized, not {type(q).__name__}")
    f = q.format
    codes = np.asarray(q.codes)
    if f.bits == 4:
        # Two elements a byte: one lookup of a pair of float32 in a table of 256.
        values = np.take(_pairs(f.element), codes).view(np.float32).reshape(q.shape)
    else:
        values = decode(unpack(codes, f.bits), f.element).reshape(q.shape)
    values = values.astype(kind, copy=False)
    with np.errstate(all="ignore"):
        if f.scale is not None and values.size:
            grid = q.scale_grid()
            scales = grid if f.scale == "f32" else decode(grid, f.scale)
            _scale_blocks(values, scales.astype(kind, copy=False), f.stored)
    return values


def _as_f32(x: Any) -> Floats:
    if hasattr(x, "detach"):  # a torch tensor: bf16 has no numpy dtype
        x = x.detach().float().cpu().numpy()
    values = np.asarray(x)
    if values.dtype.kind not in "fiuV" and values.dtype.name != "bfloat16":
        raise DataError(f"quantize takes real numbers, not {values.dtype}")
    with np.errstate(over="ignore"):  # what float32 has no number for is infinite
        return np.asarray(values, dtype=np.float32, order="C")


def _noise(rounding: str, rng: ArrayLike | None) -> ArrayLike | None:
    if rounding == "nearest":
        return None
    if rounding != "stochastic":
        raise DataError(f"rounding is 'nearest' or 'stochastic', not {rounding!r}")
    if rng is None:
        raise DataError("stochastic rounding needs rng = (seed, offset)")
    return rng


def _factors(x: Floats, f: BlockFormat, the_rule: Rule, tensor_scale: Any, amax: Any) -> Factors[Any]:
    o = Numpy()
    if f.tensor_scale is None:
        if tensor_scale is not None or amax is not None:
            raise DataError(f"{f.name} has no tensor scale: give neither tensor_scale nor amax")
        return unit(o)
    if tensor_scale is not None and amax is not None:
        raise DataError("give tensor_scale or amax, not both")
    if tensor_scale is not None:
        return the_rule.from_tensor_scale(o, _scalar(tensor_scale, "tensor_scale"), f.tensor_scale)
    if amax is None:
        amax = stats.amax(x, nan=the_rule.statistic == "amax_nan")
    return the_rule.from_amax(o, _scalar(amax, "amax"), f)


def _scalar(value: Any, what: str) -> np.float32:
    array = _as_f32(value)
    if array.size != 1:
        raise DataError(f"{what} is one number, not an array of shape {array.shape}")
    return np.float32(array.reshape(())[()])


def _given_scale(scale: ArrayLike, f: BlockFormat, shape: tuple[int, ...], tensor_scale: Any, amax: Any) -> Floats:
    if f.scale != "f32":
        raise DataError(f"scale= is for formats with f32 scales, not {f.name} with {f.scale}")
    if tensor_scale is not None or amax is not None:
        raise DataError("give scale, or tensor_scale or amax, not both")
    grid = f.block_grid(shape)
    values = _as_f32(scale)
    if values.size == 1:
        return np.full(grid, values.reshape(())[()], np.float32)
    if values.size != grid.batches * grid.rows * grid.columns:
        raise DataError(f"scale has {values.size} numbers for the {' x '.join(map(str, grid))} blocks of {list(shape)}")
    return values.reshape(grid)


def _stored(scales: NDArray[Any], f: BlockFormat, shape: tuple[int, ...]) -> NDArray[Any]:
    """Scales as the format stores them: repeated where a stored scale covers less than its block."""
    if f.block == f.stored:
        return scales
    grid = f.scale_grid(shape)
    for axis, (block, stored) in enumerate(zip(f.block, f.stored, strict=True), start=1):
        if block != stored:
            index = np.arange(grid[axis])
            assert stored != "all"  # BlockFormat allows it only where the block is all, too
            scales = np.take(scales, index * 0 if block == "all" else index * stored // block, axis=axis)
    return scales


def _scale_blocks(values: NDArray[Any], scales: NDArray[Any], stored: Block) -> None:
    """Multiply `values` in place by the scales [batch, row, k] of their blocks."""
    view = values.reshape(scales.shape[0], -1, values.shape[-1])
    tall, wide = stored
    width = view.shape[2] if wide == "all" else wide
    if tall not in (1, "all"):
        scales = np.repeat(scales, tall, axis=1)[:, : view.shape[1]]
    blocks = view.reshape(view.shape[0], view.shape[1], -1, width)
    np.multiply(blocks, scales[..., None], out=blocks)


def _pairs(name: str) -> NDArray[np.uint64]:
    table = decode_table(name)
    codes = np.arange(256)
    return np.stack([table[codes & 0xF], table[codes >> 4]], axis=-1).view(np.uint64).reshape(-1)
