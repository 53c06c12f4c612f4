"""Random arguments for a kernel, made so that kernel and reference can be compared with `==`.

A product's sums are exact in f32 in any order: every term of a row is an integer multiple of one power of two, and the
sum of their magnitudes stays below 2^24 of it. Rows get their own powers of two and, for elements of a wide range,
their own window of codes, so that all exponents occur. Operands of products that are added up have one unit in common,
1, so that the whole sum is exact: a kernel may keep it in one accumulator.

Scales cover the whole range of their type: one operand's lie anywhere, by the seed, and the other's as far on the other
side of 1, so that results stay of moderate size; of every four rows about one lies anywhere by itself. Some rows are
special: all zero, of the greatest codes, or with a scale that is a NaN. Of outputs that parts are added to in any order
`fp4rt.unordered` says what is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import BlockFormat, Quantized, decode, encode, pack
from fp4num.elements import element
from fp4num.groups import check_offsets, first_rows
from fp4num.scale_arrays import to_buffer
from fp4rt.among import numbered_rows
from fp4rt.arrays import Input
from fp4rt.errors import DimensionError
from fp4rt.limits import call_bytes, check_memory
from fp4rt.manifest import Manifest
from fp4rt.reference.products import FAST_EXACT, FAST_STEP
from fp4rt.reference.sums import sums
from fp4rt.signature import complete_dims
from fp4rt.typed import Arg, TypedKernel, shape_of
from fp4rt.units import units_of
from fp4rt.unordered import TERMS, Share, old_values, powers, shares, unordered_outputs
from fp4rt.work import argument_of

Generator = np.random.Generator
#: Sums stay below this many units in the last place of the row.
_EXACT = 1 << 24
#: What scales of wide elements reach at least; the largest integer that an element of four bits is.
_SCALES, _FEW = 4, 12
#: Of so many row numbers one says that there is no row.
_NO_ROW = 12
#: Drawing an argument holds this many times its memory: numbers as int64 and float64.
_COPIES = 4
#: How far from their usual place, in powers of two, the scales of an operand may lie, by the type of the scale or, for
#: a plain operand, of the element. What is not here stays.
_REACH = {"e8m0": 118, "e4m3": 5, "f32": 90, "bf16": 100}
#: An f32 scale may be applied after the sum: what the other operand leaves until then must stay in f32's range.
_REACH_BESIDE_F32 = 40
#: How far a single row may lie from the others, up or down, and of how many rows one does.
_WILD, _ONE_OF = 40, 4
#: Exponents of the smallest scale, and of the largest with one significant bit; e4m3's largest has three: 7 * 2^6.
_RANGE = {"e8m0": (-127, 127), "e4m3": (-9, 8), "f32": (-149, 126)}


#: The target that multiplies all operands as bf16, which lacks the ends of an element times an e8m0 scale.
_CONVERTING = "sm_90a"


@dataclass(frozen=True, slots=True)
class Role:
    """How an argument takes part in products: the largest integer that a row may hold (None: in no product), whether
    its unit is 1, how many powers of two it is shifted, and whether element times scale must be held by bf16. `share`:
    in a sum whose parts are added in any order."""

    bound: int | None = None
    aligned: bool = False
    shift: int = 0
    narrow: bool = False
    share: Share | None = None


_NO_PRODUCT = Role()


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
    converts = isinstance(manifest, Manifest) and manifest.target == _CONVERTING
    loose = shares(kernel, unordered_outputs(manifest)) if exact else {}
    roles = _roles(kernel, sizes_of, seed, converts, loose) if exact else {}
    out: dict[str, Any] = {}
    for index, arg in enumerate(kernel.args):
        rng = np.random.default_rng((seed, index))
        shape = shape_of(arg, sizes_of)
        if arg.direction == "param":
            if arg.default is None or not defaults:
                out[arg.name] = (
                    float(powers((), rng))
                    if arg.name in loose
                    else (float(np.float32(rng.uniform(0.5, 2.0))) if arg.dtype == "f32" else int(rng.integers(1, 5)))
                )
        elif arg.direction != "out":
            out[arg.name] = _tensor(kernel, arg, shape, roles.get(arg.name, _NO_PRODUCT), rng, sizes_of)
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
    found = [argument_of(kernel, value.operands[1]) for value in quantizers]
    return {arg.name for arg in found if arg is not None}


def _bounds(kernel: TypedKernel, dims: Mapping[str, int], loose: Mapping[str, Share]) -> dict[str, tuple[int, bool]]:
    """For each operand of a product, the largest integer that an exact row may hold, and whether its unit is 1."""
    out: dict[str, tuple[int, bool]] = {}
    for products in sums(kernel):
        args = [[argument_of(kernel, i) for i in kernel.values[product].operands] for product in products]
        depths = [shape_of(left, dims)[-1] for left, _ in args if left is not None]
        apart = any(arg.name in loose for pair in args for arg in pair if arg is not None)
        bound = max(1, math.isqrt(((TERMS if apart else _EXACT) - 1) // max(1, sum(depths))))
        if any(kernel.values[product].attrs.get("accumulate") == "fast" for product in products):
            bound = min(bound, max(1, math.isqrt((int(FAST_EXACT) - 1) // FAST_STEP)))
        for arg in (arg for pair in args for arg in pair if arg is not None):
            before, aligned = out.get(arg.name, (bound, False))
            out[arg.name] = min(bound, before), aligned or len(products) > 1 or apart
    return out


def _roles(
    kernel: TypedKernel, dims: Mapping[str, int], seed: int, converts: bool, loose: Mapping[str, Share]
) -> dict[str, Role]:
    """The role of each operand of a product, and of what is in a sum of `loose` order."""
    bounds = _bounds(kernel, dims, loose)
    args = {arg.name: arg for arg in kernel.args}
    pairs: list[tuple[str, str]] = []
    for value in kernel.values:
        if value.op == "matmul":
            sides = [argument_of(kernel, i) for i in value.operands]
            pairs.extend([(sides[0].name, sides[1].name)] if sides[0] is not None and sides[1] is not None else [])
    plain = {name for pair in pairs for name in pair if any(args[other].format is None for other in pair)}
    shifts = _shifts(args, pairs, bounds.keys(), seed)
    beside = {name: Role(share=share) for name, share in loose.items() if name not in bounds}
    return beside | {
        name: Role(bound, aligned, shifts.get(name, 0), converts or name in plain, loose.get(name))
        for name, (bound, aligned) in bounds.items()
    }


def _shifts(args: Mapping[str, Arg], pairs: list[tuple[str, str]], names: Iterable[str], seed: int) -> dict[str, int]:
    """Opposite shifts for the two operands of each product; none where one argument would need both."""
    sign: dict[str, int] = {}
    found: dict[str, int] = {}
    for first in names:
        if first in sign:
            continue
        sign[first], group, consistent = 1, [first], True
        for name in group:  # grows while its neighbors are found
            for pair in pairs:
                if name not in pair:
                    continue
                other = pair[1] if pair[0] == name else pair[0]
                if other not in sign:
                    sign[other] = -sign[name]
                    group.append(other)
                consistent = consistent and sign[other] == -sign[name]
        kinds = {str(f.scale if (f := args[name].format) is not None else args[name].dtype) for name in group}
        reach = min((_REACH.get(kind, 0) for kind in kinds), default=0)
        if "f32" in kinds and kinds != {"f32"}:
            reach = min(reach, _REACH_BESIDE_F32)
        shift = int(np.random.default_rng((seed, len(found), 1 << 20)).integers(-reach, reach + 1)) if consistent else 0
        found.update({name: sign[name] * shift for name in group})
    return found


def _tensor(
    kernel: TypedKernel,
    arg: Arg,
    shape: tuple[int, ...],
    role: Role,
    rng: Generator,
    dims: Mapping[str, int],
) -> Any:
    bound = role.bound
    if arg.format is not None:
        return _quantized(arg.format, shape, role, rng)
    found = units_of(kernel).get(arg.name)
    unit = 1 if found is None else found.rows
    for user in kernel.args:  # offsets and counts have a meaning of their own
        for axis, limit in zip(user.axes, shape_of(user, dims), strict=True):
            if axis.by == arg.name:
                cuts = np.sort(rng.integers(0, limit + 1, max(0, shape[0] - 2)))
                cuts -= cuts % unit
                return np.concatenate([[0], cuts, [limit]]).astype(_numpy(arg))[: shape[0]]
            if axis.upto == arg.name:
                counts = rng.integers(0, limit + 1, shape)
                return (counts - counts % unit).astype(_numpy(arg))
    numbered = [each for each in numbered_rows(kernel, dims) if each.arg == arg.name]
    if numbered:
        limit, once = min(each.count for each in numbered), any(each.once for each in numbered)
        return _row_numbers(shape, limit, rng, once=once).astype(_numpy(arg))
    dtype = str(arg.dtype)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype in ("i32", "u32", "u64"):
        high = 1 << 63 if dtype == "u64" else 100
        return rng.integers(0, high, shape).astype(_numpy(arg))
    if bound is not None:
        values = rng.integers(-min(bound, 15), min(bound, 15) + 1, shape).astype(np.float32)
    elif role.share is not None:
        values = old_values(shape, rng) if role.share == "start" else powers(shape, rng)
    else:
        values = rng.standard_normal(shape).astype(np.float32)
    if dtype in ("f32", "bf16"):
        values = np.ldexp(values, role.shift)
    if dtype == "f32":
        return np.asarray(values, np.float32)
    codes = encode(values, dtype)
    return codes.view(np.float16) if dtype == "f16" else codes


def _row_numbers(shape: tuple[int, ...], limit: int, rng: Generator, *, once: bool) -> NDArray[np.int64]:
    """Numbers of rows below the limit, here and there none (-1). Some of them stand there more than once, or, with
    `once`, each at most once."""
    count = math.prod(shape)
    if once:
        found = np.full(count, -1)
        chosen = rng.permutation(limit)[:count]
        found[rng.permutation(count)[: len(chosen)]] = chosen
        found = found.reshape(shape)
    else:
        found = rng.integers(0, limit, shape) if limit else np.full(shape, -1)
    return np.where(rng.integers(0, _NO_ROW, shape) == 0, -1, found)


def _numpy(arg: Arg) -> Any:
    return {"i32": np.int32, "u32": np.uint32, "u64": np.uint64}.get(str(arg.dtype), np.int32)


def _quantized(fmt: BlockFormat, shape: tuple[int, ...], role: Role, rng: Generator) -> Quantized:
    """Random codes and scales; the padding of the scales is what the layout says."""
    try:
        fmt.check_shape(shape)
    except ValueError as error:
        raise DimensionError(str(error)) from error
    columns = int(shape[-1])
    dense = (math.prod(shape[:-2]), math.prod(shape[-2:-1]), columns)
    codes, level, scale_bound = _codes(fmt, dense, role.bound, rng, role.aligned)
    scales: NDArray[Any] = np.empty(0, np.uint8)
    if fmt.scale is not None:
        stored = _scales(fmt, shape, replace(role, bound=scale_bound), level, rng, inside=role.bound is not None)
        _special_rows(fmt, codes, stored, role, rng)
        scales = fmt.layout.to_buffer(stored)
    packed = pack(codes, fmt.bits).reshape(fmt.codes_shape(shape))
    tensor_scale = None if fmt.tensor_scale is None else _tensor_scale(fmt, shape, rng)
    if tensor_scale is not None and role.share is not None:
        tensor_scale = np.asarray(np.abs(powers(tensor_scale.shape, rng)))
    return Quantized(packed, scales, tensor_scale, fmt, shape)


def _tensor_scale(fmt: BlockFormat, shape: tuple[int, ...], rng: Generator) -> NDArray[np.float32]:
    return np.asarray(rng.uniform(0.25, 4.0, fmt.tensor_scale_shape(shape)), np.float32)


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
    role: Role,
    level: NDArray[np.int64],
    rng: Generator,
    inside: bool,
) -> NDArray[Any]:
    """Stored scales [batch, row, k]: for each row of blocks a power of two times integers up to the role's bound.

    The power is such that sums over the last axis are of moderate size, whatever the codes' window (`level`), but for
    the role's shift and for some rows that lie anywhere; with `aligned`, such that the element's smallest step becomes
    1. Rows of operands `inside` products lie so near each other that these stay in f32's range.
    """
    grid = fmt.block_grid(shape)
    bound = min(role.bound or 1, 16)
    depth = round(math.log2(max(1, int(shape[-1]))) / 4)
    tall = 1 if fmt.block[0] == 1 else (level.shape[1] or 1) if fmt.block[0] == "all" else int(fmt.block[0])
    base = rng.integers(-2, 3, grid[:2]) - level[:, ::tall] - depth - bound.bit_length() // 2
    if role.aligned:
        smallest = decode(np.arange(1 << fmt.bits, dtype=np.uint8), fmt.element)
        base[:] = -round(math.log2(float(np.min(smallest[smallest > 0]))))
    else:
        wild = _WILD if inside else _RANGE[str(fmt.scale)][1]
        base = base + np.where(rng.integers(0, _ONE_OF, grid[:2]) == 0, rng.integers(-wild, wild + 1, grid[:2]), 0)
    base = np.clip(base + role.shift, *_powers(fmt, bound, role.narrow or not inside))[..., None]
    factors: NDArray[Any]
    if fmt.scale == "e8m0":
        factors = 1 << rng.integers(0, bound.bit_length(), grid)
    else:
        factors = rng.integers(1, bound + 1, grid)
        if fmt.scale == "e4m3":  # up to 448: an integer of four bits times a power of two is a scale exactly
            factors = np.minimum(factors, np.maximum(1, np.ldexp(448.0, -base).astype(np.int64)))
    scales = np.ldexp(factors.astype(np.float32), base.astype(np.int32)).astype(np.float32)
    codes: NDArray[Any] = scales if fmt.scale == "f32" else encode(scales, str(fmt.scale))
    stored = fmt.scale_grid(shape)
    for axis, (block, part) in enumerate(zip(fmt.block, fmt.stored, strict=True), start=1):
        if block != part:
            index = np.arange(stored[axis])
            index = index * 0 if block == "all" else index * int(part) // int(block)
            codes = np.take(codes, index, axis=axis)
    return codes


def _powers(fmt: BlockFormat, bound: int, narrow: bool) -> tuple[int, int]:
    """Least and greatest power of two of a row of scales; with `narrow`, elements times scales stay finite in f32, and
    multiples of bf16's smallest number."""
    low, high = _RANGE[str(fmt.scale)]
    if fmt.scale == "e4m3":
        return low, high
    high -= bound.bit_length() - 1
    if narrow:
        e = element(fmt.element)
        high = min(high, 128 - e.emax - bound.bit_length())
        low = max(low, -133 - (1 - e.bias - e.mantissa_bits)) if fmt.scale == "e8m0" else low
    return low, high


def _special_rows(fmt: BlockFormat, codes: NDArray[np.uint8], scales: NDArray[Any], role: Role, rng: Generator) -> None:
    """Put a row of zeros of both signs and one of the greatest code into a tensor, and a NaN among its scales.

    One NaN only, and in a part of all calls, so that what is computed over rows is not always NaN.
    """
    batches, rows, columns = codes.shape
    if batches == 0 or rows < 8 or columns == 0:
        return
    e = element(fmt.element)
    zeros = np.array([0, 1 << (fmt.bits - 1)], np.uint8)
    for batch in range(batches):
        codes[batch, int(rng.integers(rows))] = rng.choice(zeros, columns)
    if role.bound is None or (e.bits == 4 and role.bound >= _FEW):
        codes[0, int(rng.integers(rows))] = e.max_code
    if fmt.scale == "e8m0" and rng.integers(0, _ONE_OF) == 0:
        scales[tuple(rng.integers(0, n) for n in scales.shape)] = 0xFF
