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
from fp4rt.errors import ArgumentError
from fp4rt.typed import Arg, TypedKernel

Dims = dict[str, int]


@dataclass(slots=True)
class Call:
    """The memory of one call. `parts` maps buffer names ("c", "a.codes") to arrays; `outputs` is what is returned."""

    dims: Dims
    scalars: dict[str, float]
    parts: dict[str, View]
    family: Family
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    written: list[str] = field(default_factory=list[str])

    def add_workspace(self, workspace: View) -> None:
        """Use this memory as the workspace; ArgumentError if it overlaps another buffer."""
        self.parts["workspace"] = workspace
        self.written.append("workspace")
        check_overlaps(self)


class Signature:
    """The checks of a kernel's arguments. `device` is the index of the CUDA device, None for host memory."""

    def __init__(self, kernel: TypedKernel, device: int | None) -> None:
        self.kernel = kernel
        self.device = device
        self._ins = [a for a in kernel.args if a.direction in ("in", "inout")]
        self._outs = [a for a in kernel.args if a.direction == "out"]
        self._params = [a for a in kernel.args if a.direction == "param"]
        self._aliases = {a.name: source for a in self._outs if (source := _scale_source(kernel, a)) is not None}

    # inputs

    def inputs(self, args: Mapping[str, object]) -> Call:
        """Check the values passed by name; the call's dims are then known."""
        self._check_names(args)
        parts: dict[str, View] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for arg in self._ins:
            if arg.format is not None:
                shapes[arg.name] = _quantized_parts(arg, arg.format, args[arg.name], parts)
            else:
                shapes[arg.name] = _plain_part(arg, args[arg.name], parts)
        family = self._family(parts)
        dims = self._solve(shapes)
        for arg in self._ins:
            self._check_shape(arg, shapes[arg.name], dims)
            if arg.format is not None:
                _check_scales(arg.name, arg.format, shapes[arg.name], parts)
        for arg in self._ins:
            _check_groups(arg, parts, dims)
        call = Call(dims, self._scalars(args), parts, family)
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
                raise _wrong_device(name, part, self.device)
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
        origin = {name: "the spec" for name in dims}
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
                actual = _plain_part(arg, value, call.parts)
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
        check_overlaps(call)

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
        actual = _quantized_parts(arg, fmt, value, call.parts, tensor_scale=own_scale)
        self._check_output(call, arg, actual, shape)
        _check_scales(arg.name, fmt, shape, call.parts)
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
                raise _wrong_device(name, part, self.device)

    def _mark_written(self, arg: Arg, call: Call) -> None:
        for name in part_names(arg):
            part = call.parts.get(name)
            if part is None:
                continue
            if not part.writable:
                raise ArgumentError(f"{name!r} is read-only, but the kernel writes it", argument=arg.name, code="FP6103")
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


def part_names(arg: Arg) -> tuple[str, ...]:
    """The buffers of an argument: "a.codes", "a.scales", "a.tensor_scale", or "c"; none for a param."""
    fmt = arg.format
    if fmt is None:
        return () if arg.direction == "param" else (arg.name,)
    names = [f"{arg.name}.codes"]
    if fmt.scale is not None:
        names.append(f"{arg.name}.scales")
    if fmt.tensor_scale is not None:
        names.append(f"{arg.name}.tensor_scale")
    return tuple(names)


def describe_axes(arg: Arg) -> str:
    """The argument's type as the language writes it: `nvfp4[M, K]`."""
    dtype = arg.dtype if isinstance(arg.dtype, str) else arg.dtype.name
    axes = [
        sizes.text(x.extent) + (f" by {x.by}" if x.by else "") + (f" upto {x.upto}" if x.upto else "") for x in arg.axes
    ]
    return f"{dtype}[{', '.join(axes)}]"


