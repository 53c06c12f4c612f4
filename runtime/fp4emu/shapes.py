"""How registers and masks lie in arrays, decided here for every style of instruction.

A group runs R warps (rows) of 32 lanes. What a register or an operand of an instruction holds has one of three shapes:

- uniform, the same in all lanes of all rows: a Python int or bool, or a numpy floating-point scalar;
- per warp, the same in all lanes of a row: an array [R or 1, 1];
- per lane: an array [R or 1, 32].

A mask, the lanes that execute, is None for all of them or an array [R or 1, 32]. It never has one column: a guard that
is uniform within a warp stands for 32 lanes, each of which executes, and `spread` makes them of it. A result that
differs between the lanes has 32 columns, and only one that the rule calls `per_warp` may have one (`columns`), so that
the kind of a value (`fp4emu.builder`) always says what its array looks like.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Mask = NDArray[np.bool_]

LANES = 32
NO_LANE: Mask = np.zeros((1, LANES), np.bool_)
_WEIGHTS = np.uint64(1) << np.arange(LANES, dtype=np.uint64)


def spread(array: Array) -> Array:
    """[R, 1] or [R, 32] as [R, 32]: a view."""
    return array if array.shape[1] == LANES else np.broadcast_to(array, (array.shape[0], LANES))


def full(mask: Mask | None, rows: int) -> Mask:
    """A mask as an array [rows, 32]."""
    shape = (rows, LANES)
    return np.ones(shape, np.bool_) if mask is None else np.broadcast_to(mask, shape)


def columns(result: Any, rows: int, per_warp: bool) -> Any:
    """The results of a handler, arrays or scalars in any nesting, in the shape of their kind: [rows, 1 or 32]."""
    if isinstance(result, list | tuple):
        return [columns(item, rows, per_warp) for item in result]  # pyright: ignore[reportUnknownVariableType]
    return np.broadcast_to(np.asarray(result), (rows, 1 if per_warp else LANES))


def typed(value: Any, dtype: Any) -> Any:
    """An operand as numbers of an unsigned type: immediates come as Python ints with their sign."""
    if isinstance(value, np.ndarray):
        return value.astype(dtype, copy=False)
    return np.asarray(int(value) & int(np.iinfo(dtype).max), dtype)


def row_of(array: Array, row: int) -> Array:
    """One row, 1 or 32 elements."""
    return array[row if array.shape[0] > 1 else 0]


def words(flags: Mask) -> NDArray[np.uint32]:
    """[R, 32] flags as one word a row: bit i is lane i."""
    return (flags * _WEIGHTS).sum(axis=1).astype(np.uint32)
