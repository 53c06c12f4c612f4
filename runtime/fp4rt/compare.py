"""Comparing a kernel's outputs with the reference's: how many differ, by how much, and where the first one is.

Floats are compared as bits, except that a NaN equals any NaN (hardware and numpy have different ones). Quantized
outputs are compared as codes, scale bytes (padding included) and tensor scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import BlockFormat, Quantized, decode, unpack
from fp4rt import arrays
from fp4rt.manifest import Manifest
from fp4rt.typed import TypedKernel

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One buffer against what it should be.

    `wrong` counts the elements further than `allowed` ulp apart, `different` those that differ at all. `first` is the
    coordinate of the first wrong one; `expected` and `found` its bits and value as text. `largest` is the greatest
    distance in ulp (for codes and scales, in steps of the code).
    """

    name: str
    total: int
    different: int
    wrong: int
    allowed: int
    largest: int
    first: tuple[int, ...] | None = None
    expected: str = ""
    found: str = ""

    @property
    def equal(self) -> bool:
        """Whether nothing is wrong."""
        return self.wrong == 0

    def __str__(self) -> str:
        if self.wrong == 0:
            inside = f", {self.different} within {self.allowed} ulp" if self.different else ""
            return f"{self.name}: {self.total} elements equal{inside}"
        place = f"{self.name}[{', '.join(map(str, self.first or ()))}]"
        limit = f" by more than {self.allowed} ulp" if self.allowed else ""
        return (
            f"{place}: expected {self.expected}, found {self.found}; "
            f"{self.wrong} of {self.total} differ{limit}, the farthest by {self.largest}"
        )


def compare_outputs(
    manifest: Manifest | TypedKernel,
    found: Mapping[str, Any],
    expected: Mapping[str, Any],
    *,
    ulp: Mapping[str, int] | int = 0,
) -> list[Comparison]:
    """Compare each output of a call with the expected ones, buffer by buffer.

    `ulp` is what plain outputs may differ by, for all or by output name; codes and scales may not.
    """
    kernel = manifest.kernel if isinstance(manifest, Manifest) else manifest
    out: list[Comparison] = []
    for arg in kernel.outputs:
        allowed = ulp if isinstance(ulp, int) else ulp.get(arg.name, 0)
        a, b = found[arg.name], expected[arg.name]
        if arg.format is not None:
            out.extend(_compare_quantized(arg.name, arg.format, a, b))
        else:
            out.append(compare_arrays(arg.name, str(arg.dtype), a, b, ulp=allowed))
    return out


def compare_arrays(name: str, dtype: str, found: object, expected: object, *, ulp: int = 0) -> Comparison:
    """Two arrays of an element type of the language (codes or values as the runtime returns them, numpy or torch)."""
    a, b = _codes(found, dtype), _codes(expected, dtype)
    if a.shape != b.shape:
        text = f"shape {b.shape}", f"shape {a.shape}"
        return Comparison(name, max(a.size, b.size), a.size or 1, a.size or 1, ulp, 0, (), *text)
    distance = _distance(a, b, dtype)
    return _summary(name, distance, ulp, lambda i: (_show(b[i], dtype), _show(a[i], dtype)))


def _compare_quantized(name: str, fmt: BlockFormat, found: Quantized, expected: Quantized) -> list[Comparison]:
    out: list[Comparison] = []
    a, b = (unpack(arrays.to_host(q.codes).view(np.uint8), fmt.bits).reshape(q.shape) for q in (found, expected))
    table = f"{fmt.element}"
    out.append(_summary(f"{name}.codes", _steps(a, b), 0, lambda i: (_code(b[i], table), _code(a[i], table))))
    if fmt.scale is not None:
        sa, sb = arrays.to_host(found.scales), arrays.to_host(expected.scales)
        if fmt.scale == "f32":
            out.append(compare_arrays(f"{name}.scales", "f32", sa, sb))
        else:
            out.append(_compare_scale_bytes(name, expected, str(fmt.scale), sa.view(np.uint8), sb.view(np.uint8)))
    if fmt.tensor_scale is not None:
        ta, tb = (arrays.to_host(q.tensor_scale).reshape(()) for q in (found, expected))
        out.append(compare_arrays(f"{name}.tensor_scale", "f32", ta, tb))
    return out


def _compare_scale_bytes(name: str, q: Quantized, scale: str, found: Array, expected: Array) -> Comparison:
    """The whole buffer; the first wrong byte is named by its block (batch, row, k), or as padding."""
    distance = _steps(found, expected)
    summary = _summary(f"{name}.scales", distance, 0, lambda i: (_code(expected[i], scale), _code(found[i], scale)))
    if summary.first is None:
        return summary
    offset = summary.first[0]
    owner = np.argwhere(q.scale_places() == offset)
    place = "padding" if len(owner) == 0 else "block (batch, row, k) = " + str(tuple(int(x) for x in owner[0]))
    return Comparison(
        summary.name,
        summary.total,
        summary.different,
        summary.wrong,
        0,
        summary.largest,
        summary.first,
        f"{summary.expected} ({place})",
        summary.found,
    )


def _summary(name: str, distance: Array, allowed: int, show: Any) -> Comparison:
    wrong = distance > allowed
    count = int(np.count_nonzero(wrong))
    largest = int(distance.max()) if distance.size else 0
    different = int(np.count_nonzero(distance))
    if count == 0:
        return Comparison(name, distance.size, different, 0, allowed, largest)
    first = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    expected, found = show(first)
    return Comparison(name, distance.size, different, count, allowed, largest, first, expected, found)


def _codes(array: object, dtype: str) -> Array:
    data = arrays.to_host(array)
    width = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[arrays.ITEM_SIZE[dtype]]
    return np.ascontiguousarray(data).reshape(-1).view(width).reshape(data.shape)


def _distance(a: Array, b: Array, dtype: str) -> Array:
    """Distance in units in the last place; 0 between NaNs, the largest number between a NaN and a number."""
    if dtype in ("i32", "u32", "u64", "bool"):
        return (a != b).astype(np.int64)
    bits = arrays.ITEM_SIZE[dtype] * 8
    sign = 1 << (bits - 1)
    ordered = [np.where(x & sign, -(x & (sign - 1)).astype(np.int64), x.astype(np.int64)) for x in (a, b)]
    distance = np.abs(ordered[0] - ordered[1])
    distance = np.where((distance == 0) & (a != b), 1, distance)  # +0 and -0 are different bytes
    nan = [np.isnan(_values(x, dtype)) for x in (a, b)]
    return np.where(nan[0] & nan[1], 0, np.where(nan[0] | nan[1], 1 << 40, distance))


def _values(codes: Array, dtype: str) -> Array:
    if dtype == "f32":
        return codes.view(np.float32)
    if dtype == "f16":
        return codes.view(np.float16)
    return decode(codes, dtype)


def _steps(a: Array, b: Array) -> Array:
    return np.abs(a.astype(np.int64) - b.astype(np.int64))


def _code(code: Any, element: str) -> str:
    return f"0x{int(code):02x} ({float(decode(np.asarray(code), element)):g})"


def _show(code: Any, dtype: str) -> str:
    if dtype in ("i32", "u32", "u64", "bool"):
        return str(int(code))
    width = arrays.ITEM_SIZE[dtype] * 2
    value = _values(np.asarray(code).reshape(1), dtype)[0]
    return f"0x{int(code):0{width}x} ({float(value):.9g})"
