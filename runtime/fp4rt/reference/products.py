"""Products: what they contract, their sums in f64, and which of these are exact in f32 in every order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fp4num import Quantized, operand_values
from fp4rt.reference.tensor import Array, Gathered, Tensor, Turned
from fp4rt.typed import Value

Factor: TypeAlias = "Tensor | Quantized | Turned | Gathered"
Wide: TypeAlias = NDArray[np.float64]
N = TypeVar("N", bound=np.generic)

#: An f32 sum is exact while it is a multiple of one unit and below this many of it, and no unit is below 2^-149.
_SIGNIFICANT, _LOWEST, _HIGHEST = 2.0**24, -149, 2.0**128
#: Sums of `accumulate = fast` (docs/numerics.md): within each `FAST_STEP` along K a multiple of one unit is exact below
#: FAST_EXACT of it, and all that is lost of them is within `FAST_LOSS` of the sum of the terms' magnitudes.
FAST_STEP, FAST_EXACT = 128, 2.0**13
FAST_LOSS = FAST_STEP // 32 * (32 + 2) / FAST_EXACT
_NOTHING = 1 << 12  # the unit's exponent of a row of zeros


@dataclass(frozen=True, slots=True)
class Terms:
    """The factors of a product: `left` [.., m, k] and `right` [.., k, n], in the order of the result's axes.

    With `rows`, the first row of each group and the number of rows, `right` is [group, k, n]: rows of group e meet
    `right[e]`. With `apart`, the results of groups one after the other, each has the terms of its own part of K, and
    nothing of `left` and `right` besides counts.
    """

    left: Wide
    right: Wide
    rows: NDArray[np.int64] | None = None
    apart: tuple[Terms, ...] | None = None

    @property
    def depth(self) -> int:
        """Terms of a sum."""
        return self.left.shape[-1]

    def sums(self) -> Wide:
        """[.., m, n] in f64, not rounded further."""
        with np.errstate(all="ignore"):
            if self.apart is not None:
                return self._each(Terms.sums)
            if self.rows is None:
                return np.matmul(self.left, self.right)
            out = np.zeros((self.left.shape[0], self.right.shape[2]), np.float64)
            for e in range(self.right.shape[0]):
                rows = slice(int(self.rows[e]), int(self.rows[e + 1]))
                out[rows] = self.left[rows] @ self.right[e]
            return out

    def magnitudes(self) -> Wide:
        """The sums of the terms' magnitudes."""
        if self.apart is not None:
            return self._each(Terms.magnitudes)
        return Terms(np.abs(self.left), np.abs(self.right), self.rows).sums()

    def units(self) -> NDArray[np.int64]:
        """An exponent for each sum, [.., m, n]: all its terms are multiples of 2^that."""
        if self.apart is not None:
            return self._each(Terms.units)
        left, right = _unit(self.left, -1), _unit(self.right, -2)
        if self.rows is not None:
            lengths = np.diff(self.rows)
            spread = np.full((left.shape[0], right.shape[1]), _NOTHING)
            spread[int(self.rows[0]) : int(self.rows[-1])] = np.repeat(right, lengths, axis=0)
            return left[:, None] + spread
        return left[..., :, None] + right[..., None, :]

    def _each(self, of: Callable[[Terms], NDArray[N]]) -> NDArray[N]:
        """What is there for each group, together."""
        found = [of(part) for part in self.apart or ()]
        return np.stack(found) if found else of(replace(self, apart=None))[None][:0]


def fast_exact(parts: list[Terms]) -> NDArray[np.bool_]:
    """Where sums are exact within `FAST_EXACT` units, whatever is added first within each `FAST_STEP` along K."""
    found: NDArray[np.bool_] | None = None
    for part in parts:
        limit = np.ldexp(FAST_EXACT, np.clip(part.units(), -400, 400).astype(np.int32))
        for first in range(0, part.depth, FAST_STEP):
            chunk = slice(first, first + FAST_STEP)
            small = Terms(part.left[..., chunk], part.right[..., chunk, :], part.rows).magnitudes() <= limit
            found = small if found is None else found & small
    return np.asarray(True) if found is None else found


