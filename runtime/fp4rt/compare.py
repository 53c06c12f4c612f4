"""Comparing a kernel's outputs with the reference's: how many differ, by how much, and where the first one is.

Floats are compared as bits, except that a NaN equals any NaN (hardware and numpy have different ones). Quantized
outputs are compared as codes, scale bytes (padding included) and tensor scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fp4num import BlockFormat, Quantized, decode, unpack
from fp4rt import arrays
from fp4rt.manifest import Manifest
from fp4rt.typed import TypedKernel

Array: TypeAlias = NDArray[Any]
#: What is expected and found at a place, as text.
Show: TypeAlias = Callable[[tuple[int, ...]], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One buffer against what it should be.

    `wrong` counts the elements further than `allowed` ulp apart, `different` those that differ at all. `first` is the
    coordinate of the first wrong one; `expected` and `found` its bits and value as text. `largest` is the greatest
    distance in ulp (for codes and scales, in steps of the code).

    Of inexact data, `within` places differ no more than the order of additions allows (`fp4rt.bounded`), and for
    `undecided` ones no bound is known, for `reasons`.
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
    within: int = 0
    undecided: int = 0
    reasons: tuple[str, ...] = ()
    distance: Array | None = field(default=None, repr=False, compare=False)
    show: Show | None = field(default=None, repr=False, compare=False)

    @property
    def equal(self) -> bool:
        """Whether nothing is wrong, and nothing undecided."""
        return self.wrong == 0 and self.undecided == 0

    def judged(self, allowed: Array, undecided: Array, reasons: tuple[str, ...]) -> Comparison:
        """The same places, of which some that differ are `allowed` to, and others cannot be judged."""
        if self.distance is None or self.show is None:
            raise ValueError(f"{self.name} has another shape: its places cannot be judged")
        wrong = (self.distance != 0) & ~allowed & ~undecided
        summary = _summary(self.name, self.distance, wrong, self.allowed, self.show)
        counts = int(np.count_nonzero(allowed)), int(np.count_nonzero(undecided))
        return replace(summary, within=counts[0], undecided=counts[1], reasons=reasons if counts[1] else ())

    def __str__(self) -> str:
        if self.undecided and self.wrong == 0:
            return (
                f"{self.name}: {self.undecided} of {self.total} differ, and no bound is known for them, because of "
                f"{'; '.join(self.reasons) or 'an unbounded interval'}"
            )
        if self.within and self.wrong == 0:
            return (
                f"{self.name}: {self.within} of {self.total} elements differ within the bound of their sums, "
                f"the farthest by {self.largest}"
            )
        if self.wrong == 0:
            inside = f", {self.different} within {self.allowed} ulp" if self.different else ""
            return f"{self.name}: {self.total} elements equal{inside}"
        place = f"{self.name}[{', '.join(map(str, self.first or ()))}]"
        limit = f" by more than {self.allowed} ulp" if self.allowed else " by more than they may" if self.within else ""
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
    a, b = codes_in(found, dtype), codes_in(expected, dtype)
    if a.shape != b.shape:
        text = f"shape {b.shape}", f"shape {a.shape}"
        return Comparison(name, max(a.size, b.size), a.size or 1, a.size or 1, ulp, 0, (), *text)
    distance = _distance(a, b, dtype)
    return _summary(name, distance, distance > ulp, ulp, lambda i: (_show(b[i], dtype), _show(a[i], dtype)))


def _compare_quantized(name: str, fmt: BlockFormat, found: Quantized, expected: Quantized) -> list[Comparison]:
    out: list[Comparison] = []
    a, b = (unpack(arrays.to_host(q.codes).view(np.uint8), fmt.bits).reshape(q.shape) for q in (found, expected))
    table = f"{fmt.element}"
    steps = _steps(a, b)
    out.append(_summary(f"{name}.codes", steps, steps > 0, 0, lambda i: (_code(b[i], table), _code(a[i], table))))
    if fmt.scale is not None:
        sa, sb = arrays.to_host(found.scales), arrays.to_host(expected.scales)
        if fmt.scale == "f32":
            out.append(compare_arrays(f"{name}.scales", "f32", sa, sb))
        else:
            out.append(_compare_scale_bytes(name, expected, str(fmt.scale), sa.view(np.uint8), sb.view(np.uint8)))
    if fmt.tensor_scale is not None:
        ta, tb = (arrays.to_host(q.tensor_scale).reshape(fmt.tensor_scale_shape(q.shape)) for q in (found, expected))
        out.append(compare_arrays(f"{name}.tensor_scale", "f32", ta, tb))
    return out


def _compare_scale_bytes(name: str, q: Quantized, scale: str, found: Array, expected: Array) -> Comparison:
    """The whole buffer; the first wrong byte is named by its block (batch, row, k), or as padding."""
    distance = _steps(found, expected)

    def show(place: tuple[int, ...]) -> tuple[str, str]:
        owner = np.argwhere(q.scale_places() == place[0])
        block = "padding" if len(owner) == 0 else "block (batch, row, k) = " + str(tuple(int(x) for x in owner[0]))
        return f"{_code(expected[place], scale)} ({block})", _code(found[place], scale)

    return _summary(f"{name}.scales", distance, distance > 0, 0, show)


def _summary(name: str, distance: Array, wrong: Array, allowed: int, show: Show) -> Comparison:
    count = int(np.count_nonzero(wrong))
    largest = int(distance.max()) if distance.size else 0
    different = int(np.count_nonzero(distance))
    if count == 0:
        return Comparison(name, distance.size, different, 0, allowed, largest, distance=distance, show=show)
    first = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    expected, found = show(first)
    return Comparison(
        name, distance.size, different, count, allowed, largest, first, expected, found, distance=distance, show=show
    )


def codes_in(array: object, dtype: str) -> Array:
    """An array's bits, as unsigned integers of the width of its element type."""
    data = arrays.to_host(array)
    width = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[arrays.ITEM_SIZE[dtype]]
    return np.ascontiguousarray(data).reshape(-1).view(width).reshape(data.shape)


def _distance(a: Array, b: Array, dtype: str) -> Array:
    """Distance in units in the last place; 0 between NaNs, the largest number between a NaN and a number."""
    if dtype in ("i32", "u32", "u64", "bool"):
        return (a != b).astype(np.int64)
    distance = np.abs(ordered(a, dtype) - ordered(b, dtype))
    distance = np.where((distance == 0) & (a != b), 1, distance)  # +0 and -0 are different bytes
    nan = [np.isnan(_values(x, dtype)) for x in (a, b)]
    return np.where(nan[0] & nan[1], 0, np.where(nan[0] | nan[1], 1 << 40, distance))


def ordered(codes: Array, dtype: str) -> Array:
    """Integers in the order of the values that codes stand for, neighbors one apart; zeros of both signs are 0."""
    if dtype in ("i32", "u32", "u64", "bool"):
        return codes.view(np.int32) if dtype == "i32" else codes
    sign = 1 << (arrays.ITEM_SIZE[dtype] * 8 - 1)
    return np.where(codes & sign, -(codes & (sign - 1)).astype(np.int64), codes.astype(np.int64))


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