def _plain_part(arg: Arg, value: object, parts: dict[str, View]) -> tuple[int, ...]:
    dtype = str(arg.dtype)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not arg.axes and dtype == "f32":
        value = np.array(value, np.float32)
    v = arrays.view(value)
    if v is None:
        raise ArgumentError(
            f"{arg.name!r} is {describe_axes(arg)}: expected a numpy array or a torch tensor, found {type(value).__name__}",
            argument=arg.name,
            help="use np.asarray(x, np.float32) or a torch tensor" if not isinstance(value, Quantized) else "",
        )
    _check_part(arg.name, arg.name, v, dtype)
    parts[arg.name] = v
    return v.shape


def _quantized_parts(
    arg: Arg, fmt: BlockFormat, value: object, parts: dict[str, View], *, tensor_scale: bool = True
) -> tuple[int, ...]:
    if not isinstance(value, Quantized):
        raise ArgumentError(
            f"{arg.name!r} is {describe_axes(arg)}: expected a Quantized, found {type(value).__name__}",
            argument=arg.name,
            help=f"fp4rt.quantize(x, {fmt.name!r}), or fp4rt.Quantized.from_parts(codes, scales, tensor_scale, ...)",
        )
    if difference := format_difference(fmt, value.format):
        raise ArgumentError(
            f"{arg.name!r} is {describe_axes(arg)}, but the value is {value.format.name}: {difference}",
            argument=arg.name,
            code="FP6108",
        )
    pieces: list[tuple[str, object, str]] = [("codes", value.codes, "u8")]
    if fmt.scale is not None:
        pieces.append(("scales", value.scales, fmt.scale if fmt.scale in ("f32", "e8m0") else "e4m3"))
    if fmt.tensor_scale is not None and tensor_scale:
        if value.tensor_scale is None:
            raise ArgumentError(
                f"{arg.name!r} has no tensor scale, but {fmt.name} says `tensor_scale f32 {fmt.tensor_scale}`",
                argument=arg.name,
                help="pass one to Quantized.from_parts (1.0 if there is none)",
            )
        pieces.append(("tensor_scale", value.tensor_scale, "f32"))
    for piece, array, dtype in pieces:
        name = f"{arg.name}.{piece}"
        v = arrays.view(array)
        if v is None:
            raise ArgumentError(
                f"{name} is a {type(array).__name__}; expected a numpy array or a torch tensor", argument=arg.name
            )
        _check_part(arg.name, name, v, dtype)
        parts[name] = v
    expected = tuple(fmt.codes_shape(value.shape))
    if parts[f"{arg.name}.codes"].shape != expected:
        raise ArgumentError(
            f"{arg.name}.codes has shape {parts[f'{arg.name}.codes'].shape}; "
            f"{fmt.name} of shape {tuple(value.shape)} has {expected} ({fmt.bits} bits an element, packed along the last axis)",
            argument=arg.name,
            code="FP6105",
        )
    return tuple(value.shape)


