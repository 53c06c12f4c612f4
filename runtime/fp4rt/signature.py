"""A kernel's arguments against the values of one call: names, dtypes, shapes, dims, formats, memory.

`Signature` is built once per kernel. `inputs` checks what the caller passed and finds the dims; `outputs` allocates or
checks what the kernel writes. Both raise ArgumentError naming the argument, what is wrong and the fix.
"""

from __future__ import annotations

import difflib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from fp4num import BlockFormat, Quantized
from fp4rt import arrays, sizes
from fp4rt.among import check_overlaps
from fp4rt.arrays import Family, Output, View
from fp4rt.checks import Slot, describe_axes, scale_source, wrong_device, wrong_rank
from fp4rt.errors import ArgumentError
from fp4rt.plan import PREPARED, WORKSPACE
from fp4rt.typed import Dim, TypedKernel
from fp4rt.units import check_units, units_of

Dims = dict[str, int]


@dataclass(slots=True)
class Call:
    """The memory of one call. `parts` maps buffer names ("c", "a.codes") to arrays; `outputs` is what is returned.

    `written` names the buffers that the kernel writes. `kept` names the arguments of which a launch needs or leaves
    what was there before it: those that it also reads (`inout`), and masked outputs. `prepared` has the arguments that
    are prepared, of which a plan may read that instead of codes and scales.
    """

    dims: Dims
    scalars: dict[str, float]
    parts: dict[str, View]
    family: Family
    outputs: dict[str, Output] = field(default_factory=dict[str, Output])
    written: list[str] = field(default_factory=list[str])
    kept: frozenset[str] = frozenset()
    prepared: frozenset[str] = frozenset()

    def copied_in(self, name: str) -> bool:
        """Whether a device with memory of its own needs this buffer's content before the launch."""
        return name not in self.written or name.partition(".")[0] in self.kept

    def needs(self, name: str, takes: str | None) -> bool:
        """Whether a plan that `takes` this argument as it is prepared, or none, uses a buffer of the call."""
        return not name.endswith(PREPARED) or name in self.written or name == f"{takes}{PREPARED}"

    def add_workspace(self, workspace: View) -> None:
        """Use this memory as the workspace; ArgumentError if it overlaps another buffer."""
        self.parts[WORKSPACE] = workspace
        self.written.append(WORKSPACE)
        check_overlaps(self.parts, self.written)


