"""Ragged tensors: rows in groups, of which each starts a new row of atoms in the scale buffer.

`offsets` [E + 1] has the first row of each group and, at the end, the number of rows. Group e's scales start at atom
row sum(ceil(count / R)) over the groups before it, R being the tensor rows that one row of atoms covers. The buffer has
floor(T / R) + min(E, T) rows of atoms for T rows: no less holds every way to divide them, and it does not depend on
the offsets, which may be known on a device alone. Where R is 1 that is the plain layout: T rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num.errors import DataError
from fp4num.formats import BlockFormat, Extent

Offsets = NDArray[np.int64]


def check_offsets(offsets: Any, shape: Sequence[int]) -> Offsets:
    """Offsets (numpy's, torch's, or a list) as int64; `DataError` unless they divide the rows of `shape`."""
    if len(shape) < 2:
        raise DataError(f"offsets divide the rows of a tensor of two axes or more, not of one of shape {list(shape)}")
    rows = int(shape[-2])
    values = np.asarray(offsets.detach().cpu() if hasattr(offsets, "detach") else offsets)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise DataError(f"offsets are integers [groups + 1], not {values.dtype.name} of shape {values.shape}")
    values = values.astype(np.int64)
    if not values.size or values[0] != 0 or values[-1] != rows or (np.diff(values) < 0).any():
        raise DataError(
            f"offsets start at 0, do not decrease and end at the number of rows, {rows}: {values.tolist()[:16]}"
        )
    return values


def group_rows(offsets: Offsets, tall: Extent) -> NDArray[np.int64]:
    """Block rows of each group for blocks of `tall` tensor rows: blocks do not reach over groups."""
    counts = np.diff(offsets)
    return np.ones_like(counts) if tall == "all" else -(-counts // tall)


def atom_rows(fmt: BlockFormat, rows: int, groups: int) -> int:
    """Rows of atoms that the scale buffer of `rows` rows in any `groups` groups has."""
    tall = fmt.stored[0]
    if tall == "all":
        return groups
    covered = fmt.layout.extent("row") * tall
    return rows if covered == 1 else rows // covered + min(groups, rows)


def buffer_size(fmt: BlockFormat, shape: Sequence[int], groups: int) -> int:
    """Elements of the scale buffer of a tensor whose rows are in `groups` groups; 0 without scales."""
    if fmt.scale is None:
        return 0
    grid = fmt.scale_grid(shape)
    return fmt.layout.size(grid.batches, _padded(fmt, shape, groups), grid.columns)


def places(fmt: BlockFormat, shape: Sequence[int], offsets: Offsets) -> NDArray[np.int64]:
    """Where the scales lie: element offsets [batch, row, k], the groups' stored scale rows one after another."""
    grid = fmt.scale_grid(shape)
    extent = fmt.layout.extent("row")
    counts = group_rows(offsets, fmt.stored[0])
    starts = np.concatenate([[0], np.cumsum(-(-counts // extent) * extent)])
    rows = [np.arange(start, start + count) for start, count in zip(starts, counts, strict=False)]
    padded = _padded(fmt, shape, len(counts))
    every = fmt.layout.offsets(grid.batches, padded, grid.columns)
    return every[:, np.concatenate(rows or [np.empty(0, np.int64)]), :]


def repeated(offsets: Offsets, block: Extent, stored: Extent) -> NDArray[np.int64]:
    """For each stored scale row the block row that it is of."""
    firsts = np.concatenate([[0], np.cumsum(group_rows(offsets, block))])
    out = [np.empty(0, np.int64)]
    for first, count in zip(firsts, group_rows(offsets, stored), strict=False):
        index = np.arange(count)
        assert stored != "all" or block == "all"  # BlockFormat allows no other
        out.append(first + (index * 0 if block == "all" or stored == "all" else index * stored // block))
    return np.concatenate(out)


def first_rows(offsets: Offsets, tall: Extent) -> NDArray[np.int64]:
    """The first tensor row of each block row; that of a group without rows is the next group's."""
    out = [np.empty(0, np.int64)]
    for (low, _), count in zip(pairwise(offsets), group_rows(offsets, tall), strict=True):
        out.append(low + np.arange(count) * (1 if tall == "all" else tall))
    return np.concatenate(out)


def _padded(fmt: BlockFormat, shape: Sequence[int], groups: int) -> int:
    return atom_rows(fmt, int(shape[-2]), groups) * fmt.layout.extent("row")
