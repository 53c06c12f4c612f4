"""Scales as callers hold them: which shape of an array is which layout, conversion, and bytes that are no scales.

An array is taken as the buffer of a layout only where its shape says so: flat, or, for row-major scales, the grid of
blocks itself. Everything else has to be named, because scales of one layout read as another's are plausible numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import groups, tensors
from fp4num.errors import DataError
from fp4num.formats import BlockFormat
from fp4num.layouts import BLOCKED_128X4, LAYOUTS, ScaleLayout

#: CUTLASS's view of a `blocked_128x4` buffer: scale (row, k, l) is at [row % 32, row / 32 % 4, row / 128, k % 4, k / 4,
#: l]. What lies in memory in that order of modes: [l, row atoms, k atoms, 32, 4, 4].
CUTLASS = "cutlass"
_CUTLASS_MEMORY = (5, 2, 4, 0, 1, 3)

#: The NaN of each type of scale; in e4m3 what lies above it is negative.
_NAN = {"e4m3": 0x7F, "e8m0": 0xFF}

Offsets = groups.Offsets


def count(array: Any) -> int:
    """Elements of an array or tensor."""
    total = 1
    for n in array.shape:
        total *= int(n)
    return total


def buffer_size(f: BlockFormat, shape: Sequence[int], offsets: Any) -> int:
    """Elements of the scale buffer. Of a ragged tensor only the number of groups matters."""
    if offsets is None:
        return f.scales_size(shape)
    return groups.buffer_size(f, shape, int(offsets.shape[0]) - 1)


def places(f: BlockFormat, shape: Sequence[int], offsets: Offsets | None) -> NDArray[np.int64]:
    """Where the scales of blocks lie in the buffer: element offsets [batch, row, k]."""
    if offsets is None:
        return f.layout.offsets(*f.scale_grid(shape))
    return groups.places(f, shape, offsets)


def to_buffer(scales: NDArray[Any], f: BlockFormat, shape: Sequence[int], offsets: Offsets | None) -> NDArray[Any]:
    """The buffer, padding filled, of stored scales [batch, row, k]."""
    out = _filled(buffer_size(f, shape, offsets), f.layout.pad, scales.dtype)
    out[places(f, shape, offsets)] = scales
    return out


def flat(array: Any, f: BlockFormat, shape: tuple[int, ...], offsets: Any) -> Any:
    """An array in the format's own layout as its flat buffer; `DataError` for any shape that does not say so."""
    size = buffer_size(f, shape, offsets)
    found = tuple(int(n) for n in array.shape)
    if found == (size,) or (_row_major(f.layout) and found == _natural(f, shape, offsets)):
        return array.reshape(-1)
    raise DataError(_wrong_shape(f, shape, found, size, offsets))


def converted(array: Any, layout: ScaleLayout | str, f: BlockFormat, shape: tuple[int, ...], offsets: Any) -> Any:
    """A new buffer in the format's layout, padding filled, of scales that lie in `layout`: a layout, its name, or
    "cutlass"."""
    if layout == CUTLASS:
        array, source = _from_cutlass(array, f, shape, offsets), BLOCKED_128X4
    else:
        source = LAYOUTS.get(layout) if isinstance(layout, str) else layout
        if not isinstance(source, ScaleLayout):
            names = ", ".join([*map(repr, LAYOUTS), repr(CUTLASS)])
            raise DataError(f"layout is a ScaleLayout or one of {names}, not {layout!r}")
    there = replace(f, layout=source)
    buffer = flat(array, there, shape, offsets)
    known = None if offsets is None else groups.check_offsets(offsets, shape)
    have, want = places(there, shape, known), places(f, shape, known)
    size = buffer_size(f, shape, offsets)
    return relaid(buffer, have, want, size, f.layout.pad)


def relaid(buffer: Any, have: NDArray[np.int64], want: NDArray[np.int64], size: int, pad: int) -> Any:
    """A new buffer of `size` elements with the scales at `have` of another at `want`, and every other byte `pad`."""
    if not tensors.is_tensor(buffer):
        out = _filled(size, pad, buffer.dtype)
        out[want] = buffer[have]
        return out
    kind = np.dtype(np.uint8 if buffer.element_size() == 1 else np.float32)
    moved = tensors.to_tensor(_filled(size, pad, kind), buffer.device)
    have, want = (tensors.to_tensor(index, buffer.device) for index in (have, want))
    moved[want] = buffer[have]
    return moved


