"""Evaluates the values of a typed kernel in order.

Elementwise operations are `fp4rt.ops.OPS[op].numpy`, each rounded once to f32. `matmul` sums in f64 and rounds once to
f32: equal to any order of f32 sums where those are exact, and within their bound elsewhere (docs/numerics.md). The
whole-tensor operations are in `reference.tensorops`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from fp4num import Quantized, decode, dequantize, encode
from fp4rt import sizes
from fp4rt.errors import DeviceError
from fp4rt.limits import NO_DEADLINE, Deadline
from fp4rt.ops import OPS
from fp4rt.reference import products, tensorops
from fp4rt.reference.tensor import Array, Gathered, Tensor, Turned, rows_of
from fp4rt.typed import Arg, TypedKernel, Value, shape_of

Operand: TypeAlias = "Tensor | Quantized | Turned | Gathered"


@dataclass(frozen=True, slots=True)
class Environment:
    """One call: sizes, params, and the arguments by name (arrays of the argument's own codes, or Quantized)."""

    dims: Mapping[str, int]
    scalars: Mapping[str, float]
    arrays: Mapping[str, Any]
    #: The offsets argument of each ragged axis: an axis is ragged in all arguments alike.
    groups: Mapping[str, str] = field(default_factory=dict[str, str])
    #: The counts argument of each masked axis, and the axis that numbers its groups.
    masks: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])


def evaluate(kernel: TypedKernel, env: Environment, deadline: Deadline = NO_DEADLINE) -> list[Operand]:
    """Every value of the kernel.

    DeviceError FP6307 for an operation that the reference does not know, or operands that it cannot take: a typed
    kernel says what its values are by name, and only the call shows that their shapes fit. FP6121 after the deadline.
    """
    values: list[Operand] = []
    for index, value in enumerate(kernel.values):
        deadline.check(f"interpreting {kernel.name}")
        try:
            values.append(_value(kernel, value, [values[i] for i in value.operands], env))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, MemoryError) as error:
            raise DeviceError(
                f"value {index} of {kernel.name} ({value.op} over {', '.join(value.axes) or 'no axes'}) cannot be "
                f"computed: {error}",
                code="FP6307",
                help="if fp4cc made this kernel, please report it with the spec and the arguments",
            ) from error
    return values


def _value(kernel: TypedKernel, value: Value, operands: list[Operand], env: Environment) -> Operand:
    if value.op in _LEAVES:
        return _LEAVES[value.op](kernel, value, env)
    if value.op in _SPECIAL:
        return _SPECIAL[value.op](value, operands, env)
    if value.op in OPS and OPS[value.op].kind == "elementwise":
        return _elementwise(value, operands)
    raise DeviceError(f"the reference has no operation {value.op!r}", code="FP6307")


def float_of(codes: Array, dtype: str) -> Array:
    """The numbers in an array of an argument's element type: floats as f32, integers and booleans as they are."""
    if dtype in ("bf16", "e4m3", "e5m2"):
        raw = codes.view(np.uint16 if dtype == "bf16" else np.uint8)
        return decode(raw, dtype)
    return codes.astype(np.float32) if dtype == "f16" else codes


def codes_of(data: Array, dtype: str) -> Array:
    """f32 values (or integers) rounded once to an element type, as numpy's array of its codes."""
    if dtype == "f32":
        return np.asarray(data, np.float32)
    if dtype in ("bf16", "e4m3", "e5m2"):
        return encode(np.asarray(data, np.float32), dtype)
    if dtype == "f16":
        return encode(np.asarray(data, np.float32), "f16").view(np.float16)
    return np.asarray(data, {"i32": np.int32, "u32": np.uint32, "u64": np.uint64, "bool": np.bool_}[dtype])


# leaves


