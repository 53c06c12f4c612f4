"""Whether a typed kernel can be interpreted: every operation has what `fp4rt.ops` says it takes.

The compiler checks what it makes by these rules (`fp4cc.ir.verify`). A manifest may come from anywhere, so it is
checked again when it is read: an operand of the wrong type would be computed with, or end in numpy with an error that
names nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fp4num import BlockFormat
from fp4rt import sizes
from fp4rt.errors import ArtifactError
from fp4rt.ops import OPS
from fp4rt.typed import Arg, Attr, TypedKernel, Value

REDUCTIONS = ("max", "min", "sum", "mean", "mean_square")
MODES = ("none", "tensor_scale", "amax", "scale")
_MAX_AXES, _MAX_HADAMARD = 16, 1 << 16
_INTEGERS = ("i32", "u32", "u64")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a kernel may say: in a file, what the reference can interpret; between passes of the compiler, more.

    `reductions`: kinds of `reduce`; `modes` of `quantize`; `moves_codes`: `unzip` may take quantized tensors apart.
    """

    reductions: tuple[str, ...] = REDUCTIONS
    modes: tuple[str, ...] = MODES
    moves_codes: bool = False


FILE = Dialect()


@dataclass(frozen=True, slots=True)
class _Scope:
    """The sizes that there are, the dialect, and what divides each axis of rows in groups: its name, then whether the
    rows are ragged."""

    dims: frozenset[str]
    dialect: Dialect
    groups: frozenset[tuple[str | None, str | None, bool]] = frozenset()


def check_kernel(kernel: TypedKernel) -> None:
    """ArtifactError FP6009 for the first thing in the kernel that has no meaning, with its place."""
    for place, text in problems(kernel):
        raise ArtifactError(
            f"manifest: kernel.{place}: {text}",
            code="FP6009",
            help="compile the kernel again: its manifest was changed",
        )


def problems(kernel: TypedKernel, dialect: Dialect = FILE) -> Iterator[tuple[str, str]]:
    """All that has no meaning in a typed kernel: its place ("values[3] (mul)") and what is wrong there."""
    dims = frozenset(dim.name for dim in kernel.dims)
    if len({arg.name for arg in kernel.args}) < len(kernel.args):
        yield "args", "two have one name"
    if len(dims) < len(kernel.dims):
        yield "dims", "two have one name"
    for i, dim in enumerate(kernel.dims):
        if not dim.name.isidentifier():
            yield f"dims[{i}]", f"{dim.name!r} is no name"
        if dim.expr is not None:
            yield from ((f"dims[{i}]", text) for text in _unknown(sizes.names(dim.expr), dims))
    for i, arg in enumerate(kernel.args):
        yield from ((f"args[{i}] ({arg.name})", text) for text in _arg(kernel, arg, dims))
    for i, constraint in enumerate(kernel.constraints):
        yield from ((f"constraints[{i}]", text) for text in _unknown(sizes.names(constraint.expr), dims))
    axes = [axis for arg in kernel.args for axis in arg.axes if axis.by is not None or axis.upto is not None]
    groups = frozenset((axis.name, axis.by or axis.upto, axis.by is not None) for axis in axes)
    for i, value in enumerate(kernel.values):
        yield from ((f"values[{i}] ({value.op})", text) for text in _value(kernel, i, _Scope(dims, dialect, groups)))
    yield from _stores(kernel)


def _unknown(names: Iterator[str], dims: frozenset[str]) -> Iterator[str]:
    for name in names:
        if name not in dims:
            yield f"unknown size {name!r}; known: {', '.join(sorted(dims)) or 'none'}"


def _arg(kernel: TypedKernel, arg: Arg, dims: frozenset[str]) -> Iterator[str]:
    if not arg.name.isidentifier():
        yield f"{arg.name!r} is no name"
    if len(arg.axes) > _MAX_AXES:
        yield f"{len(arg.axes)} axes; at most {_MAX_AXES} are read"
    if arg.format is not None and not arg.axes:
        yield "a quantized argument has axes"
    if arg.format is not None and arg.format.scale is not None:
        try:
            arg.format.layout.prove()
        except ValueError as error:
            yield str(error)
    named = [axis.name for axis in arg.axes if axis.name is not None]
    if len(set(named)) < len(named):
        yield f"two of its axes have one name: {named}"
    for axis in arg.axes:
        yield from _unknown(sizes.names(axis.extent), dims)
        for source in (axis.by, axis.upto):
            found = next((a for a in kernel.args if a.name == source), None)
            if source is not None and (
                found is None or found.direction != "in" or found.dtype not in _INTEGERS or len(found.axes) != 1
            ):
                yield f"{source!r} is no input of integers with one axis"


