"""The device "reference": interprets the typed kernel in numpy. Runs any artifact, compiled or not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from fp4num import Quantized
from fp4rt import arrays
from fp4rt.errors import DeviceError
from fp4rt.limits import Deadline, check_memory, interpreted_bytes
from fp4rt.reference import Environment, Tensor, evaluate
from fp4rt.reference.bounds import Range, ranges
from fp4rt.reference.interpreter import Operand, codes_of
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

    def __init__(self, kernel: TypedKernel, device: ReferenceDevice | None = None) -> None:
        self._kernel = kernel
        self._device = device or ReferenceDevice()

    def allocating(self, call: Call, stream: object | None) -> AbstractContextManager[object]:
        """Host memory needs no care."""
        return nullcontext()

    def bind(self, call: Call, plan: Resolved, stream: object | None) -> Launcher:
        """A launcher that evaluates the kernel each time; streams mean nothing here."""
        return lambda _stream: self._run(call)

    def ranges(self, call: Call) -> dict[str, Range | None]:
        """For each output of a call what else a right kernel may give there (`fp4rt.reference.bounds`)."""
        environment = self._environment(call)
        known = ranges(self._kernel, environment, evaluate(self._kernel, environment))
        return {store.arg: known[store.value] for store in self._kernel.stores}

    def _environment(self, call: Call) -> Environment:
        held = {a.name: self._argument(call, a) for a in self._kernel.args if a.direction in ("in", "inout")}
        groups = {x.name: x.by for a in self._kernel.args for x in a.axes if x.name is not None and x.by is not None}
        return Environment(call.dims, call.scalars, held, groups)

    def _run(self, call: Call) -> None:
        what = f"interpreting {self._kernel.name}"
        check_memory(interpreted_bytes(self._kernel, call.dims), self._device.memory_limit, what)
        values = evaluate(self._kernel, self._environment(call), Deadline(self._device.time_limit))
        for store in self._kernel.stores:
            _store(call, self._kernel.arg(store.arg), values[store.value])

    def _argument(self, call: Call, arg: Arg) -> Any:
        if arg.format is None:
            return _typed(call, arg.name, str(arg.dtype))
        codes = _typed(call, f"{arg.name}.codes", "u8")
        fmt = arg.format
        scales = np.empty(0, np.uint8)
        if fmt.scale is not None:
            scales = _typed(call, f"{arg.name}.scales", "f32" if fmt.scale == "f32" else "u8")
        tensor_scale = None
        if fmt.tensor_scale is not None:
            tensor_scale = _typed(call, f"{arg.name}.tensor_scale", "f32").reshape(())
        shape = shape_of(arg, call.dims)
        by = arg.axes[-2].by if len(arg.axes) > 1 else None
        offsets = None if by is None else _typed(call, by, "i32")
        return Quantized(codes.reshape(fmt.codes_shape(shape)), scales, tensor_scale, fmt, shape, offsets)


def _typed(call: Call, name: str, dtype: str) -> Any:
    """A buffer as a numpy array that shares its memory, of the numpy type that stands for `dtype`."""
    v = call.parts[name]
    return arrays.host_bytes(v).view(arrays.NUMPY_DTYPES[dtype][0]).reshape(v.shape)


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
