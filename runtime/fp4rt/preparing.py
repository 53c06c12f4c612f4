"""Running what is made once of an argument: a call of its own, with the argument and the buffer beside it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fp4num import Quantized
from fp4rt import arrays
from fp4rt.errors import ArgumentError, DeviceError
from fp4rt.plan import prepared_buffer
from fp4rt.resolve import resolve_preparation

if TYPE_CHECKING:
    from fp4rt.kernel import Kernel


def prepare(kernel: Kernel, value: object, named: Mapping[str, object]) -> Quantized:
    """`Kernel.prepare`."""
    arg, given = _which(kernel, value, named)
    if isinstance(given, Quantized):
        given = given.natural()
    try:
        call = kernel.signature.alone(arg, given)
    except ArgumentError as error:
        if error.code == "FP6109" and kernel.executable.memory is not None and arrays.all_on_host([given]):
            return prepare(kernel.on_host(), None, {arg: given})
        raise
    assert isinstance(given, Quantized), "it was checked"
    made = kernel.manifest.prepared_for(arg)
    assert made is not None, "its name was found there"
    plan, size, unfit = resolve_preparation(kernel.manifest, made, call.dims)
    if not getattr(kernel.executable, "launches", True):
        return kernel.preparing.record(arg, given, None, 0)
    _check_capture(call.family, kernel.executable.memory)
    buffer = arrays.empty((size,), "u8", call.family, kernel.executable.memory)
    view = arrays.view(buffer)
    assert view is not None, "it is an array"
    call.parts[prepared_buffer(arg)] = view
    call.written.append(prepared_buffer(arg))
    kernel.executable.bind(call, plan, None)(None)
    count = int(arrays.to_host(buffer[unfit : unfit + 4]).view(np.uint32)[0])
    return kernel.preparing.record(arg, given, buffer, count)


def _which(kernel: Kernel, value: object, named: Mapping[str, object]) -> tuple[str, object]:
    """The argument that is to be prepared, and its value."""
    known = kernel.preparing.arguments
    if not known:
        raise ArgumentError(
            f"{kernel.name} prepares no argument: none of its plans for {kernel.manifest.target} reads one that is",
            code="FP6313",
            help="pass weights as they are; docs/operands.md says what is prepared",
        )
    given: list[tuple[str, Any]] = [*named.items()]
    if value is not None:
        given += [(known[0] if len(known) == 1 else "", value)]
    if len(given) != 1 or not given[0][0]:
        raise ArgumentError(
            f"{kernel.name} prepares {', '.join(known)}, one at a time; {len(given)} values were given",
            code="FP6314",
            help=f"kernel.prepare({known[0]}=...)",
        )
    if given[0][0] not in known:
        raise ArgumentError(
            f"{kernel.name} does not prepare {given[0][0]!r}; it prepares {', '.join(known)}",
            argument=given[0][0],
            code="FP6314",
            help=f"kernel.prepare({known[0]}=...)",
        )
    return given[0]


def _check_capture(family: str, memory: int | None) -> None:
    """DeviceError FP6315 while torch captures a graph: what it makes is looked at, and belongs before the graph."""
    if family == "torch" and memory is not None and sys.modules["torch"].cuda.is_current_stream_capturing():
        raise DeviceError(
            "an argument cannot be prepared while a CUDA graph is captured: the count of rows that fit is looked at",
            code="FP6315",
            help="prepare it before the capture",
        )
