"""Comparing a kernel with the reference on ordinary data, whose sums depend on the order of additions.

A place may differ where `fp4rt.reference.bounds` says what else it can be: a float between the ends of its interval,
both rounded to the output's type; the scale of a block between those of the smallest and of the largest magnitudes; a
code between those of its ends under the scale that was found. Everywhere else the bits must be equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fp4num import Quantized, decode, unpack
from fp4rt import arrays, sizes
from fp4rt.compare import Array, Comparison, codes_in, compare_outputs, ordered
from fp4rt.devices.reference import ReferenceExecutable
from fp4rt.reference.interpreter import codes_of
from fp4rt.reference.interval import Interval, same
from fp4rt.reference.quantized import QuantizedRange
from fp4rt.signature import Signature
from fp4rt.typed import Arg, TypedKernel


def compare_within_bounds(
    kernel: TypedKernel,
    found: Mapping[str, Any],
    expected: Mapping[str, Any],
    inputs: Mapping[str, Any],
    unordered: frozenset[str] = frozenset(),
) -> list[Comparison]:
    """`compare_outputs`, and where buffers differ, whether a right kernel may be so far off on these inputs.

    `inputs` are the arguments of the call as they were before it, `unordered` the outputs to which parts of K are added
    in any order. A comparison then has `within`, the places that differ as they may, and `undecided`, those for which
    no bound is known, for its `reasons`.
    """
    plain = compare_outputs(kernel, found, expected)
    if all(c.different == 0 for c in plain):
        return plain
    call = Signature(kernel, None).inputs(dict(inputs))
    known = ReferenceExecutable(kernel).ranges(call, unordered)
    out: list[Comparison] = []
    for arg in kernel.outputs:
        mine = [c for c in plain if c.name == arg.name or c.name.startswith(f"{arg.name}.")]
        what = known[arg.name]
        if what is None or all(c.different == 0 for c in mine):
            out.extend(mine)
        elif isinstance(what, Interval):
            out.append(_plain(arg, mine[0], what, found[arg.name], call.dims))
        else:
            out.extend(_quantized(mine, what, found[arg.name], expected[arg.name]))
    return out


def _plain(arg: Arg, plain: Comparison, known: Interval, found: Any, dims: Mapping[str, int]) -> Comparison:
    dtype = str(arg.dtype)
    shape = tuple(int(sizes.evaluate(x.extent, dims)) for x in arg.axes)
    axes = tuple(x.name or str(i) for i, x in enumerate(arg.axes))
    low, high = (np.broadcast_to(end, shape) for end in known.align(axes))
    ours = codes_in(found, dtype)
    if plain.distance is None or ours.shape != shape:
        return plain
    least, most = (codes_in(codes_of(end, dtype), dtype) for end in (low, high))
    value, bottom, top = (ordered(codes, dtype) for codes in (ours, least, most))
    inside = ~same(low, high) & (value >= bottom) & (value <= top)
    unknown = (low == -np.inf) & (high == np.inf)
    return _judged(plain, inside, unknown, known.reasons)


def _quantized(
    plain: list[Comparison], known: QuantizedRange, found: Quantized, expected: Quantized
) -> list[Comparison]:
    """Of each buffer; the tensor scale is known to the bit."""
    low, high = known.ends
    unknown, reasons = (low == -np.inf) & (high == np.inf), known.x.reasons
    refused = known.refused if known.value.op == "quantize" else known.value.op
    if refused is not None:
        return [_judged(c, None, np.asarray(True), (*reasons, refused)) for c in plain]
    blocks_unknown = bool(unknown.any())
    out: list[Comparison] = []
    for comparison in plain:
        ours, theirs = _parts(comparison, found, expected)
        if ours.shape != theirs.shape:
            out.append(comparison)
        elif comparison.name.endswith(".codes"):
            inside = _codes_inside(known, found, ours)
            out.append(_judged(comparison, inside, unknown, reasons))
        elif comparison.name.endswith(".scales"):
            inside = _scales_inside(known, ours)
            out.append(_judged(comparison, inside, np.asarray(blocks_unknown), reasons))
        else:
            out.append(comparison)
    return out


def _parts(comparison: Comparison, *values: Quantized) -> tuple[Array, ...]:
    """The buffer that a comparison is of: codes one a byte, or scales as unsigned integers."""
    fmt, part = values[0].format, comparison.name.rpartition(".")[2]
    if part == "codes":
        return tuple(unpack(arrays.to_host(q.codes).view(np.uint8), fmt.bits).reshape(q.shape) for q in values)
    width = np.uint32 if part == "tensor_scale" or fmt.scale == "f32" else np.uint8
    held = (q.tensor_scale if part == "tensor_scale" else q.scales for q in values)
    return tuple(np.ascontiguousarray(arrays.to_host(x)).reshape(-1).view(width) for x in held)


def _scales_inside(known: QuantizedRange, found: Array) -> Array:
    """Between the scales of the least and of the greatest magnitudes; bytes and bits of scales order as these do."""
    bottom, top = (np.ascontiguousarray(q.scales).view(found.dtype) for q in known.of_extremes())
    return (found >= bottom) & (found <= top)


def _codes_inside(known: QuantizedRange, found: Quantized, codes: Array) -> Array:
    """Between the codes of both ends under the scales that were found."""
    host = replace(found, codes=arrays.to_host(found.codes), scales=arrays.to_host(found.scales))
    bottom, top = known.codes_of_ends(host)
    low, high, value = (decode(x, found.format.element) for x in (bottom, top, codes))
    # Zeros of both signs are inside only where the ends are such zeros.
    return ((value >= low) & (value <= high) & (bottom != top)) | (codes == bottom)


def _judged(plain: Comparison, inside: Array | None, unknown: Array, reasons: tuple[str, ...]) -> Comparison:
    """A comparison with the places that may differ taken out of the wrong ones."""
    if plain.distance is None:
        return plain
    differs = plain.distance != 0
    open_ = np.broadcast_to(unknown, differs.shape) & differs
    allowed = (np.zeros_like(differs) if inside is None else np.broadcast_to(inside, differs.shape)) & differs & ~open_
    return plain.judged(allowed, open_, reasons)
