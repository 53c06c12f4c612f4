"""The checks of single arguments: dtype, shape, memory, format. Each error names the argument and the fix."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import numpy as np

from fp4num import BlockFormat, NumericsError, Quantized
from fp4num.groups import buffer_size
from fp4num.scale_arrays import check_bytes
from fp4rt import arrays, sizes
from fp4rt.among import check_groups
from fp4rt.arrays import View
from fp4rt.errors import ArgumentError
from fp4rt.typed import Arg, TypedKernel, shape_of

#: Shapes whose buffer sizes an argument remembers; past it all are dropped.
_MAX_SHAPES = 512
#: The first byte that is no number, by the type of the scales; f32 has none of its own.
_NO_SCALE = {"e4m3": 0x7F, "e8m0": 0xFF}


class Slot:
    """One tensor argument, prepared for checking values against it."""

    def __init__(self, arg: Arg) -> None:
        self.arg = arg
        self.name = arg.name
        self.format = arg.format
        self.extents = tuple(x.extent for x in arg.axes)
        #: For (axis, name) of each extent that is one dim, and whether there are others to compute.
        self.bare = tuple((i, e) for i, e in enumerate(self.extents) if isinstance(e, str))
        #: (axis, name, number) of each extent that is a dim and a number.
        found = ((i, sizes.shifted(e)) for i, e in enumerate(self.extents))
        self.shifted = tuple((i, *sum_) for i, sum_ in found if sum_ is not None)
        self.computed = len(self.bare) < len(self.extents)
        self.grouped = any(x.by or x.upto for x in arg.axes)
        #: The offsets argument of a quantized argument whose rows are ragged: its scales lie group by group.
        self.offsets = arg.axes[-2].by if arg.format is not None and len(arg.axes) > 1 else None
        self.parts = part_names(arg)
        #: The buffer of block scales of which not every byte is one.
        self.scales = f"{arg.name}.scales" if arg.format is not None and arg.format.scale in _NO_SCALE else None
        self._buffers: dict[tuple[tuple[int, ...], int | None], tuple[tuple[int, ...], int]] = {}
        #: Formats that were found to mean the same, by id; held so that an id stays theirs.
        self._same: dict[int, BlockFormat] = {}

    def shape(self, dims: Mapping[str, int]) -> tuple[int, ...]:
        """The argument's shape for these dims."""
        if not self.computed:
            return tuple([dims[name] for _, name in self.bare])
        return shape_of(self.arg, dims)

    def buffers(
        self, fmt: BlockFormat, shape: tuple[int, ...], groups: int | None = None
    ) -> tuple[tuple[int, ...], int]:
        """The shape of a quantized argument's codes and the elements of its scales, for its number of row groups."""
        found = self._buffers.get((shape, groups))
        if found is None:
            try:
                scales = fmt.scales_size(shape) if groups is None else buffer_size(fmt, shape, groups)
                found = tuple(fmt.codes_shape(shape)), scales
            except ValueError as error:
                raise ArgumentError(f"{self.name!r}: {error}", argument=self.name, code="FP6105") from error
            if len(self._buffers) >= _MAX_SHAPES:
                self._buffers.clear()
            self._buffers[shape, groups] = found
        return found

    def read(self, value: object, parts: dict[str, View], *, tensor_scale: bool = True) -> tuple[int, ...]:
        """Check a value, add its memory to `parts`, and return its shape."""
        if self.format is not None:
            return self._read_quantized(self.format, value, parts, tensor_scale)
        arg = self.arg
        if not self.extents and arg.dtype == "f32" and isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                with np.errstate(over="raise"):
                    value = np.array(value, np.float32)
            except (OverflowError, FloatingPointError):
                raise ArgumentError(
                    f"{arg.name!r} is f32[]: its value is too large for one", argument=arg.name
                ) from None
        v = arrays.view(value)
        if v is None:
            raise ArgumentError(
                f"{arg.name!r} is {describe_axes(arg)}: expected a numpy array or a torch tensor, "
                f"found {type(value).__name__}",
                argument=arg.name,
                help="use np.asarray(x, np.float32) or a torch tensor" if not isinstance(value, Quantized) else "",
            )
        _check_memory(arg.name, arg.name, v, str(arg.dtype))
        parts[arg.name] = v
        return v.shape

    def _read_quantized(
        self, fmt: BlockFormat, value: object, parts: dict[str, View], tensor_scale: bool
    ) -> tuple[int, ...]:
        arg = self.arg
        if not isinstance(value, Quantized):
            raise ArgumentError(
                f"{arg.name!r} is {describe_axes(arg)}: expected a Quantized, found {type(value).__name__}",
                argument=arg.name,
                help=f"fp4rt.quantize(x, {fmt.name!r}), or fp4rt.Quantized.from_parts(codes, scales, ...)",
            )
        shape = self._check_whole(fmt, value)
        if len(shape) != len(self.extents):
            raise wrong_rank(arg, shape)
        groups = self._groups(value)
        codes_shape, scale_count = self.buffers(fmt, shape, groups)
        codes = self._piece("codes", value.codes, fmt.element, parts)
        if codes.shape != codes_shape:
            raise ArgumentError(
                f"{arg.name}.codes has shape {codes.shape}; {fmt.name} of shape {shape} has {codes_shape} "
                f"({fmt.bits} bits an element, packed along the last axis)",
                argument=arg.name,
                code="FP6105",
            )
        if fmt.scale is not None:
            scales = self._piece("scales", value.scales, fmt.scale, parts)
            if scales.shape != (scale_count,):
                raise ArgumentError(
                    f"{arg.name}.scales has shape {scales.shape}; {fmt.name} of shape {shape} has ({scale_count},) "
                    f"scales in the layout {fmt.layout.name}, its padding included"
                    + ("" if groups is None else f", for {groups} groups of rows"),
                    argument=arg.name,
                    code="FP6105",
                    help="fp4rt.Quantized.from_parts checks it early; its layout= builds it",
                )
        if fmt.tensor_scale is not None and tensor_scale:
            if value.tensor_scale is None:
                raise ArgumentError(
                    f"{arg.name!r} has no tensor scale, but {fmt.name} says `tensor_scale f32 {fmt.tensor_scale}`",
                    argument=arg.name,
                    help="pass one to Quantized.from_parts (1.0 if there is none)",
                )
            scale = self._piece("tensor_scale", value.tensor_scale, "f32", parts)
            wanted = fmt.tensor_scale_shape(shape)
            if scale.shape not in ((wanted,) if wanted else ((), (1,))):
                one = f"one number a batch, of shape {wanted}" if wanted else "one number"
                raise ArgumentError(
                    f"{arg.name}.tensor_scale has shape {scale.shape}; it is {one}",
                    argument=arg.name,
                    code="FP6105",
                )
        return shape

    def _check_whole(self, fmt: BlockFormat, value: Quantized) -> tuple[int, ...]:
        """The shape of a value whose format is this argument's: a `Quantized` may be made without any checks."""
        found: object = value.format
        if not isinstance(found, BlockFormat):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(
                f"{self.name!r} is a Quantized whose format is {found!r}; expected {fmt.name}",
                argument=self.name,
                code="FP6108",
                help="fp4rt.Quantized.from_parts(codes, scales, tensor_scale, format, shape) checks it early",
            )
        self._check_format(fmt, found)
        try:
            shape = tuple(operator.index(n) for n in value.shape)
        except TypeError:
            shape = (-1,)
        if any(n < 0 for n in shape):
            raise ArgumentError(
                f"{self.name!r} is a Quantized of the shape {value.shape!r}, which is no tensor's",
                argument=self.name,
                code="FP6105",
                help="the shape is the tensor's sizes in elements, such as (128, 256)",
            )
        return shape

    def _groups(self, value: Quantized) -> int | None:
        """The number of row groups of a value for a ragged argument; the offsets themselves are compared later."""
        arg = self.arg
        if (value.offsets is None) == (self.offsets is None):
            return None if value.offsets is None else int(value.offsets.shape[0]) - 1
        if value.offsets is not None:
            raise ArgumentError(
                f"{arg.name!r} is {describe_axes(arg)}, but the scales of the value start anew for each group of rows",
                argument=arg.name,
                code="FP6113",
                help="make the value without offsets",
            )
        raise ArgumentError(
            f"{arg.name!r} is {describe_axes(arg)}: its scales start a new atom row for each group, but the value was "
            "made without offsets",
            argument=arg.name,
            code="FP6113",
            help=f"give offsets={self.offsets} to fp4rt.quantize or to Quantized.from_parts",
        )

    def check_data(self, value: object, parts: Mapping[str, View], dims: Mapping[str, int]) -> None:
        """Check what an input in host memory holds where it has to be of some kind: scales, offsets and counts."""
        if self.scales is not None and isinstance(value, Quantized):
            _check_scale_bytes(self.name, value, parts[self.scales])
        if self.grouped:
            check_groups(self.arg, parts, dims)
            self.check_offsets(value, parts)

    def check_offsets(self, value: object, parts: Mapping[str, View]) -> None:
        """ArgumentError FP6113 unless the offsets of a ragged value are those of the call: their number and, in host
        memory, each."""
        if self.offsets is None or not isinstance(value, Quantized) or self.offsets not in parts:
            return
        mine, call = value.offsets, parts[self.offsets]
        if mine is call.array:
            return
        same = tuple(mine.shape) == tuple(call.shape)
        own = arrays.view(mine)
        if same and call.device is None and own is not None and own.device is None:
            same = np.array_equal(arrays.to_host(mine), arrays.to_host(call.array))
        if not same:
            raise ArgumentError(
                f"{self.name!r} was made with other offsets than {self.offsets!r} of this call has",
                argument=self.name,
                code="FP6113",
                help=f"fp4rt.quantize(x, ..., offsets={self.offsets}): scales lie group by group",
            )

    def _piece(self, piece: str, array: object, dtype: str, parts: dict[str, View]) -> View:
        name = f"{self.name}.{piece}"
        v = arrays.view(array)
        if v is None:
            raise ArgumentError(
                f"{name} is a {type(array).__name__}; expected a numpy array or a torch tensor", argument=self.name
            )
        _check_memory(self.name, name, v, dtype)
        parts[name] = v
        return v

    def _check_format(self, expected: BlockFormat, found: BlockFormat) -> None:
        if found is expected or id(found) in self._same:
            return
        if difference := format_difference(expected, found):
            raise ArgumentError(
                f"{self.name!r} is {describe_axes(self.arg)}, but the value is {found.name}: {difference}",
                argument=self.name,
                code="FP6108",
            )
        if len(self._same) < _MAX_SHAPES:
            self._same[id(found)] = found


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