def _value(kernel: TypedKernel, index: int, scope: _Scope) -> Iterator[str]:
    value = kernel.values[index]
    spec = OPS.get(value.op)
    if spec is None:
        yield f"there is no such operation; known: {', '.join(OPS)}"
        return
    if not spec.arity[0] <= len(value.operands) <= spec.arity[1]:
        yield f"it takes {spec.arity[0]} to {spec.arity[1]} operands, not {len(value.operands)}"
        return
    if any(not 0 <= o < index for o in value.operands):
        yield "an operand does not come before it"
        return
    if len(set(value.axes)) < len(value.axes) and value.op != "arg":
        yield f"two of its axes have one name: {list(value.axes)}"
    operands = [kernel.values[o] for o in value.operands]
    if spec.kind == "elementwise":
        yield from _elementwise(value, operands)
    elif value.op in ("arg", "tensor_scale"):
        yield from _argument(kernel, value)
    elif value.op == "const":
        number = value.attrs.get("value")
        if not isinstance(number, int | float) or value.axes or value.dtype not in ("f32", "bool"):
            yield f"{number!r} is no number of type f32 or bool"
    elif value.op == "dim":
        yield from _size(value.attrs.get("expr"), scope.dims)
        if value.axes or value.dtype != "i32":
            yield "a size is an i32 without axes"
    else:
        yield from _WHOLE[value.op](value, operands, scope)


def _elementwise(value: Value, operands: list[Value]) -> Iterator[str]:
    spec = OPS[value.op]
    axes = {axis for operand in operands for axis in operand.axes}
    types = [operand.dtype for operand in operands]
    if set(value.axes) != axes:
        yield f"its axes {list(value.axes)} are not its operands' {sorted(axes)}"
    if any(isinstance(t, BlockFormat) for t in (*types, value.dtype)):
        yield "it takes and gives numbers, no quantized tensors"
    elif spec.takes != "any" and any(t != spec.takes for t in types):
        yield f"its operands are {types}, not {spec.takes}"
    elif spec.result != "attr" and value.dtype != spec.result:
        yield f"its type is {value.dtype}, not {spec.result}"
    elif value.op == "where" and types != ["bool", "f32", "f32"]:
        yield f"its operands are {types}, not bool, f32, f32"


def _argument(kernel: TypedKernel, value: Value) -> Iterator[str]:
    name = value.attrs.get("name")
    arg = next((a for a in kernel.args if a.name == name), None)
    if arg is None or arg.direction == "out":
        yield f"{name!r} is no argument that can be read"
    elif value.op == "tensor_scale":
        batches = tuple(axis.name or "" for axis in arg.axes[:-2]) if arg.format and arg.format.each_batch else ()
        if arg.format is None or arg.format.tensor_scale is None or value.dtype != "f32":
            yield f"{name!r} has no tensor scale"
        elif value.axes != batches:
            yield f"the tensor scale of {name!r} has the axes {list(batches)}, not {list(value.axes)}"
    elif value.dtype != arg.dtype or value.axes != tuple(axis.name or "" for axis in arg.axes):
        yield f"its type or its axes are not those of {name!r}"


def _size(expr: Attr, dims: frozenset[str]) -> Iterator[str]:
    if isinstance(expr, bool) or not isinstance(expr, int | str | tuple):
        yield f"{expr!r} is no size"
        return
    try:
        sizes.check(expr)  # pyright: ignore[reportArgumentType]
        yield from _unknown(sizes.names(expr), dims)  # pyright: ignore[reportArgumentType]
    except sizes.SizeError as error:
        yield str(error)


# whole tensors


def _numbers(value: Value, operands: list[Value]) -> Iterator[str]:
    if any(isinstance(operand.dtype, BlockFormat) for operand in operands) or value.dtype != "f32":
        yield "it takes and gives numbers, no quantized tensors"


def _stream(value: Value) -> Iterator[str]:
    """What draws random numbers says of which stream."""
    stream = value.attrs.get("stream", 0)
    if isinstance(stream, bool) or not isinstance(stream, int) or not 0 <= stream < 1 << 32:
        yield f"its stream is a whole number below 2^32, not {stream!r}"