def _check_part(argument: str, name: str, v: View, dtype: str) -> None:
    table = arrays.NUMPY_DTYPES if v.family == "numpy" else arrays.TORCH_DTYPES
    allowed = table[dtype]
    if v.dtype not in allowed:
        raise ArgumentError(
            f"{name!r} has dtype {v.dtype}; expected {' or '.join(allowed)}",
            argument=argument,
            code="FP6104",
            help=_dtype_help(dtype, v),
        )
    if not v.contiguous:
        fix = "np.ascontiguousarray(x)" if v.family == "numpy" else "x.contiguous()"
        raise ArgumentError(
            f"{name!r} is not contiguous: kernels take row-major arrays without gaps",
            argument=argument,
            code="FP6106",
            help=f"pass {fix}",
        )
    if v.address % (v.nbytes // max(1, int(np.prod(v.shape))) or 1):
        raise ArgumentError(f"{name!r} is not aligned to its elements", argument=argument, code="FP6106")


def _dtype_help(dtype: str, v: View) -> str:
    if v.family == "torch":
        return f"x.to(torch.{arrays.TORCH_DTYPES[dtype][0]})"
    if dtype in ("bf16", "e4m3", "e5m2"):
        return f"numpy holds {dtype} as raw codes: fp4rt.encode(x, {dtype!r})"
    return f"x.astype(np.{arrays.NUMPY_DTYPES[dtype][0]})"


def _check_scales(name: str, fmt: BlockFormat, shape: tuple[int, ...], parts: Mapping[str, View]) -> None:
    if fmt.scale is not None:
        scales = parts[f"{name}.scales"]
        expected = fmt.scales_size(shape)
        if scales.shape != (expected,):
            raise ArgumentError(
                f"{name}.scales has shape {scales.shape}; {fmt.name} of shape {shape} has ({expected},) "
                f"scales in the layout {fmt.layout.name}, its padding included",
                argument=name,
                code="FP6105",
                help="fp4rt.Quantized.from_parts checks it early; fp4num's layout.to_buffer builds it",
            )
    if f"{name}.tensor_scale" in parts and parts[f"{name}.tensor_scale"].shape not in ((), (1,)):
        found = parts[f"{name}.tensor_scale"].shape
        raise ArgumentError(f"{name}.tensor_scale has shape {found}; it is one number", argument=name, code="FP6105")


def _check_groups(arg: Arg, parts: Mapping[str, View], dims: Dims) -> None:
    """Offsets and counts in host memory are checked; those on a device are the caller's word (a check would wait)."""
    for axis in arg.axes:
        source = axis.by or axis.upto
        if source is None or source not in parts or parts[source].device is not None:
            continue
        values = arrays.to_host(parts[source].array).astype(np.int64)
        limit = int(sizes.evaluate(axis.extent, dims))
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


def check_overlaps(call: Call) -> None:
    for name in call.written:
        out = call.parts[name]
        if out.nbytes == 0:
            continue
        for other, v in call.parts.items():
            if other == name or v.nbytes == 0:
                continue
            if out.address < v.address + v.nbytes and v.address < out.address + out.nbytes:
                raise ArgumentError(
                    f"output {name!r} overlaps {other!r} in memory",
                    argument=name,
                    code="FP6107",
                    help="give the output its own memory; only an `inout` argument is read and written in place",
                )


def _wrong_device(name: str, v: View, device: int | None) -> ArgumentError:
    where = "the host" if v.device is None else f"cuda:{v.device}"
    if v.family == "numpy":
        return ArgumentError(
            f"{name!r} is a numpy array among torch tensors", argument=name, code="FP6109", help="pass torch tensors only"
        )
    wanted, fix = ("the host", ".cpu()") if device is None else (f"cuda:{device}", f".to('cuda:{device}')")
    return ArgumentError(
        f"{name!r} is on {where}; the kernel runs on {wanted}", argument=name, code="FP6109", help=f"pass x{fix}"
    )


def format_difference(expected: BlockFormat, found: BlockFormat) -> str:
    """Where two formats' stored bits differ in meaning, or "". Names and the quantizer that made the bits are free."""
    if expected is found:
        return ""
    for attribute in ("element", "pack", "scale", "block", "stored", "tensor_scale"):
        a, b = getattr(expected, attribute), getattr(found, attribute)
        if a != b:
            return f"{attribute} {a} is expected, {b} found"
    if expected.scale is not None:
        for attribute in ("coords", "atom_shape", "atom_stride", "order", "pad"):
            a, b = getattr(expected.layout, attribute), getattr(found.layout, attribute)
            if a != b:
                return f"layout {expected.layout.name} is expected, {found.layout.name} found ({attribute} {a} against {b})"
    return ""


def _scale_source(kernel: TypedKernel, arg: Arg) -> str | None:
    """The input whose value is the tensor scale of a quantized output, if it is one: the output then shares it."""
    if arg.format is None or arg.format.tensor_scale is None:
        return None
    for store in kernel.stores:
        value = kernel.values[store.value]
        if store.arg == arg.name and value.op == "quantize" and value.attrs.get("mode") == "tensor_scale":
            source = kernel.values[value.operands[1]]
            if source.op == "arg":
                return str(source.attrs["name"])
    return None
