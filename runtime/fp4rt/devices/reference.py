"""The device "reference": interprets the typed kernel in numpy. Runs any artifact, compiled or not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from fp4num import Quantized
from fp4rt import arrays, sizes
from fp4rt.errors import DeviceError
from fp4rt.reference import Environment, Tensor, evaluate
from fp4rt.reference.interpreter import codes_of

if TYPE_CHECKING:
    from fp4rt.artifact import Artifact
    from fp4rt.devices.base import Launcher
    from fp4rt.resolve import Resolved
    from fp4rt.signature import Call
    from fp4rt.typed import Arg, TypedKernel


class ReferenceDevice:
    """Numpy on this machine's CPU."""

    name = "reference"

    def __init__(self, ordinal: int | None = None) -> None:
        if ordinal:
            raise DeviceError(f"there is one reference device, not reference:{ordinal}", code="FP6301")

    def supports(self, target: str) -> bool:
        """Every target: only the typed kernel is read."""
        return True

    def load(self, artifact: Artifact) -> ReferenceExecutable:
        """Nothing to prepare."""
        return ReferenceExecutable(artifact.manifest.kernel)


class ReferenceExecutable:
    """A typed kernel, ready to be interpreted."""

    memory: int | None = None

    def __init__(self, kernel: TypedKernel) -> None:
        self._kernel = kernel

    def allocating(self, call: Call, stream: object | None) -> AbstractContextManager[object]:
        """Host memory needs no care."""
        return nullcontext()

    def bind(self, call: Call, plan: Resolved, stream: object | None) -> Launcher:
        """A launcher that evaluates the kernel each time; streams mean nothing here."""
        return lambda _stream: self._run(call)

    def _run(self, call: Call) -> None:
        held = {a.name: self._argument(call, a) for a in self._kernel.args if a.direction in ("in", "inout")}
        groups = {x.name: x.by for a in self._kernel.args for x in a.axes if x.name is not None and x.by is not None}
        values = evaluate(self._kernel, Environment(call.dims, call.scalars, held, groups))
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
        shape = tuple(int(sizes.evaluate(x.extent, call.dims)) for x in arg.axes)
        by = arg.axes[-2].by if len(arg.axes) > 1 else None
        offsets = None if by is None else _typed(call, by, "i32")
        return Quantized(codes.reshape(fmt.codes_shape(shape)), scales, tensor_scale, fmt, shape, offsets)


def _typed(call: Call, name: str, dtype: str) -> Any:
    """A buffer as a numpy array that shares its memory, of the numpy type that stands for `dtype`."""
    v = call.parts[name]
    return arrays.host_bytes(v).view(arrays.NUMPY_DTYPES[dtype][0]).reshape(v.shape)


def _store(call: Call, arg: Arg, value: Tensor | Quantized) -> None:
    shape = tuple(int(sizes.evaluate(x.extent, call.dims)) for x in arg.axes)
    if arg.format is not None:
        if not isinstance(value, Quantized):
            raise DeviceError(f"{arg.name} is {arg.format.name}, but the value stored is not quantized", code="FP6307")
        pieces = {"codes": value.codes, "scales": value.scales, "tensor_scale": value.tensor_scale}
        for piece, array in pieces.items():
            name = f"{arg.name}.{piece}"
            if name in call.parts:
                arrays.host_bytes(call.parts[name])[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return
    if isinstance(value, Quantized):
        raise DeviceError(f"{arg.name} is {arg.dtype}, but the value stored is quantized", code="FP6307")
    axes = tuple(x.name or str(i) for i, x in enumerate(arg.axes))
    data = np.broadcast_to(value.align(axes), shape)
    codes = np.ascontiguousarray(codes_of(data, str(arg.dtype)))
    arrays.host_bytes(call.parts[arg.name])[:] = codes.reshape(-1).view(np.uint8)
