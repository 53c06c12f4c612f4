"""Registers of a group: their kinds, and their rows, taken apart when rows leave and put together when groups meet."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.errors import Fault
from fp4emu.values import canonical16, canonical32, canonical64

_REP = {"I": "u", "L": "u", "Q": "u", "H": "u", "B": "u", "f": "f", "d": "f", "e": "f", "?": "b"}


def kind_of(value: Any) -> Any:
    """The run-time kind of a register's value (`Builder.load`)."""
    if value is None:
        return None
    kind = type(value)
    if kind is int:
        return "Uu"
    if kind is np.ndarray:
        return ("W" if value.shape[1] == 1 else "V") + _REP[value.dtype.char]
    if kind is bool:
        return "Ub"
    if kind is tuple:
        return ("P", kind_of(value[0]), kind_of(value[1]))
    return "Uf"


def rows_of(value: Any, rows: NDArray[np.intp], single: bool) -> Any:
    """A register for some of the rows; what one row holds in all its lanes becomes a number."""
    if type(value) is np.ndarray:
        part = value if value.shape[0] == 1 else value[rows]
        if single and part.shape[1] == 1:
            return part[0, 0] if part.dtype.kind == "f" else part[0, 0].item()
        return part
    if type(value) is tuple:
        return tuple(rows_of(item, rows, single) for item in value)
    return value


_BITS_OF = {16: canonical16, 32: canonical32, 64: canonical64}
_DTYPES = {1: np.bool_, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


def concatenate(parts: list[Any], sizes: list[int], bits: int) -> Any:
    """One register of several groups, row after row."""
    kinds = {type(part) for part in parts if part is not None}
    if not kinds:
        return None
    if kinds == {int} or kinds == {bool}:
        first = next(part for part in parts if part is not None)
        if all(part is None or part == first for part in parts):
            return first
    if tuple in kinds:
        if kinds == {tuple}:
            return tuple(concatenate([part and part[i] for part in parts], sizes, bits // 2) for i in (0, 1))
        parts = [_unpaired(part, bits) for part in parts]
    arrays: list[NDArray[Any]] = []
    for part in parts:
        array = part if isinstance(part, np.ndarray) else np.array([[0 if part is None else part]])
        if array.dtype.kind == "f" and any(
            isinstance(p, int) or getattr(p, "dtype", np.dtype("f4")).kind != "f" for p in parts if p is not None
        ):
            array = _BITS_OF[bits](array)
        arrays.append(array)
    floating = all(array.dtype.kind == "f" for array in arrays)
    dtype = arrays[0].dtype if floating else _DTYPES[bits]
    lanes = max(array.shape[1] for array in arrays)
    return np.concatenate(
        [
            np.broadcast_to(array.astype(dtype, copy=False), (size, lanes))
            for array, size in zip(arrays, sizes, strict=True)
        ]
    )


def _unpaired(value: Any, bits: int) -> Any:
    """A 64-bit pair as one value."""
    if not isinstance(value, tuple):
        return value
    halves = [canonical32(half) if getattr(half, "dtype", np.dtype("u4")).kind == "f" else half for half in value]
    if bits != 64:
        raise Fault("128-bit registers of groups that differ cannot be merged")
    wide = [np.asarray(half, np.uint64) for half in halves]
    joined = wide[0] | (wide[1] << np.uint64(32))
    return joined if joined.ndim else int(joined)
