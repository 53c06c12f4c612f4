"""What one call may take of this machine: a size out of a hostile manifest must not end the process.

The bounds are the machine's own (its memory) or far above what kernels need, so that nobody meets them by accident.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import cache

from fp4rt.errors import DeviceError
from fp4rt.typed import TypedKernel, shape_of

#: Of a manifest: nesting of its JSON, launches of a plan, plans, and entries of any other list.
MAX_NESTING, MAX_LAUNCHES, MAX_VARIANTS, MAX_ENTRIES = 100, 32, 64, 20_000
#: Sizes with names that a manifest may have.
MAX_SHARED = 256
#: CTAs of a launch that the emulator takes: it runs some ten thousand a minute.
MAX_EMULATED_CTAS = 1 << 20


@cache
def machine_memory() -> int:
    """The bytes of memory of this machine; without knowing them, 64 GiB."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 64 << 30


def check_memory(needed: int, limit: int | None, what: str) -> None:
    """DeviceError FP6120 where `needed` bytes are more than `limit` (None: than this machine has)."""
    allowed = machine_memory() if limit is None else limit
    if needed > allowed:
        raise DeviceError(
            f"{what} needs {needed / 1e9:,.1f} GB, of {allowed / 1e9:,.1f} GB that there are",
            code="FP6120",
            help="call it with smaller sizes, or on a machine with more memory",
        )


class Deadline:
    """A time by which a call has to end; without `seconds` there is none."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds that are left, None for any number."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def check(self, what: str) -> None:
        """DeviceError FP6121 once the time is over."""
        if self._end is not None and time.monotonic() > self._end:
            raise DeviceError(
                f"{what} did not end within {self.seconds:g} s",
                code="FP6121",
                help="call it with smaller sizes, or give the device a larger time_limit",
            )


NO_DEADLINE = Deadline(None)


def call_bytes(kernel: TypedKernel, dims: Mapping[str, int]) -> int:
    """At least the bytes of a call's outputs, of a tensor argument 4 an element at most."""
    total = 0
    for arg in kernel.args:
        elements = 1
        for extent in shape_of(arg, dims):
            elements *= extent
        total += elements if arg.format is not None else 4 * elements
    return total


def interpreted_bytes(kernel: TypedKernel, dims: Mapping[str, int]) -> int:
    """About the bytes that the reference needs: all values as f32, and copies of the largest while it is made."""
    extents: dict[str, int] = {}
    for arg in kernel.args:
        for axis, extent in zip(arg.axes, shape_of(arg, dims), strict=True):
            if axis.name is not None:
                extents[axis.name] = max(extent, extents.get(axis.name, 0))
    total = largest = 0
    for value in kernel.values:
        elements = 1
        for axis in value.axes:
            elements *= max(1, extents.get(axis, dims.get(axis, 1)))
        total += elements
        largest = max(largest, elements)
    return 4 * total + 16 * largest