class Signature:
    """The checks of a kernel's arguments. `device` is the index of the CUDA device, None for host memory."""

    def __init__(self, kernel: TypedKernel, device: int | None) -> None:
        self.kernel = kernel
        self.device = device
        #: What the kernel reads, what it only writes, and its numbers; in the order of the spec.
        self.ins = [Slot(a) for a in kernel.args if a.direction in ("in", "inout")]
        self.outs = [Slot(a) for a in kernel.args if a.direction == "out"]
        self._inouts = [s for s in self.ins if s.arg.direction == "inout"]
        self.params = [a for a in kernel.args if a.direction == "param"]
        masked = [s for s in self.outs if any(axis.upto for axis in s.arg.axes)]
        self._kept = frozenset(s.name for s in (*self._inouts, *masked))
        self._outputs = [a.name for a in kernel.outputs]
        self._known = frozenset((*(s.name for s in self.ins), *(a.name for a in self.params)))
        self._required = frozenset((*(s.name for s in self.ins), *(a.name for a in self.params if a.default is None)))
        self._units = units_of(kernel)
        self._static = {d.name: d.value for d in kernel.dims if d.value is not None}
        bare = {*self._static, *(name for slot in self.ins for _, name in slot.bare)}
        #: Where dims that no axis is by itself are found: the input, its axis, the dim, the number that is added.
        self._shifted = [
            (place, axis, name, number)
            for place, slot in enumerate(self.ins)
            for axis, name, number in slot.shifted
            if name not in bare
        ]
        self._derived = any(d.expr is not None for d in kernel.dims)
        #: Quantized output -> the input that is its tensor scale.
        self.aliases = {s.name: source for s in self.outs if (source := scale_source(kernel, s.arg)) is not None}

    # inputs

    def inputs(self, args: Mapping[str, object]) -> Call:
        """Check the values passed by name; the call's dims are then known."""
        if not self._required <= args.keys() <= self._known:
            raise self.wrong_names(args)
        parts: dict[str, View] = {}
        shapes = [slot.read(args[slot.name], parts) for slot in self.ins]
        family = self._family(parts)
        dims = self._solve(shapes)
        for slot, shape in zip(self.ins, shapes, strict=True):
            if slot.computed and shape != slot.shape(dims):
                raise _wrong_shape(slot, shape, slot.shape(dims), "")
        self.check_data(args, parts, dims)
        call = Call(dims, self.scalars(args), parts, family, kept=self._kept)
        for slot in self._inouts:
            call.outputs[slot.name] = cast("Output", args[slot.name])  # as `read` has found
            _mark_written(slot, call)
        return call

    def check_data(self, args: Mapping[str, object], parts: Mapping[str, View], dims: Dims) -> None:
        """What inputs hold in host memory; the rest is known from their shapes and types."""
        for slot in self.ins:
            if slot.scales is not None or slot.grouped:
                slot.check_data(args[slot.name], parts, dims)
        check_units(self._units, parts)

    def alone(self, name: str, value: object) -> Call:
        """An input by itself, checked, with the dims that its shape has."""
        slot, parts = next(slot for slot in self.ins if slot.name == name), dict[str, View]()
        shape = slot.read(value, parts)
        family = self._family(parts)
        dims: Dims = dict(self._static)
        for axis, dim in slot.bare:
            if dims.setdefault(dim, shape[axis]) != shape[axis]:
                raise self._disagreement(slot, shape, dim, dims[dim])
        for axis, dim, number in slot.shifted:
            dims.setdefault(dim, shape[axis] - number)
        if shape != slot.shape(dims):
            raise _wrong_shape(slot, shape, slot.shape(dims), "")
        slot.check_data(value, parts, dims)
        return Call(dims, {}, parts, family)

    def wrong_names(self, args: Mapping[str, object]) -> ArgumentError:
        """The error for names that are not those of the arguments."""
        known = [*(s.name for s in self.ins), *(a.name for a in self.params)]
        for name in args:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                is_output = any(s.name == name for s in self.outs)
                hint = f"pass out={{{name!r}: array}}" if is_output else f"did you mean {near[0]!r}?" if near else ""
                kind = "an output" if is_output else "not an argument"
                message = f"{name!r} is {kind} of {self.kernel.name}; arguments: {', '.join(known)}"
                return ArgumentError(message, argument=name, code="FP6101", help=hint)
        missing = [name for name in known if name in self._required and name not in args]
        names = ", ".join(map(repr, missing))
        return ArgumentError(f"{self.kernel.name} needs {names}", argument=missing[0], code="FP6102")

    def scalars(self, args: Mapping[str, object]) -> dict[str, float]:
        """The values of the params; ArgumentError for one that is no number or does not fit."""
        out: dict[str, float] = {}
        for arg in self.params:
            value = args.get(arg.name, arg.default)
            if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise ArgumentError(
                    f"param {arg.name!r} is passed by value: expected a number, found {type(value).__name__}",
                    argument=arg.name,
                    help="a value on the device is declared `in x : f32[]` in the spec",
                )
            if arg.dtype == "f32":
                out[arg.name] = _f32(arg.name, value)
            elif isinstance(value, (float, np.floating)) and not float(value).is_integer():
                raise ArgumentError(f"param {arg.name!r} is {arg.dtype}: {value} is not an integer", argument=arg.name)
            elif not -(2**31) <= value < 2**31:
                raise ArgumentError(
                    f"param {arg.name!r} is i32: {value} is outside -2147483648 to 2147483647", argument=arg.name
                )
            else:
                out[arg.name] = int(value)
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

    def _solve(self, shapes: list[tuple[int, ...]]) -> Dims:
        """The dims that stand bare in the inputs' shapes, those that stand there with a number, the derived ones."""
        dims: Dims = dict(self._static)
        for slot, shape in zip(self.ins, shapes, strict=True):
            if len(shape) != len(slot.extents):
                raise wrong_rank(slot.arg, shape)
            for axis, name in slot.bare:
                if dims.setdefault(name, shape[axis]) != shape[axis]:
                    raise self._disagreement(slot, shape, name, dims[name])
        for place, axis, name, number in self._shifted:
            if dims.setdefault(name, shapes[place][axis] - number) < 0:
                slot, shape = self.ins[place], shapes[place]
                raise ArgumentError(
                    f"{slot.name!r} would have {name} = {dims[name]}: its type is {describe_axes(slot.arg)}, its shape "
                    f"{shape}",
                    argument=slot.name,
                    code="FP6105",
                )
        if self._derived or len(dims) < len(self.kernel.dims):
            return complete_dims(self.kernel, dims)
        return dims

    def _disagreement(self, slot: Slot, shape: tuple[int, ...], name: str, known: int) -> ArgumentError:
        first = next((s.name for s in self.ins if any(n == name for _, n in s.bare)), slot.name)
        origin = "the spec" if name in self._static else repr(first)
        found = next(shape[i] for i, n in slot.bare if n == name)
        return ArgumentError(
            f"{slot.name!r} has {name} = {found}, but {origin} has {known}: "
            f"its type is {describe_axes(slot.arg)}, its shape {shape}",
            argument=slot.name,
            code="FP6105",
        )

    # outputs

    def outputs(self, call: Call, out: Mapping[str, object] | None) -> None:
        """Allocate the outputs, or check those given, and add them to the call; then look for overlaps."""
        given = {} if out is None else out
        if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # it is the caller's
            raise ArgumentError(
                f"out is a dict from output names to arrays, not {type(given).__name__}", argument="out"
            )
        taken = 0
        for slot in self.outs:
            value = given.get(slot.name)
            taken += slot.name in given
            shape = slot.shape(call.dims)
            if slot.format is not None:
                self._quantized_output(call, slot, slot.format, shape, value)
            else:
                if value is None:
                    value = arrays.empty(shape, str(slot.arg.dtype), call.family, self.device)
                self._check_output(call, slot, slot.read(value, call.parts), shape)
                call.outputs[slot.name] = cast("Output", value)  # as `read` has found
            _mark_written(slot, call)
        if taken != len(given):
            name = next(n for n in given if all(n != s.name for s in self.outs))
            known = ", ".join(s.name for s in self.outs) or "none"
            raise ArgumentError(
                f"out: {name!r} is not an output of {self.kernel.name}; outputs: {known}", argument=name, code="FP6101"
            )
        if self._inouts:
            call.outputs = {name: call.outputs[name] for name in self._outputs}
        check_overlaps(call.parts, call.written)

    def _quantized_output(
        self, call: Call, slot: Slot, fmt: BlockFormat, shape: tuple[int, ...], value: object | None
    ) -> None:
        alias = self.aliases.get(slot.name)
        own_scale = fmt.tensor_scale is not None and alias is None
        if value is None:
            offsets = None if slot.offsets is None else call.parts[slot.offsets].array
            codes_shape, scale_count = slot.buffers(fmt, shape, None if offsets is None else offsets.shape[0] - 1)
            codes = arrays.empty(codes_shape, "u8", call.family, self.device)
            scales = arrays.empty((scale_count,), "f32" if fmt.scale == "f32" else "u8", call.family, self.device)
            lead = fmt.tensor_scale_shape(shape)
            tensor_scale = arrays.empty(lead, "f32", call.family, self.device) if own_scale else None
            value = Quantized(codes, scales, tensor_scale, fmt, shape, offsets)
        found = slot.read(value, call.parts, tensor_scale=own_scale)
        self._check_output(call, slot, found, shape)
        slot.check_offsets(value, call.parts)
        if alias is not None and isinstance(value, Quantized):
            value = Quantized(value.codes, value.scales, call.parts[alias].array, fmt, shape, value.offsets)
        call.outputs[slot.name] = cast("Output", value)  # as `read` has found

    def _check_output(self, call: Call, slot: Slot, actual: tuple[int, ...], shape: tuple[int, ...]) -> None:
        if actual != shape:
            raise _wrong_shape(slot, actual, shape, "out: ")
        for name in slot.parts:
            part = call.parts.get(name)
            if part is None:
                continue
            if part.family != call.family or (part.family == "torch" and part.device != self.device):
                raise wrong_device(name, part, self.device)


