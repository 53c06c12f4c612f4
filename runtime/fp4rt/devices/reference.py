"""The device "reference": interprets the typed kernel in numpy. Runs any artifact, compiled or not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fp4num import Quantized
from fp4rt import arrays
from fp4rt.errors import DeviceError
from fp4rt.limits import Deadline, check_memory, interpreted_bytes
from fp4rt.reference import Environment, Tensor, evaluate
from fp4rt.reference.bounds import Range, ranges
from fp4rt.reference.interpreter import Operand, codes_of, unused_rows
from fp4rt.typed import shape_of

if TYPE_CHECKING:
    from fp4rt.artifact import Artifact
    from fp4rt.devices.base import Launcher
    from fp4rt.resolve import Resolved
    from fp4rt.signature import Call
    from fp4rt.typed import Arg, TypedKernel


class ReferenceDevice:
    """Numpy on this machine's CPU.

    `memory_limit` is the bytes that a call may take (None: what the machine has), `time_limit` the seconds (None: any).
    Beyond them, a call ends with DeviceError FP6120 or FP6121.
    """

    name = "reference"

    def __init__(
        self, ordinal: int | None = None, *, memory_limit: int | None = None, time_limit: float | None = None
    ) -> None:
        if ordinal:
            raise DeviceError(f"there is one reference device, not reference:{ordinal}", code="FP6301")
        self.memory_limit = memory_limit
        self.time_limit = time_limit

    def supports(self, target: str) -> bool:
        """Every target: only the typed kernel is read."""
        return True

    def load(self, artifact: Artifact) -> ReferenceExecutable:
        """Nothing to prepare."""
        return ReferenceExecutable(artifact.manifest.kernel, self)


class ReferenceExecutable:
    """A typed kernel, ready to be interpreted."""

    memory: int | None = None
    #: Of a plan nothing is run.
    launches = False

    def __init__(self, kernel: TypedKernel, device: ReferenceDevice | None = None) -> None:
        self._kernel = kernel
        self._device = device or ReferenceDevice()

    def allocating(self, call: Call, stream: object | None) -> AbstractContextManager[object]:
        """Host memory needs no care."""
        return nullcontext()

    def bind(self, call: Call, plan: Resolved, stream: object | None) -> Launcher:
        """A launcher that evaluates the kernel each time; streams mean nothing here."""
        return lambda _stream: self._run(call)

    def ranges(self, call: Call, unordered: frozenset[str] = frozenset()) -> dict[str, Range | None]:
        """For each output of a call what else a right kernel may give there (`fp4rt.reference.bounds`).

        `unordered`: the outputs to which parts of K are added in any order.
        """
        environment = self._environment(call)
        known = ranges(self._kernel, environment, evaluate(self._kernel, environment), unordered)
        return {store.arg: known[store.value] if store.at is None else None for store in self._kernel.stores}

    def _environment(self, call: Call) -> Environment:
        held = {a.name: self._argument(call, a) for a in self._kernel.args if a.direction in ("in", "inout")}
        groups = {x.name: x.by for a in self._kernel.args for x in a.axes if x.name is not None and x.by is not None}
        masks = {
            x.name: (x.upto, str(self._kernel.arg(x.upto).axes[0].name))
            for a in self._kernel.args for x in a.axes if x.name is not None and x.upto is not None
        }  # fmt: skip
        return Environment(call.dims, call.scalars, held, groups, masks)

    def _run(self, call: Call) -> None:
        what = f"interpreting {self._kernel.name}"
        check_memory(interpreted_bytes(self._kernel, call.dims), self._device.memory_limit, what)
        environment = self._environment(call)
        values = evaluate(self._kernel, environment, Deadline(self._device.time_limit))
        for store in self._kernel.stores:
            arg = self._kernel.arg(store.arg)
            if store.at is not None:
                _store_rows(call, arg, values[store.value], values[store.at], environment)
                continue
            axes = tuple(x.name or str(i) for i, x in enumerate(arg.axes))
            kept = _Kept.of(call, arg, unused_rows(axes, shape_of(arg, call.dims), environment))
            _store(call, arg, values[store.value])
            if kept is not None:
                kept.restore()

    def _argument(self, call: Call, arg: Arg) -> Any:
        if arg.format is None:
            return _typed(call, arg.name, str(arg.dtype))
        codes = _typed(call, f"{arg.name}.codes", "u8")
        fmt = arg.format
        scales = np.empty(0, np.uint8)
        if fmt.scale is not None:
            scales = _typed(call, f"{arg.name}.scales", "f32" if fmt.scale == "f32" else "u8")
        shape, tensor_scale = shape_of(arg, call.dims), None
        if fmt.tensor_scale is not None:
            tensor_scale = _typed(call, f"{arg.name}.tensor_scale", "f32").reshape(fmt.tensor_scale_shape(shape))
        by = arg.axes[-2].by if len(arg.axes) > 1 else None
        offsets = None if by is None else _typed(call, by, "i32")
        return Quantized(codes.reshape(fmt.codes_shape(shape)), scales, tensor_scale, fmt, shape, offsets)


def _typed(call: Call, name: str, dtype: str) -> Any:
    """A buffer as a numpy array that shares its memory, of the numpy type that stands for `dtype`."""
    v = call.parts[name]
    return arrays.host_bytes(v).view(arrays.NUMPY_DTYPES[dtype][0]).reshape(v.shape)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Rows of a masked output past their group's count: what was there, which no kernel writes."""

    data: NDArray[np.uint8]
    before: NDArray[np.uint8]
    unused: NDArray[np.bool_]

    @classmethod
    def of(cls, call: Call, arg: Arg, unused: NDArray[np.bool_] | None) -> _Kept | None:
        """The rows that stay as they are; of a quantized output its codes."""
        view = call.parts.get(arg.name if arg.format is None else f"{arg.name}.codes")
        if unused is None or view is None or not view.nbytes:
            return None
        shape = shape_of(arg, call.dims)
        held = arrays.host_bytes(view).reshape(*shape[:-1], -1)  # the bytes of a row
        rows = np.broadcast_to(unused, (*shape[:-1], 1)) if unused.shape[-1] == 1 else None
        if rows is None:  # rows that lie along the last axis
            width = held.shape[-1] // shape[-1]
            rows = np.repeat(np.broadcast_to(unused, shape), width, axis=-1)
        return cls(held, held.copy(), np.broadcast_to(rows, held.shape))

    def restore(self) -> None:
        """Put back what was there."""
        self.data[self.unused] = self.before[self.unused]