def _filled(size: int, pad: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Elements of which every byte is `pad`."""
    return np.full(size * dtype.itemsize, pad, np.uint8).view(dtype)


def check_bytes(
    buffer: Any, f: BlockFormat, shape: tuple[int, ...], offsets: Any, *, nan_blocks: bool, what: str = "scales"
) -> None:
    """`DataError` for scale bytes in host memory that no block may have, and for NaN in the padding.

    e4m3 block scales are unsigned (PTX's ue4m3: the sign bit is 0) and, unless `nan_blocks`, no NaN. The e8m0 scale
    0xFF is a NaN block by the MX specification. Where a row of blocks ends within an atom, a tensor core multiplies
    zeros by the padding beside it, and zero times NaN is NaN: there it is refused.
    """
    if f.scale not in _NAN or not on_host(buffer):
        return
    nan, data = _NAN[f.scale], np.asarray(buffer)
    bad = data >= nan
    if not bad.any():
        return
    known = None if offsets is None else groups.check_offsets(offsets, shape)
    at = places(f, shape, known)
    where = f"{what} of {f.name}{list(shape)} hold the byte"
    wrong = np.argwhere(data[at] > nan if nan_blocks or f.scale == "e8m0" else bad[at])
    if len(wrong):
        place = tuple(int(i) for i in wrong[0])
        byte = int(data[at[place]])
        number = "NaN" if byte & 0x7F == 0x7F else "negative"
        help = "" if byte >= 0x80 else "; blocks that are NaN on purpose take nan_blocks=True"
        raise DataError(
            f"{where} 0x{byte:02X}, which is {number}, at block (batch, row, k) = {place}: block scales are e4m3 "
            f"numbers of sign 0{help}"
        )
    bad[at] = False
    if f.layout.pad < nan and bad.any():
        first = int(np.argmax(bad))
        raise DataError(
            f"{where} 0x{int(data[first]):02X} in their padding, at element {first}, which would spoil the blocks "
            f"beside it: layout {f.layout.name} has {f.layout.pad} there; layout={f.layout.name!r} makes a clean buffer"
        )


def on_host(array: Any) -> bool:
    """Whether an array's memory is the host's: numpy's, or a torch tensor's on the CPU."""
    return isinstance(array, np.ndarray) or (hasattr(array, "device") and str(array.device) == "cpu")


def _row_major(layout: ScaleLayout) -> bool:
    return layout.atom_size == 1 and layout.order == ("k", "row", "batch")


def _natural(f: BlockFormat, shape: tuple[int, ...], offsets: Any) -> tuple[int, ...]:
    """The shape of row-major scales: the tensor's, with blocks for rows and columns."""
    grid = f.scale_grid(shape)
    if len(shape) == 1:
        return (grid.columns,)
    rows = grid.rows
    if offsets is not None and f.stored[0] != 1:
        rows = int(groups.group_rows(groups.check_offsets(offsets, shape), f.stored[0]).sum())
    return (*shape[:-2], rows, grid.columns)


def _from_cutlass(array: Any, f: BlockFormat, shape: tuple[int, ...], offsets: Any) -> Any:
    grid, atom = f.scale_grid(shape), BLOCKED_128X4
    rows = -(-grid.rows // 128)
    if offsets is not None:
        rows = groups.atom_rows(replace(f, layout=atom), int(shape[-2]), int(offsets.shape[0]) - 1)
    wanted = (32, 4, rows, 4, -(-grid.columns // 4), grid.batches)
    if tuple(array.shape) != wanted:
        raise DataError(
            f"CUTLASS's view of the scales of {f.name}{list(shape)} has the shape {wanted}, not {tuple(array.shape)}"
        )
    permuted = array.transpose(_CUTLASS_MEMORY) if isinstance(array, np.ndarray) else array.permute(_CUTLASS_MEMORY)
    return permuted.reshape(-1)


def _wrong_shape(f: BlockFormat, shape: tuple[int, ...], found: tuple[int, ...], size: int, offsets: Any) -> str:
    """What is wrong, which shape is which layout, and how the array can be given."""
    grid, natural = f.scale_grid(shape), _natural(f, shape, offsets)
    own = f" or of the shape {natural}" if _row_major(f.layout) and len(natural) > 1 else ""
    groups_text = "" if offsets is None else f", each of {int(offsets.shape[0]) - 1} groups from a new atom row on"
    text = (
        f"scales of {f.name}{list(shape)} fill {size} elements in layout {f.layout.name} "
        f"({grid.batches} x {grid.rows} x {grid.columns} blocks{groups_text}): a flat array of {size}{own}, "
        f"not one of shape {found}"
    )
    total = int(np.prod(found, dtype=np.int64))
    if found == natural or found == (int(np.prod(natural, dtype=np.int64)),):
        return (
            f"{text}. That is the shape of row-major scales: pass layout='linear', or lay them out with "
            f"{f.layout.name}'s to_buffer"
        )
    if len(found) == 6 and found[:2] == (32, 4) and found[3] == 4:
        return f"{text}. That looks like CUTLASS's view (32, 4, m, 4, k, l): pass layout='cutlass'"
    if total == size:
        return (
            f"{text}. The shape does not say which layout the elements are in: if they lie in {f.layout.name} already, "
            f"pass scales.reshape(-1); row-major scales have the shape {natural} and take layout='linear'"
        )
    return f"{text}; row-major scales have the shape {natural} and take layout='linear'"