def _arg(kernel: TypedKernel, value: Value, env: Environment) -> Operand:
    arg = kernel.arg(str(value.attrs["name"]))
    if arg.direction == "param":
        number = env.scalars[arg.name]
        return Tensor(np.asarray(number, np.float32 if arg.dtype == "f32" else np.int64), ())
    array = env.arrays[arg.name]
    if isinstance(array, Quantized):
        return array
    data = float_of(array, str(arg.dtype))
    if arg.direction == "inout":
        data = data.copy()
    return Tensor(data.reshape(shape_of(arg, env.dims)), _axis_names(arg, value))


def _axis_names(arg: Arg, value: Value) -> tuple[str, ...]:
    """An anonymous axis gets a name that no other value has, so that it broadcasts with nothing."""
    if len(value.axes) == len(arg.axes):
        return value.axes
    return tuple(x.name or f"{arg.name}.{i}" for i, x in enumerate(arg.axes))


def _const(kernel: TypedKernel, value: Value, env: Environment) -> Tensor:
    number = value.attrs["value"]
    return Tensor(np.asarray(number, np.bool_ if value.dtype == "bool" else np.float32), ())


def _dim(kernel: TypedKernel, value: Value, env: Environment) -> Tensor:
    expr = value.attrs["expr"]
    if not isinstance(expr, (int, str, tuple)):
        raise DeviceError(f"dim: {expr!r} is not a size", code="FP6307")
    return Tensor(np.asarray(int(sizes.evaluate(expr, env.dims)), np.int64), ())  # pyright: ignore[reportArgumentType]


def _tensor_scale(kernel: TypedKernel, value: Value, env: Environment) -> Tensor:
    array = env.arrays[str(value.attrs["name"])]
    return Tensor(np.asarray(array.tensor_scale, np.float32).reshape(array.shape[: len(value.axes)]), value.axes)


_LEAVES: dict[str, Callable[[TypedKernel, Value, Environment], Operand]] = {
    "arg": _arg,
    "const": _const,
    "dim": _dim,
    "tensor_scale": _tensor_scale,
}


# elementwise


def _elementwise(value: Value, operands: list[Operand]) -> Tensor:
    arrays = [_tensor(value, o).align(value.axes) for o in operands]
    function = apply(value)
    if function is None:
        raise DeviceError(f"the reference has no meaning for {value.op!r}", code="FP6307")
    with np.errstate(all="ignore"):
        return Tensor(function(*arrays), value.axes)


def apply(value: Value) -> Callable[..., Array] | None:
    """The meaning of an elementwise operation on arrays; None where it has none."""
    if value.op == "cast":
        return lambda x: _cast(x, str(value.dtype))
    return OPS[value.op].numpy if value.op in OPS else None