def _store(call: Call, arg: Arg, value: Operand) -> None:
    shape = shape_of(arg, call.dims)
    if arg.format is not None:
        if not isinstance(value, Quantized):
            raise DeviceError(f"{arg.name} is {arg.format.name}, but the value stored is not quantized", code="FP6307")
        pieces = {"codes": value.codes, "scales": value.scales, "tensor_scale": value.tensor_scale}
        for piece, array in pieces.items():
            name = f"{arg.name}.{piece}"
            if name in call.parts:
                content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                if content.size != call.parts[name].nbytes:
                    raise DeviceError(
                        f"{name} has {call.parts[name].nbytes} bytes, the value {content.size}", code="FP6307"
                    )
                arrays.host_bytes(call.parts[name])[:] = content
        return
    if not isinstance(value, Tensor):
        raise DeviceError(f"{arg.name} is {arg.dtype}, but the value stored is quantized", code="FP6307")
    axes = tuple(x.name or str(i) for i, x in enumerate(arg.axes))
    try:
        data = np.broadcast_to(value.align(axes), shape)
    except ValueError as error:
        raise DeviceError(f"{arg.name} has the shape {shape}, the value {value.data.shape}", code="FP6307") from error
    codes = np.ascontiguousarray(codes_of(data, str(arg.dtype)))
    arrays.host_bytes(call.parts[arg.name])[:] = codes.reshape(-1).view(np.uint8)


def _store_rows(call: Call, arg: Arg, value: Operand, rows: Operand, env: Environment) -> None:
    """Store a row for each number that is one of the argument's; the others stay as they are."""
    if not isinstance(value, Tensor) or not isinstance(rows, Tensor):
        raise DeviceError(f"rows of {arg.name} are stored, but the value or their numbers are quantized", code="FP6307")
    shape = shape_of(arg, call.dims)
    axes = (*rows.axes, *(x.name or str(i) for i, x in enumerate(arg.axes[1:], 1)))
    data = np.broadcast_to(value.align(axes), (*rows.data.shape, *shape[1:]))
    codes = np.ascontiguousarray(codes_of(data, str(arg.dtype))).reshape(-1, *shape[1:])
    used = (rows.data >= 0) & (rows.data < shape[0])
    unused = unused_rows(rows.axes, rows.data.shape, env)
    if unused is not None:
        used = used & ~unused
    held = arrays.host_bytes(call.parts[arg.name]).view(codes.dtype).reshape(shape)
    held[rows.data[used]] = codes[used.reshape(-1)]