def terms(a: Factor, b: Factor, value: Value, arrays: Mapping[str, Any]) -> Terms:
    """The factors of a `matmul`. Batch axes are the result's others; over an axis that one lacks it repeats."""
    axes, attrs = value.axes, value.attrs
    m, n = axes[-2], axes[-1]
    left, right = _decoded(a, beside=b), _decoded(b, beside=a)
    k = str(attrs.get("k") or (right.axes[-2] if left.axes[-1].startswith("axis") else left.axes[-1]))
    left, right = _named(left, axes, k), _named(right, axes, k)
    ragged = attrs.get("ragged")
    if ragged is not None:
        groups = str(attrs["groups"])
        rows = np.asarray(arrays[str(ragged)]).astype(np.int64)
        return Terms(_f64(left.align((m, k))), _f64(right.align((groups, k, n))), rows)
    batch = axes[:-2]
    if "contracted" in attrs:
        return _apart(left, right, (m, k, n), str(attrs["groups"]), np.asarray(arrays[str(attrs["contracted"])]))
    return Terms(_f64(left.align((*batch, m, k))), _f64(right.align((*batch, k, n))))


def _apart(left: Tensor, right: Tensor, axes: tuple[str, str, str], groups: str, given: Array) -> Terms:
    """The factors of a product over rows in groups: each group's are its rows. `given` are their offsets or counts."""
    m, k, n = axes
    batched = groups in left.axes or groups in right.axes
    whole = Terms(_f64(left.align((groups, m, k))), _f64(right.align((groups, k, n))))
    ends = given.astype(np.int64)
    ranges = [(0, end) for end in ends] if batched else list(pairwise(ends))
    parts: list[Terms] = []
    for e, (first, end) in enumerate(ranges):
        a, b = (x[e if len(x) > 1 else 0] for x in (whole.left, whole.right))
        parts.append(Terms(a[:, first:end], b[first:end]))
    left_one, right_one = (x[0] if len(x) else np.zeros(x.shape[1:]) for x in (whole.left, whole.right))
    return Terms(left_one, right_one, apart=tuple(parts))


def exact(parts: list[Terms], magnitudes: Wide) -> NDArray[np.bool_]:
    """Where the sum of these products, whose terms' magnitudes add up to `magnitudes`, is exact in f32 in any order.

    A sum with an infinity or a NaN among its terms counts as exact: no order changes what it is.
    """
    unit = parts[0].units()
    for part in parts[1:]:
        unit = np.minimum(unit, part.units())
    with np.errstate(all="ignore"):
        small = magnitudes <= np.ldexp(_SIGNIFICANT, np.clip(unit, -400, 400).astype(np.int32))
    fits = small & (unit >= _LOWEST) & (magnitudes < _HIGHEST)
    return fits | ~np.isfinite(magnitudes)


def _decoded(operand: Factor, beside: Factor) -> Tensor:
    """A quantized operand as element * block scale, without its tensor scale (the IR applies that).

    Beside another quantized operand nothing is rounded; beside a plain one an element times an e8m0 scale is an f32, so
    infinite from 2^128 on.
    """
    if isinstance(operand, Turned):
        return _decoded(operand.value, beside).renamed(operand.stored_axes).swap_last()
    if isinstance(operand, Gathered):
        return operand.of(_decoded(operand.value, beside).data)
    if isinstance(operand, Quantized):
        data: Array = operand_values(operand)
        if isinstance(beside, Tensor) and operand.format.scale == "e8m0":
            with np.errstate(over="ignore"):
                data = data.astype(np.float32)
        return Tensor(data, tuple(f"axis{i}" for i in range(len(operand.shape))))
    return operand


def _named(t: Tensor, axes: tuple[str, ...], k: str) -> Tensor:
    """A decoded left operand has no names yet: it is [batch.., m, k]."""
    if not t.axes[-1].startswith("axis"):
        return t
    batch = axes[: len(axes) - 2][len(axes) - len(t.axes) :]
    return Tensor(t.data, (*batch, axes[-2], k))


def _f64(x: Array) -> Wide:
    return x.astype(np.float64, copy=False)


def _unit(x: Wide, axis: int) -> NDArray[np.int64]:
    """The exponent of the lowest set bit of all numbers along an axis."""
    mantissa, exponent = np.frexp(np.where(np.isfinite(x), x, 0.0))
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    _, lowest = np.frexp((whole & -whole).astype(np.float64))
    return np.where(whole == 0, _NOTHING, exponent.astype(np.int64) - 54 + lowest).min(axis=axis, initial=_NOTHING)
