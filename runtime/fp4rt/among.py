"""The checks of arguments against each other: memory that they share, and rows that others divide into groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fp4rt import arrays, sizes
from fp4rt.arrays import View
from fp4rt.errors import ArgumentError
from fp4rt.typed import Arg, shape_of


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