def _matmul(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    a, b = operands
    k, ragged, groups, contracted = (value.attrs.get(key) for key in ("k", "ragged", "groups", "contracted"))
    if min(len(a.axes), len(b.axes), len(value.axes)) < 2 or value.dtype != "f32":
        yield "it multiplies matrices and gives f32"
    elif a.axes[-1] != k or b.axes[-2] != k or k in value.axes or value.axes[-2:] != (a.axes[-2], b.axes[-1]):
        yield f"{list(a.axes)} @ {list(b.axes)} over {k!r} is not {list(value.axes)}"
    elif value.attrs.get("accumulate", "fast") != "fast":
        yield f"it accumulates {value.attrs['accumulate']!r}, which is not known"
    elif contracted is not None:
        yield from _contracted(value, operands, scope)
    elif (ragged is None) != (groups is None):
        yield "a ragged product has the attributes ragged and groups"
    elif ragged is None and set(value.axes[:-2]) != {*a.axes[:-2], *b.axes[:-2]}:
        yield f"its batch axes {list(value.axes[:-2])} are not its operands'"
    elif ragged is not None and (len(a.axes), len(b.axes), b.axes[0]) != (2, 3, groups):
        yield f"a ragged product is [m, k] @ [{groups}, k, n], not {list(a.axes)} @ {list(b.axes)}"


def _contracted(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    """A product over rows in groups: [groups, m, n], of matrices of ragged rows or of one for each group."""
    k, ragged, groups, contracted = (value.attrs.get(key) for key in ("k", "ragged", "groups", "contracted"))
    ways = {way for axis, source, way in scope.groups if axis == k and source == contracted}
    if ragged is not None or not isinstance(groups, str) or "accumulate" in value.attrs:
        yield "a product over rows in groups has the attributes contracted and groups, and f32 sums"
    elif value.axes[:-2] != (groups,) or any(operand.axes[:-2] not in ((), (groups,)) for operand in operands):
        yield f"a product over rows in groups is [{groups}, m, n], not {list(value.axes)}"
    elif len(ways) != 1:
        yield f"{contracted!r} does not divide {k!r}"
    elif True in ways and any(groups in operand.axes for operand in operands):
        yield f"ragged rows {k!r} and their groups {groups!r} are in one operand"


def _of_group(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    ragged, groups, rows = (value.attrs.get(key) for key in ("ragged", "groups", "rows"))
    axes = operands[0].axes
    if isinstance(operands[0].dtype, BlockFormat) or value.dtype != operands[0].dtype:
        yield "it takes and gives numbers of one type, no quantized tensors"
    elif groups not in axes or rows in axes or value.axes != tuple(rows if a == groups else a for a in axes):
        yield f"it does not make {list(axes)} into {list(value.axes)} with {rows!r} for {groups!r}"
    elif not isinstance(ragged, str):
        yield f"{ragged!r} is no name of offsets"


def _gather(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    x, rows = operands
    if x.op != "arg" or rows.op not in ("arg", "pick") or rows.dtype != "i32" or not x.axes or not rows.axes:
        yield "it takes an argument, and one of i32 with the numbers of rows"
    elif value.axes != (*rows.axes, *x.axes[1:]) or value.dtype != x.dtype:
        yield f"rows {list(rows.axes)} of {list(x.axes)} are not {list(value.axes)}"


def _pick(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    axes, axis, index = operands[0].axes, value.attrs.get("axis"), value.attrs.get("index")
    if operands[0].op != "arg" or isinstance(value.dtype, BlockFormat) or value.dtype != operands[0].dtype:
        yield "it takes an argument of plain elements, and gives such"
    elif axis not in axes or value.axes != tuple(each for each in axes if each != axis):
        yield f"{list(axes)} without {axis!r} is not {list(value.axes)}"
    elif isinstance(index, bool) or not isinstance(index, int) or index < 0:
        yield f"its index is a whole number, not {index!r}"


def _transpose(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    axes = operands[0].axes
    if len(axes) < 2 or value.axes != (*axes[:-2], axes[-1], axes[-2]) or value.dtype != operands[0].dtype:
        yield "its type is not its operand's with the last two axes swapped"


def _dequantize(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    if not isinstance(operands[0].dtype, BlockFormat) or value.dtype != "f32" or value.axes != operands[0].axes:
        yield "its operand is not quantized, or its type is not f32 with its operand's axes"


def _quantize(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    yield from _stream(value)
    mode, rounding = value.attrs.get("mode", "none"), value.attrs.get("rounding", "nearest")
    if not isinstance(value.dtype, BlockFormat) or value.axes != operands[0].axes or not value.axes:
        yield "its type is not a format, or its axes are not its operand's"
    elif any(isinstance(operand.dtype, BlockFormat) for operand in operands):
        yield "its operands are numbers"
    elif mode not in scope.dialect.modes or rounding not in ("nearest", "stochastic"):
        yield f"mode {mode!r} and rounding {rounding!r} are not known"
    elif len(operands) != 1 + (mode != "none") + (rounding == "stochastic"):
        yield f"{len(operands)} operands for mode {mode} and rounding {rounding}"
    elif value.dtype.each_batch and len(value.axes) > 2 and rounding != "nearest":
        yield f"{value.dtype.name} has a tensor scale for each batch, and is rounded to nearest"
    elif mode in ("tensor_scale", "amax"):
        batches = value.axes[:-2] if value.dtype.each_batch else ()
        if operands[1].axes != batches:
            yield f"its {mode} has the axes {list(operands[1].axes)}, not {list(batches)}"


def _reduce(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    yield from _numbers(value, operands)
    over, axes = value.attrs.get("over"), operands[0].axes
    named = (over,) if isinstance(over, str) else over
    kind = value.attrs.get("kind")
    if kind not in scope.dialect.reductions:
        yield f"its kind is one of {', '.join(scope.dialect.reductions)}, not {kind!r}"
    elif not isinstance(named, tuple) or not named or not set(named) <= set(axes) or len(set(named)) < len(named):
        yield f"over is {over!r}; its operand has the axes {list(axes)}"
    elif set(value.axes) != set(axes) - set(named):
        yield f"its axes are {list(value.axes)} of {list(axes)} over {list(named)}"


def _unzip(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    if not scope.dialect.moves_codes:
        yield from _numbers(value, operands)
    elif value.dtype not in ("f32", operands[0].dtype):
        yield f"its type is {value.dtype}, not its operand's"
    axes, (axis, into, part) = operands[0].axes, (value.attrs.get(key) for key in ("axis", "into", "part"))
    yield from _size(value.attrs.get("group"), scope.dims)
    if part not in (0, 1) or axis not in axes or set(value.axes) != {into if a == axis else a for a in axes}:
        yield f"part {part!r} of {axis!r} into {into!r} does not make {list(axes)} into {list(value.axes)}"


def _hadamard(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    yield from _numbers(value, operands)
    size = value.attrs.get("size")
    if value.attrs.get("axis") not in operands[0].axes or set(value.axes) != set(operands[0].axes):
        yield "its axes are not its operand's, or it has not the axis"
    if isinstance(size, bool) or not isinstance(size, int) or not 2 <= size <= _MAX_HADAMARD or size & (size - 1):
        yield f"its size is a power of two up to {_MAX_HADAMARD}, not {size!r}"


def _uniform(value: Value, operands: list[Value], scope: _Scope) -> Iterator[str]:
    yield from _numbers(value, operands)
    yield from _unknown(iter(value.axes), scope.dims)
    yield from _stream(value)


_WHOLE = {
    "matmul": _matmul,
    "of_group": _of_group,
    "gather": _gather,
    "pick": _pick,
    "transpose": _transpose,
    "dequantize": _dequantize,
    "quantize": _quantize,
    "reduce": _reduce,
    "unzip": _unzip,
    "hadamard": _hadamard,
    "uniform": _uniform,
}


def _stores(kernel: TypedKernel) -> Iterator[tuple[str, str]]:
    written = sorted(store.arg for store in kernel.stores)
    outputs: Mapping[str, Arg] = {arg.name: arg for arg in kernel.outputs}
    if written != sorted(outputs):
        yield "stores", f"it stores {written}, and its outputs are {sorted(outputs)}"
        return
    for i, store in enumerate(kernel.stores):
        arg = outputs[store.arg]
        if not 0 <= store.value < len(kernel.values):
            yield f"stores[{i}]", f"{arg.name} is given a value that does not exist"
            continue
        value = kernel.values[store.value]
        axes = [axis.name for axis in arg.axes]
        if store.at is not None:
            known = 0 <= store.at < len(kernel.values)
            text = _scattered(arg, kernel.values[store.at]) if known else "the numbers of its rows do not exist"
            if text:
                yield f"stores[{i}]", text
                continue
            axes = [*kernel.values[store.at].axes, *axes[1:]]
        if (arg.format or value.dtype) != value.dtype or (arg.format is None and isinstance(value.dtype, BlockFormat)):
            yield f"stores[{i}]", f"{arg.name} is not given its own type"
        elif not set(value.axes) <= set(axes) or (arg.format is not None and list(value.axes) != axes):
            yield f"stores[{i}]", f"{arg.name} has the axes {axes}, and the value {list(value.axes)}"


def _scattered(arg: Arg, rows: Value) -> str:
    """Why rows of an argument cannot be stored by these numbers; "" where they can."""
    if rows.op != "arg" or rows.dtype != "i32" or not rows.axes:
        return "the numbers of rows are an argument of i32"
    if arg.direction != "inout" or not arg.axes or arg.format is not None:
        return f"{arg.name} is no inout tensor of plain elements, whose other rows would stay"
    return ""