def _cast(data: Array, dtype: str) -> Array:
    """Rounded to `dtype` and, for float types, held as f32; floats to integers truncate and saturate, NaN is 0."""
    if dtype in ("i32", "u32", "u64"):
        target = {"i32": np.int32, "u32": np.uint32, "u64": np.uint64}[dtype]
        if data.dtype.kind != "f":
            return data.astype(target)
        info = np.iinfo(target)
        wide = np.trunc(np.nan_to_num(data.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
        inside = (wide >= info.min) & (wide < float(info.max) + 1)
        clipped = np.where(wide < info.min, info.min, info.max).astype(target)
        return np.where(inside, np.where(inside, wide, 0).astype(target), clipped)
    if dtype == "bool":
        return data != 0
    return float_of(codes_of(data.astype(np.float32), dtype), dtype)


def _tensor(value: Value, operand: Operand) -> Tensor:
    if not isinstance(operand, Tensor):
        raise DeviceError(f"{value.op} of a quantized value: it needs dequantize first", code="FP6307")
    return operand


# tensor operations


def _matmul(value: Value, operands: list[Operand], env: Environment) -> Tensor:
    with np.errstate(all="ignore"):
        sums = products.terms(operands[0], operands[1], value, env.arrays).sums()
        return Tensor(sums.astype(np.float32), value.axes)


def _of_group(value: Value, operands: list[Operand], env: Environment) -> Tensor:
    return tensorops.of_group(value, _tensor(value, operands[0]), env.arrays)


def _gather(value: Value, operands: list[Operand], env: Environment) -> Operand:
    source, rows = operands[0], _tensor(value, operands[1]).data
    if isinstance(source, Quantized):
        return Gathered(source, rows, value.axes)
    return Tensor(rows_of(_tensor(value, source).data, rows), value.axes)


def _pick(value: Value, operands: list[Operand], env: Environment) -> Operand:
    x, axis, index = _tensor(value, operands[0]), str(value.attrs["axis"]), value.attrs["index"]
    return Tensor(np.take(x.data, int(cast("int", index)), axis=x.axes.index(axis)), value.axes)


def _transpose(value: Value, operands: list[Operand], env: Environment) -> Operand:
    source = operands[0]
    if isinstance(source, Gathered):
        raise DeviceError("transpose of rows of a quantized value", code="FP6307")
    if isinstance(source, Quantized):
        return Turned(source, value.axes)
    return source.value if isinstance(source, Turned) else source.swap_last()


def _dequantize(value: Value, operands: list[Operand], env: Environment) -> Tensor:
    source = operands[0]
    if isinstance(source, Turned):
        return Tensor(dequantize(source.value), source.stored_axes).swap_last()
    if isinstance(source, Gathered):
        return source.of(dequantize(source.value))
    if not isinstance(source, Quantized):
        raise DeviceError("dequantize of a value that is not quantized", code="FP6307")
    return Tensor(dequantize(source), value.axes)


def _quantize(value: Value, operands: list[Operand], env: Environment) -> Quantized:
    x = _tensor(value, operands[0])
    others = [_tensor(value, o) for o in operands[1:]]
    shape = tuple(x.extent(axis) if axis in x.axes else 1 for axis in value.axes)
    by = env.groups.get(value.axes[-2]) if len(value.axes) > 1 else None
    offsets = None if by is None else env.arrays[by]
    data = np.broadcast_to(x.align(value.axes), shape)
    unused = unused_rows(value.axes, shape, env)
    if unused is not None:  # no block's scale depends on them
        data = np.where(unused, np.float32(0), data)
    found = tensorops.quantize(data, others, value, offsets)
    return found if unused is None else tensorops.with_padding(found, np.broadcast_to(unused, shape))


def unused_rows(axes: tuple[str, ...], shape: tuple[int, ...], env: Environment) -> NDArray[np.bool_] | None:
    """Where a tensor has rows past the count of their group, in a shape that broadcasts to its own; None: nowhere."""
    found: NDArray[np.bool_] | None = None
    for axis, (counts, groups) in env.masks.items():
        if axis in axes and groups in axes:
            index, group = np.arange(shape[axes.index(axis)]), np.asarray(env.arrays[counts]).astype(np.int64)
            both = Tensor(index[None, :] >= group[:, None], (groups, axis)).align(axes)
            found = both if found is None else found | both
    return found


def _whole(function: Callable[..., Tensor]) -> Callable[[Value, list[Operand], Environment], Tensor]:
    def wrapped(value: Value, operands: list[Operand], env: Environment) -> Tensor:
        return function(value, [_tensor(value, o) for o in operands], env.dims)

    return wrapped


_SPECIAL: dict[str, Callable[[Value, list[Operand], Environment], Operand]] = {
    "matmul": _matmul,
    "of_group": _of_group,
    "gather": _gather,
    "pick": _pick,
    "transpose": _transpose,
    "dequantize": _dequantize,
    "quantize": _quantize,
    "reduce": _whole(tensorops.reduce),
    "unzip": _whole(tensorops.unzip),
    "hadamard": _whole(tensorops.hadamard),
    "uniform": _whole(tensorops.uniform),
}
