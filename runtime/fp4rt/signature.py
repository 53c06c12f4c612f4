"""A kernel's arguments against the values of one call: names, dtypes, shapes, dims, formats, memory.

`Signature` is built once per kernel. `inputs` checks what the caller passed and finds the dims; `outputs` allocates or
checks what the kernel writes. Both raise ArgumentError naming the argument, what is wrong and the fix.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fp4num import BlockFormat, Quantized
from fp4rt import arrays, sizes
from fp4rt.arrays import Family, View
from fp4rt.checks import (
    check_groups,
    check_overlaps,
    check_scales,
    describe_axes,
    part_names,
    plain_part,
    quantized_parts,
    scale_source,
    wrong_device,
)
from fp4rt.errors import ArgumentError
from fp4rt.typed import Arg, TypedKernel

Dims = dict[str, int]


@dataclass(slots=True)
class Call:
    """The memory of one call. `parts` maps buffer names ("c", "a.codes") to arrays; `outputs` is what is returned.

    `written` names the buffers that the kernel writes, `inout` the arguments it also reads.
    """

    dims: Dims
    scalars: dict[str, float]
    parts: dict[str, View]
    family: Family
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    written: list[str] = field(default_factory=list[str])
    inout: frozenset[str] = frozenset()

    def add_workspace(self, workspace: View) -> None:
        """Use this memory as the workspace; ArgumentError if it overlaps another buffer."""
        self.parts["workspace"] = workspace
        self.written.append("workspace")
        check_overlaps(self.parts, self.written)


class Signature:
    """The checks of a kernel's arguments. `device` is the index of the CUDA device, None for host memory."""

    def __init__(self, kernel: TypedKernel, device: int | None) -> None:
        self.kernel = kernel
        self.device = device
        self._ins = [a for a in kernel.args if a.direction in ("in", "inout")]
        self._outs = [a for a in kernel.args if a.direction == "out"]
        self._inout = frozenset(a.name for a in self._ins if a.direction == "inout")
        self._params = [a for a in kernel.args if a.direction == "param"]
        self._aliases = {a.name: source for a in self._outs if (source := scale_source(kernel, a)) is not None}

    # inputs

    def inputs(self, args: Mapping[str, object]) -> Call:
        """Check the values passed by name; the call's dims are then known."""
        self._check_names(args)
        parts: dict[str, View] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for arg in self._ins:
            if arg.format is not None:
                shapes[arg.name] = quantized_parts(arg, arg.format, args[arg.name], parts)
            else:
                shapes[arg.name] = plain_part(arg, args[arg.name], parts)
        family = self._family(parts)
        dims = self._solve(shapes)
        for arg in self._ins:
            self._check_shape(arg, shapes[arg.name], dims)
            if arg.format is not None:
                check_scales(arg.name, arg.format, shapes[arg.name], parts)
        for arg in self._ins:
            check_groups(arg, parts, dims)
        call = Call(dims, self._scalars(args), parts, family, inout=self._inout)
        for arg in self._ins:
            if arg.direction == "inout":
                call.outputs[arg.name] = args[arg.name]
                self._mark_written(arg, call)
        return call

    def _check_names(self, args: Mapping[str, object]) -> None:
        known = [a.name for a in (*self._ins, *self._params)]
        for name in args:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                is_output = any(a.name == name for a in self._outs)
                hint = f"pass out={{{name!r}: array}}" if is_output else f"did you mean {near[0]!r}?" if near else ""
                kind = "an output" if is_output else "not an argument"
                message = f"{name!r} is {kind} of {self.kernel.name}; arguments: {', '.join(known)}"
                raise ArgumentError(message, argument=name, code="FP6101", help=hint)
        missing = [a.name for a in self._ins if a.name not in args]
        missing += [a.name for a in self._params if a.name not in args and a.default is None]
        if missing:
            names = ", ".join(map(repr, missing))
            raise ArgumentError(f"{self.kernel.name} needs {names}", argument=missing[0], code="FP6102")

    def _scalars(self, args: Mapping[str, object]) -> dict[str, float]:
        out: dict[str, float] = {}
        for arg in self._params:
            value = args.get(arg.name, arg.default)
            if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise ArgumentError(
                    f"param {arg.name!r} is passed by value: expected a number, found {type(value).__name__}",
                    argument=arg.name,
                    help="a value on the device is declared `in x : f32[]` in the spec",
                )
            integral = isinstance(arg.dtype, str) and arg.dtype in ("i32", "u32", "u64")
            if integral and float(value) != int(value):
                raise ArgumentError(f"param {arg.name!r} is {arg.dtype}: {value} is not an integer", argument=arg.name)
            out[arg.name] = int(value) if integral else float(value)
        return out

    def _family(self, parts: Mapping[str, View]) -> Family:
        first: tuple[str, View] | None = None
        for name, part in parts.items():
            if part.family == "torch" and part.device != self.device:
                raise wrong_device(name, part, self.device)
            if first is None:
                first = name, part
            elif part.family != first[1].family:
                raise ArgumentError(
                    f"{name!r} is a {part.family} array but {first[0]!r} is a {first[1].family} array",
                    argument=name,
                    code="FP6109",
                    help="pass all arrays of a call as numpy arrays, or all as torch tensors",
                )
        return "numpy" if first is None else first[1].family

    # dims

    def _solve(self, shapes: Mapping[str, tuple[int, ...]]) -> Dims:
        dims: Dims = {d.name: d.value for d in self.kernel.dims if d.value is not None}
        origin = dict.fromkeys(dims, "the spec")
        for arg in self._ins:
            shape = shapes[arg.name]
            if len(shape) != len(arg.axes):
                raise ArgumentError(
                    f"{arg.name!r} has {len(shape)} axes {shape}; its type is {describe_axes(arg)}",
                    argument=arg.name,
                    code="FP6105",
                )
            for axis, extent in zip(arg.axes, shape, strict=True):
                if not isinstance(axis.extent, str):
                    continue
                known = dims.setdefault(axis.extent, extent)
                if known != extent:
                    raise ArgumentError(
                        f"{arg.name!r} has {axis.extent} = {extent}, but {origin[axis.extent]} has {known}: "
                        f"its type is {describe_axes(arg)}, its shape {shape}",
                        argument=arg.name,
                        code="FP6105",
                    )
                origin.setdefault(axis.extent, repr(arg.name))
        return complete_dims(self.kernel, dims)

    def _check_shape(self, arg: Arg, shape: tuple[int, ...], dims: Dims) -> None:
        expected = tuple(int(sizes.evaluate(x.extent, dims)) for x in arg.axes)
        if shape != expected:
            raise ArgumentError(
                f"{arg.name!r} has shape {shape}; {describe_axes(arg)} is {expected} here",
                argument=arg.name,
                code="FP6105",
            )

    # outputs

    def outputs(self, call: Call, out: Mapping[str, object] | None) -> None:
        """Allocate the outputs, or check those given, and add them to the call; then look for overlaps."""
        given = dict(out or {})
        for arg in self._outs:
            shape = tuple(int(sizes.evaluate(x.extent, call.dims)) for x in arg.axes)
            value = given.pop(arg.name, None)
            if arg.format is not None:
                self._quantized_output(call, arg, arg.format, shape, value)
            else:
                if value is None:
                    value = arrays.empty(shape, str(arg.dtype), call.family, self.device)
                actual = plain_part(arg, value, call.parts)
                self._check_output(call, arg, actual, shape)
                call.outputs[arg.name] = value
                self._mark_written(arg, call)
        if given:
            name = next(iter(given))
            known = ", ".join(a.name for a in self._outs) or "none"
            raise ArgumentError(
                f"out: {name!r} is not an output of {self.kernel.name}; outputs: {known}", argument=name, code="FP6101"
            )
        call.outputs = {a.name: call.outputs[a.name] for a in self.kernel.outputs}
        check_overlaps(call.parts, call.written)

    def _quantized_output(
        self, call: Call, arg: Arg, fmt: BlockFormat, shape: tuple[int, ...], value: object | None
    ) -> None:
        alias = self._aliases.get(arg.name)
        own_scale = fmt.tensor_scale is not None and alias is None
        if value is None:
            codes = arrays.empty(fmt.codes_shape(shape), "u8", call.family, self.device)
            scale_type = "f32" if fmt.scale == "f32" else "u8"
            scales = arrays.empty((fmt.scales_size(shape),), scale_type, call.family, self.device)
            tensor_scale = arrays.empty((), "f32", call.family, self.device) if own_scale else None
            value = Quantized(codes, scales, tensor_scale, fmt, shape)
        actual = quantized_parts(arg, fmt, value, call.parts, tensor_scale=own_scale)
        self._check_output(call, arg, actual, shape)
        check_scales(arg.name, fmt, shape, call.parts)
        assert isinstance(value, Quantized)
        if alias is not None:
            source = call.parts[alias].array
            value = Quantized(value.codes, value.scales, source, fmt, shape)
        call.outputs[arg.name] = value
        self._mark_written(arg, call)

    def _check_output(self, call: Call, arg: Arg, actual: tuple[int, ...], shape: tuple[int, ...]) -> None:
        if actual != shape:
            raise ArgumentError(
                f"out: {arg.name!r} has shape {actual}; {describe_axes(arg)} is {shape} here",
                argument=arg.name,
                code="FP6105",
            )
        for name in part_names(arg):
            part = call.parts.get(name)
            if part is None:
                continue
            if part.family != call.family or (part.family == "torch" and part.device != self.device):
                raise wrong_device(name, part, self.device)

    def _mark_written(self, arg: Arg, call: Call) -> None:
        for name in part_names(arg):
            part = call.parts.get(name)
            if part is None:
                continue
            if not part.writable:
                raise ArgumentError(
                    f"{name!r} is read-only, but the kernel writes it", argument=arg.name, code="FP6103"
                )
            call.written.append(name)


def complete_dims(kernel: TypedKernel, known: Mapping[str, int]) -> Dims:
    """All dims of a kernel from the static and dynamic ones; derived dims are evaluated in order.

    A derived dim that a shape determined too must agree with it.
    """
    dims = dict(known)
    for dim in kernel.dims:
        if dim.expr is None:
            value = dims.get(dim.name, dim.value)
            if value is None:
                raise ArgumentError(f"no argument determines the dim {dim.name}", argument=dim.name, code="FP6110")
        else:
            try:
                value = int(sizes.evaluate(dim.expr, dims))
            except sizes.SizeError as error:
                text = sizes.text(dim.expr)
                raise ArgumentError(f"{dim.name} = {text}: {error}", argument=dim.name, code="FP6110") from error
            if dims.get(dim.name, value) != value:
                raise ArgumentError(
                    f"{dim.name} = {sizes.text(dim.expr)} is {value}, but the shapes say {dims[dim.name]}",
                    argument=dim.name,
                    code="FP6105",
                )
        if value < 0:
            raise ArgumentError(f"{dim.name} is {value}: a dim is not negative", argument=dim.name, code="FP6110")
        dims[dim.name] = value
    return dims