def wrong_rank(arg: Arg, shape: tuple[int, ...]) -> ArgumentError:
    """The error for a value of another number of axes."""
    return ArgumentError(
        f"{arg.name!r} has {len(shape)} axes {tuple(shape)}; its type is {describe_axes(arg)}",
        argument=arg.name,
        code="FP6105",
    )


def _check_memory(argument: str, name: str, v: View, dtype: str) -> None:
    if v.masked:
        raise ArgumentError(
            f"{name!r} is a numpy masked array: a kernel would compute with the masked elements too",
            argument=argument,
            help="pass x.filled(0), or whatever the masked elements shall count as",
        )
    if not v.plain:
        code, what, help = arrays.why_not_plain(v.array)
        raise ArgumentError(f"{name!r} {what}", argument=argument, code=code, help=help)
    allowed = (arrays.NUMPY_DTYPES if v.family == "numpy" else arrays.TORCH_DTYPES)[dtype]
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
    if v.address % v.item_size:
        raise ArgumentError(f"{name!r} is not aligned to its elements", argument=argument, code="FP6106")


def _dtype_help(dtype: str, v: View) -> str:
    if v.family == "torch":
        return f"x.to(torch.{arrays.TORCH_DTYPES[dtype][0]})"
    if dtype in ("bf16", "e4m3", "e5m2"):
        return f"numpy holds {dtype} as raw codes: fp4rt.encode(x, {dtype!r})"
    return f"x.astype(np.{arrays.NUMPY_DTYPES[dtype][0]})"


