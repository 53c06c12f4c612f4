"""Units of rows: what each group of rows starts at a multiple of, where something lies along the rows of a group.

Scale blocks along rows (`q : nvfp4[N, M by offsets]`) start anew in each group, and so do the runs of a Hadamard
transform. They lie where they would without groups, because each group starts where a block does: at a multiple of 32
rows, or of the block if that is longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fp4rt import arrays
from fp4rt.arrays import View
from fp4rt.errors import ArgumentError
from fp4rt.typed import TypedKernel

#: The least unit: whole blocks of nvfp4 and of the mx formats, and units of 16 bytes of their codes.
LEAST = 32


@dataclass(frozen=True, slots=True)
class Unit:
    """Of the rows that `source` divides, offsets (`ragged`) or counts: `rows`, for `reason`."""

    source: str
    ragged: bool
    rows: int
    reason: str


def units_of(kernel: TypedKernel) -> Mapping[str, Unit]:
    """The units of a kernel's groups, by the argument that has the offsets or counts; of others there is none."""
    found: dict[str, Unit] = {}

    def add(source: str, size: int, reason: str, *, ragged: bool) -> None:
        rows = max(LEAST, size)
        if source not in found or found[source].rows < rows:
            found[source] = Unit(source, ragged, rows, reason)

    axes = {axis.name: axis for arg in kernel.args for axis in arg.axes if axis.by or axis.upto}
    for arg in kernel.args:
        source = (arg.axes[-1].by or arg.axes[-1].upto) if arg.axes else None
        block = arg.format.block[1] if arg.format is not None else None
        if source is not None and isinstance(block, int):
            reason = f"scale blocks of {arg.name!r} lie along these rows, and start anew in each group"
            add(source, block, reason, ragged=arg.axes[-1].by is not None)
    for value in kernel.values:
        axis, size = axes.get(str(value.attrs.get("axis"))), value.attrs.get("size")
        if value.op == "hadamard" and axis is not None and isinstance(size, int):
            reason = f"runs of {size} of these rows are transformed together"
            add(str(axis.by or axis.upto), size, reason, ragged=axis.by is not None)
    return found


def check_units(units: Mapping[str, Unit], parts: Mapping[str, View]) -> None:
    """ArgumentError FP6112 for a group that starts at, or has, no multiple of its unit, in host memory."""
    for unit in units.values():
        if unit.source not in parts or parts[unit.source].device is not None:
            continue
        values = arrays.to_host(parts[unit.source].array).astype(np.int64)
        wrong = np.flatnonzero(values % unit.rows)
        if wrong.size:
            raise _wrong(unit, int(wrong[0]), values.tolist())


def _wrong(unit: Unit, at: int, values: list[int]) -> ArgumentError:
    last = unit.ragged and at == len(values) - 1
    where = f"the rows of group {at}"
    if unit.ragged:
        where = f"where group {at - 1} ends" if last else f"where group {at} starts"
    padded = at - 1 if unit.ragged else at
    more = -values[at] % unit.rows
    return ArgumentError(
        f"{unit.source}[{at}] = {values[at]}, {where}, is not a multiple of {unit.rows}: {unit.reason}",
        argument=unit.source,
        code="FP6112",
        help=f"fill group {padded} up with {more} rows of zeros, as fp4rt.experts.route(..., align={unit.rows}) does",
    )
