"""`quantize` and `dequantize`: a float32 tensor to a block format by a named rule, and back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4num import stats, tensors
from fp4num.batches import each_batch
from fp4num.blocks import Job
from fp4num.codecs import Floats, decode, decode_table
from fp4num.dtypes import numbers
from fp4num.errors import DataError
from fp4num.formats import BlockFormat, Extent, block_format
from fp4num.groups import Offsets, check_offsets, group_rows, repeated
from fp4num.ops import Numpy
from fp4num.packing import pack, unpack
from fp4num.quantized import Quantized
from fp4num.rules import Factors, FourOverSix, Rule, rule, unit
from fp4num.scale_arrays import to_buffer


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
    offsets: Any = None,
) -> Quantized:
    """Quantize a tensor [.., rows, columns] along its last axis.

    `x` is an array of floats, or of bf16 or fp8 codes that says so by its dtype (a kernel's output); an array of
    integers is refused (`fp4num.dtypes`). The rule is `quantizer`, or the format's own (docs/numerics.md). For a format
    with a tensor scale give that scale, in the format's own sense, or the tensor's `amax`, or neither: then `amax` is
    taken from `x`. Of a format with one tensor scale a batch both have the shape of the batches. `scale` gives the
    block scales instead of computing them: float32, one a block (in the block grid's order) or one number, for a format
    with f32 scales. Stochastic rounding needs `rng` = (seed, offset) and draws by logical element index
    (`fp4num.philox`). `offsets` [groups + 1] makes the tensor ragged: each group of rows has blocks of its own and
    starts a new atom row of scales. Raises `DataError` for a shape, and for a tensor scale that is no positive number
    or under which the tensor would vanish; `FormatError` for a format that the rule cannot make.
    """
    f, x = block_format(fmt), tensors.readable(x, "x")
    values = _as_f32(x, "x")
    the_rule = rule(quantizer or f.quantizer)
    if f.tensor_scale_shape(values.shape):
        if rounding != "nearest":
            raise DataError(f"{f.name} has a tensor scale for each batch: it is not rounded stochastically yet")
        given = {"tensor_scale": tensor_scale, "amax": amax}
        made = each_batch(partial(quantize, scale=scale, quantizer=quantizer, offsets=offsets), values, f, given)
        return made.to(cast("Any", x).device) if tensors.is_tensor(x) else made
    if f.tensor_scale is not None and scale is None:
        f.check_shape(values.shape)
        the_rule.check(f)
        if tensor_scale is None:
            amax = stats.amax(values, nan=the_rule.statistic == "amax_nan") if amax is None else _scalar(amax, "amax")
            _check_amax(amax, f, the_rule)
        else:
            _check_tensor_scale(_scalar(tensor_scale, "tensor_scale"), f)
    found = quantize_as_kernels_do(
        values,
        f,
        tensor_scale=tensor_scale,
        amax=amax,
        scale=scale,
        rounding=rounding,
        rng=rng,
        stream=stream,
        the_rule=the_rule,
        offsets=offsets,
    )
    if not tensors.is_tensor(x):
        return found
    device = cast("Any", x).device
    if tensors.is_tensor(offsets) and offsets.device == device:
        found = replace(found, offsets=offsets)  # the kernel's own argument, so that it need not be compared
    return found.to(device)


def quantize_as_kernels_do(
    values: Floats,
    f: BlockFormat,
    *,
    tensor_scale: Any = None,
    amax: Any = None,
    scale: ArrayLike | None = None,
    rounding: Literal["nearest", "stochastic"] = "nearest",
    rng: ArrayLike | None = None,
    stream: int = 0,
    the_rule: Rule | None = None,
    offsets: Any = None,
) -> Quantized:
    """`quantize` of float32 values without a look at the tensor scale: a kernel takes any, and goes by the rule."""
    the_rule = the_rule or rule(f.quantizer)
    noise = _noise(rounding, rng)
    f.check_shape(values.shape)
    the_rule.check(f)
    if noise is not None and isinstance(the_rule, FourOverSix):
        raise DataError(f"{the_rule.name} compares errors of rounding to nearest: it does not round stochastically")
    rows = None if offsets is None else check_offsets(offsets, values.shape)
    with np.errstate(all="ignore"):
        given = None if scale is None else _given_scale(scale, f, values.shape, rows, tensor_scale, amax)
        factors = _factors(values, f, the_rule, tensor_scale, amax)
        codes, scales = Job(f, the_rule, factors, noise, stream, rows).run(values, given)
    stored = None
    if f.tensor_scale is not None:
        chosen = factors.decode if f.tensor_scale == "multiplies" else factors.encode
        stored = np.asarray(chosen, np.float32).reshape(())
    packed = pack(codes, f.bits).reshape(f.codes_shape(values.shape))
    buffer = to_buffer(_stored(scales, f, values.shape, rows), f, values.shape, rows)
    return Quantized(packed, buffer, stored, f, values.shape, None if rows is None else rows.astype(np.int32))


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
    f, values = like.format, _as_f32(x, "x")
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

    `tensor_scale=False` leaves the tensor scale out. A torch tensor on the same device where `q` is made of tensors.
    """
    values: NDArray[Any] = _decoded(q, np.float32)
    if tensor_scale and q.tensor_scale is not None:
        with np.errstate(all="ignore"):
            ts = np.asarray(tensors.to_array(q.tensor_scale), np.float32)
            if q.format.tensor_scale_shape(q.shape):
                ts = ts.reshape((*q.shape[:-2], 1, 1))
            values = values * ts if q.format.tensor_scale == "multiplies" else values / ts
    return _where(np.asarray(values, np.float32), q)


def operand_values(q: Quantized) -> NDArray[np.float64]:
    """element * scale without any rounding, as float64: what a product contracts.

    The tensor core multiplies elements and scales of both operands before it rounds, so an element times its scale may
    lie outside float32's range (6 * 2^127) where the product does not.
    """
    return _where(_decoded(q, np.float64), q)


def _where(values: NDArray[Any], q: Quantized) -> Any:
    """The values as a tensor beside the codes, where those are one."""
    return tensors.to_tensor(values, q.codes.device) if tensors.is_tensor(q.codes) else values


def _decoded(q: Quantized, kind: type[np.floating[Any]]) -> NDArray[Any]:
    """element * scale, each product rounded once to `kind`."""
    if not isinstance(q, Quantized):  # pyright: ignore[reportUnnecessaryIsInstance]  # it is the caller's
        raise DataError(f"dequantize takes a Quantized, not {type(q).__name__}")
    f, q = block_format(q.format), q.numpy()
    codes = q.codes
    if codes.dtype != np.uint8 or codes.shape != f.codes_shape(q.shape):
        raise DataError(
            f"codes of {f.name}{list(q.shape)} are uint8 of the shape {f.codes_shape(q.shape)}, not {codes.dtype} of "
            f"{codes.shape}"
        )
    if f.bits == 4:
        # Two elements a byte: one lookup of a pair of float32 in a table of 256.
        values = np.take(_pairs(f.element), codes).view(np.float32).reshape(q.shape)
    else:
        values = decode(unpack(codes, f.bits), f.element).reshape(q.shape)
    values = values.astype(kind, copy=False)
    with np.errstate(all="ignore"):
        if f.scale is not None and values.size:
            grid = q.scale_grid()
            if f.scale == "e4m3" and (grid >= 0x80).any():
                raise DataError(f"scales of {f.name}{list(q.shape)} hold a negative byte: block scales have sign 0")
            scales = grid if f.scale == "f32" else decode(grid, f.scale)
            _scale_blocks(values, scales.astype(kind, copy=False), _stored_rows(q), f.stored[1])
    return values


def _as_f32(x: Any, what: str) -> Floats:
    values = numbers(x, what)
    with np.errstate(over="ignore"):  # what float32 has no number for is infinite
        return np.asarray(values, dtype=np.float32, order="C")


def _check_tensor_scale(value: np.float32, f: BlockFormat) -> None:
    """`DataError` unless a tensor scale is positive and finite, and its reciprocal, too, is a float32."""
    with np.errstate(all="ignore"):
        if not (value > 0 and np.isfinite(value) and np.isfinite(np.float32(1) / value)):
            raise DataError(
                f"tensor_scale of {f.name} is a positive number with a finite float32 reciprocal, not {value}"
            )


def _check_amax(amax: np.float32, f: BlockFormat, the_rule: Rule) -> None:
    """`DataError` where a block of the largest magnitude would come back as zero or far off.

    Near the ends of float32 the tensor scale or its reciprocal has no value there, and the rule takes another.
    """
    if 2.0**-100 < amax < 2.0**100 or not (np.isfinite(amax) and amax > 0):
        return  # far from both ends: most tensors
    block = np.full((1, f.row_unit), amax, np.float32)
    sample = quantize_as_kernels_do(block, f, amax=amax, the_rule=the_rule)
    back, want = float(dequantize(sample)[0, 0]), float(amax)  # in float64, where halves of the smallest exist
    if not want / 2 <= back <= want * 2:
        raise DataError(
            f"a magnitude of {amax} has no {f.name} tensor scale in float32 under {the_rule.name} (it would be "
            f"{sample.tensor_scale}, and {back} would come back): multiply the tensor by a power of two first"
        )


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
    array = _as_f32(value, what)
    if array.size != 1:
        raise DataError(f"{what} is one number, not an array of shape {array.shape}")
    return np.float32(array.reshape(())[()])


def _given_scale(
    scale: ArrayLike, f: BlockFormat, shape: tuple[int, ...], offsets: Offsets | None, tensor_scale: Any, amax: Any
) -> Floats:
    if f.scale != "f32":
        raise DataError(f"scale= is for formats with f32 scales, not {f.name} with {f.scale}")
    if tensor_scale is not None or amax is not None:
        raise DataError("give scale, or tensor_scale or amax, not both")
    grid = f.block_grid(shape)
    if offsets is not None:
        grid = grid._replace(rows=int(group_rows(offsets, f.block[0]).sum()))
    values = _as_f32(scale, "scale")
    if values.size == 1:
        return np.full(grid, values.reshape(())[()], np.float32)
    if values.size != grid.batches * grid.rows * grid.columns:
        raise DataError(f"scale has {values.size} numbers for the {' x '.join(map(str, grid))} blocks of {list(shape)}")
    return values.reshape(grid)


def _stored(scales: NDArray[Any], f: BlockFormat, shape: tuple[int, ...], offsets: Offsets | None) -> NDArray[Any]:
    """Scales as the format stores them: repeated where a stored scale covers less than its block."""
    grid = f.scale_grid(shape)
    for axis, (block, stored) in enumerate(zip(f.block, f.stored, strict=True), start=1):
        if block == stored:
            continue
        if axis == 1 and offsets is not None:
            index = repeated(offsets, block, stored)
        else:
            index = np.arange(grid[axis])
            assert stored != "all"  # BlockFormat allows it only where the block is all, too
            index = index * 0 if block == "all" else index * stored // block
        scales = np.take(scales, index, axis=axis)
    return scales


def _stored_rows(q: Quantized) -> NDArray[np.int64] | None:
    """For each row of a tensor the stored scale row that it is under; None where they are the same."""
    tall = q.format.stored[0]
    if tall == 1:
        return None
    rows = q.shape[-2] if len(q.shape) > 1 else 1
    offsets = np.array([0, rows]) if q.offsets is None else check_offsets(q.offsets, q.shape)
    counts = np.diff(offsets)
    firsts = np.concatenate([[0], np.cumsum(group_rows(offsets, tall))])[:-1]
    within = np.arange(rows) - np.repeat(offsets[:-1], counts)
    return np.repeat(firsts, counts) + (0 if tall == "all" else within // tall)


def _scale_blocks(values: NDArray[Any], scales: NDArray[Any], rows: NDArray[np.int64] | None, wide: Extent) -> None:
    """Multiply `values` in place by the scales [batch, row, k] of their blocks."""
    view = values.reshape(scales.shape[0], -1, values.shape[-1])
    width = view.shape[2] if wide == "all" else wide
    if rows is not None:
        scales = np.take(scales, rows, axis=1)
    blocks = view.reshape(view.shape[0], view.shape[1], -1, width)
    np.multiply(blocks, scales[..., None], out=blocks)


def _pairs(name: str) -> NDArray[np.uint64]:
    table = decode_table(name)
    codes = np.arange(256)
    return np.stack([table[codes & 0xF], table[codes >> 4]], axis=-1).view(np.uint64).reshape(-1)