def _check_scale_bytes(argument: str, value: Quantized, scales: View) -> None:
    """Block scales are unsigned: a tensor core has no meaning for one with a sign. NaN in the padding spoils products.

    A look at a device would wait for it.
    """
    fmt = value.format
    nan = _NO_SCALE[str(fmt.scale)]
    if scales.device is not None or not scales.nbytes:
        return
    data = arrays.host_bytes(scales)
    if int(data.max()) < nan:
        return
    try:
        check_bytes(data, fmt, tuple(value.shape), value.offsets, nan_blocks=True, what=f"{argument}.scales")
    except NumericsError as error:
        raise ArgumentError(
            str(error),
            argument=argument,
            code="FP6114",
            help="Quantized.from_parts says so when the value is made; its layout= lays scales anew",
        ) from None


def wrong_device(name: str, v: View, device: int | None) -> ArgumentError:
    """The error for an array that is not where the kernel runs."""
    where = "the host" if v.device is None else f"cuda:{v.device}"
    if v.family == "numpy":
        return ArgumentError(
            f"{name!r} is a numpy array among torch tensors",
            argument=name,
            code="FP6109",
            help="pass torch tensors only",
        )
    wanted, fix = ("the host", ".cpu()") if device is None else (f"cuda:{device}", f".to('cuda:{device}')")
    return ArgumentError(
        f"{name!r} is on {where}; the kernel runs on {wanted}", argument=name, code="FP6109", help=f"pass x{fix}"
    )


def format_difference(expected: BlockFormat, found: BlockFormat) -> str:
    """Where two formats' stored bits differ in meaning, or "". Names and the quantizer that made the bits are free."""
    for attribute in ("element", "pack", "scale", "block", "stored", "tensor_scale"):
        a, b = getattr(expected, attribute), getattr(found, attribute)
        if a != b:
            return f"{attribute} {a} is expected, {b} found"
    if expected.each_batch != found.each_batch:
        a, b = ("of each batch" if f.each_batch else "of the whole tensor" for f in (expected, found))
        return f"a tensor scale {a} is expected, one {b} found"
    if expected.scale is not None:
        for attribute in ("coords", "atom_shape", "atom_stride", "order", "pad"):
            a, b = getattr(expected.layout, attribute), getattr(found.layout, attribute)
            if a != b:
                names = f"layout {expected.layout.name} is expected, {found.layout.name} found"
                return f"{names} ({attribute} {a} against {b})"
    return ""


def scale_source(kernel: TypedKernel, arg: Arg) -> str | None:
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
