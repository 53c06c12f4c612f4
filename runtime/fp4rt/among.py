"""The checks of arguments against each other: memory that they share, and rows that others divide into groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fp4rt import arrays, sizes
from fp4rt.arrays import View
from fp4rt.errors import ArgumentError
from fp4rt.typed import Arg, TypedKernel, shape_of


def check_groups(arg: Arg, parts: Mapping[str, View], dims: Mapping[str, int]) -> None:
    """Offsets and counts in host memory are checked; those on a device are the caller's word (a check would wait)."""
    for axis, limit in zip(arg.axes, shape_of(arg, dims), strict=True):
        source = axis.by or axis.upto
        if source is None or source not in parts or parts[source].device is not None:
            continue
        values = arrays.to_host(parts[source].array).astype(np.int64)
        if axis.by is not None:
            good = values.size > 0 and values[0] == 0 and values[-1] == limit and bool(np.all(np.diff(values) >= 0))
            rule = f"start at 0, not decrease, and end at {sizes.text(axis.extent)} = {limit}"
        else:
            good = bool(np.all((values >= 0) & (values <= limit)))
            rule = f"be within 0 and {sizes.text(axis.extent)} = {limit}"
        if not good:
            raise ArgumentError(
                f"{source!r} must {rule} (it divides {arg.name!r}): {values.tolist()[:16]}",
                argument=source,
                code="FP6112",
            )


@dataclass(frozen=True, slots=True)
class Numbers:
    """An argument that numbers rows of another, of which there are `count`; `once`: each at most once, as they are
    written."""

    arg: str
    source: str
    count: int
    once: bool


def numbers_rows(kernel: TypedKernel) -> bool:
    """Whether some argument numbers rows of another."""
    return any(value.op == "gather" for value in kernel.values) or any(s.at is not None for s in kernel.stores)


def numbered_rows(kernel: TypedKernel, dims: Mapping[str, int]) -> list[Numbers]:
    """The arguments that number rows of others."""
    pairs: list[tuple[object, object, bool]] = []
    for value in kernel.values:
        if value.op == "gather":
            x, rows = (kernel.values[operand].attrs["name"] for operand in value.operands)
            pairs.append((rows, x, False))
    pairs += [(kernel.values[s.at].attrs["name"], s.arg, True) for s in kernel.stores if s.at is not None]
    return [
        Numbers(str(rows), str(x), shape_of(kernel.arg(str(x)), dims)[0], once)
        for rows, x, once in dict.fromkeys(pairs)
    ]


def check_row_numbers(kernel: TypedKernel, parts: Mapping[str, View], dims: Mapping[str, int]) -> None:
    """Row numbers in host memory are checked; of those on a device one that is no row's means what -1 does."""
    for each in numbered_rows(kernel, dims):
        view = parts.get(each.arg)
        if view is None or view.device is not None or not view.nbytes:
            continue
        numbers = _used(kernel.arg(each.arg), arrays.to_host(view.array).astype(np.int64), parts)
        if not numbers.size:
            continue
        least, most = int(numbers.min()), int(numbers.max())
        if least < -1 or most >= each.count:
            raise ArgumentError(
                f"{each.arg!r} numbers rows of {each.source!r}, which has {each.count}: "
                f"it has {least if least < -1 else most}",
                argument=each.arg,
                code="FP6330",
                help=f"numbers are 0 to {each.count - 1}, or -1 for no row" if each.count else "no row: all are -1",
            )
        rows, found = np.unique(numbers[numbers >= 0], return_counts=True)
        if each.once and (found > 1).any():
            raise ArgumentError(
                f"{each.arg!r} has the row {int(rows[found > 1][0])} of {each.source!r} "
                f"{int(found[found > 1][0])} times",
                argument=each.arg,
                code="FP6331",
                help="rows are stored in no order: list each at most once, -1 where there is none",
            )


def _used(arg: Arg, numbers: NDArray[np.int64], parts: Mapping[str, View]) -> NDArray[np.int64]:
    """The numbers that count: those past a masked row's count may be anything."""
    last = arg.axes[-1]
    counts = None if last.upto is None else parts.get(last.upto)
    if counts is None or counts.device is not None or numbers.ndim < 2:
        return numbers
    rows = np.arange(numbers.shape[-1])[None, :] < arrays.to_host(counts.array).astype(np.int64)[:, None]
    return numbers[np.broadcast_to(rows, numbers.shape)]


def check_overlaps(parts: Mapping[str, View], written: Iterable[str]) -> None:
    """ArgumentError FP6107 where a buffer the kernel writes shares memory with any other."""
    spans = [(name, v.address, v.address + v.nbytes) for name, v in parts.items() if v.nbytes]
    for name in written:
        out = parts[name]
        start, end = out.address, out.address + out.nbytes
        for other, low, high in spans:
            if start < high and low < end and other != name:
                ours, theirs = (each.removeprefix(".") for each in (name, other))  # the workspace's name has a dot
                raise ArgumentError(
                    f"output {ours!r} overlaps {theirs!r} in memory",
                    argument=ours,
                    code="FP6107",
                    help="give the output its own memory; only an `inout` argument is read and written in place",
                )