def _f32(name: str, value: Any) -> float:
    """A param's value, which has to be representable: infinity is one, 1e300 is not."""
    try:
        number = float(value)
        struct.pack("<f", number)
    except OverflowError:
        raise ArgumentError(f"param {name!r} is f32: its value is too large for one", argument=name) from None
    return number


def _wrong_shape(slot: Slot, actual: tuple[int, ...], expected: tuple[int, ...], where: str) -> ArgumentError:
    return ArgumentError(
        f"{where}{slot.name!r} has shape {actual}; {describe_axes(slot.arg)} is {expected} here",
        argument=slot.name,
        code="FP6105",
    )


def _mark_written(slot: Slot, call: Call) -> None:
    for name in slot.parts:
        part = call.parts.get(name)
        if part is None:
            continue
        if not part.writable:
            raise ArgumentError(f"{name!r} is read-only, but the kernel writes it", argument=slot.name)
        call.written.append(name)


def _in_order(kernel: TypedKernel) -> list[Dim]:
    """The dims, each after those it is made of; those of a circle, which only a damaged manifest has, at the end."""
    found = [dim for dim in kernel.dims if dim.expr is None]
    left = [dim for dim in kernel.dims if dim.expr is not None]
    while left:
        open_names = {dim.name for dim in left}
        ready = [dim for dim in left if dim.expr is None or not open_names & set(sizes.names(dim.expr))] or left
        found += ready
        left = [dim for dim in left if dim not in ready]
    return found


def complete_dims(kernel: TypedKernel, known: Mapping[str, int]) -> Dims:
    """All dims of a kernel from the static and dynamic ones; a derived dim may come before those it is made of.

    A derived dim that a shape determined too must agree with it.
    """
    dims = dict(known)
    for dim in _in_order(kernel):
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
