"""Kernels in two launches: outputs whose scales are one for a whole row, column or matrix.

No block of such an output can be quantized before all of it has been seen. The first launch takes the statistic of the
blocks, the second quantizes with it. With a product the first also leaves the values in the workspace, so that it is
made once; without one the second computes them again from the inputs, which costs no more than reading them would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fp4cc.ir.kernel import Arg, Axis, Kernel, Scalar, Store, Value
from fp4cc.ir.verify import verify
from fp4num import BlockFormat
from fp4num.rules import rule

#: Types that carry a value from one launch to the next.
CARRIED: tuple[Scalar, ...] = ("f32", "bf16", "f16")
#: Types that hold all of a value rounded to them; other values are carried in f32.
_NARROW: tuple[Scalar, ...] = ("bf16", "f16")


@dataclass(frozen=True, slots=True)
class Split:
    """A kernel as two: what `first` writes to the `carried` arguments, `second` reads.

    `why` there are two, and what would make it one, are for `explain`.
    """

    first: Kernel
    second: Kernel
    carried: tuple[Arg, ...]
    why: str
    instead: tuple[str, ...]


def split(kernel: Kernel) -> Split | None:
    """The two kernels, or None for a kernel that takes a single launch."""
    late = [store for store in kernel.stores if _takes_all(kernel, store)]
    if not late:
        return None
    made = _computed_again(kernel, late) if _inputs_have_all(kernel, late) else _carried(kernel, late)
    verify(made.first, "split")
    verify(made.second, "split")
    return made


def _takes_all(kernel: Kernel, store: Store) -> bool:
    """Whether an output has a scale for all of a row or of a matrix, which nobody gives."""
    value = kernel.values[store.value]
    fmt = kernel.arg(store.arg).format
    if fmt is None or value.op != "quantize" or value.attrs.get("mode", "none") != "none":
        return False
    return fmt.block in ((1, "all"), ("all", "all")) and rule(fmt.quantizer).statistic != "std"


def _inputs_have_all(kernel: Kernel, late: Sequence[Store]) -> bool:
    """Whether the values can be computed again: without a product, and tiled as an input is."""
    if any(value.op == "matmul" for value in kernel.values):
        return False
    inputs = [{axis.name for axis in arg.axes} for arg in kernel.args if arg.direction in ("in", "inout")]
    return all(any(set(kernel.values[store.value].axes) <= axes for axes in inputs) for store in late)


def _computed_again(kernel: Kernel, late: Sequence[Store]) -> Split:
    """The first kernel takes statistics and stores nothing else: the second still needs the old values of an inout."""
    names = FreshNames(kernel)
    values = list(kernel.values)
    statistics = {store.arg: _statistic(kernel, store, values, names) for store in late}
    read = [replace(arg, direction="in") if arg.direction == "inout" else arg for arg in kernel.args]
    hidden = tuple(carrier(values, store) for store in statistics.values())
    first = replace(
        kernel,
        args=(*(arg for arg in read if arg.direction != "out"), *hidden),
        values=tuple(values),
        stores=tuple(statistics.values()),
    )
    again = list(kernel.values)
    stores = [
        _quantized(kernel, store, again, kernel.values[store.value].operands[0], statistics[store.arg].arg)
        if store in late
        else store
        for store in kernel.stores
    ]
    return Split(first, second_kernel(kernel, kernel.args, hidden, again, stores), hidden, _why(late), _INSTEAD)


def _carried(kernel: Kernel, late: Sequence[Store]) -> Split:
    """The first kernel does everything else, and leaves the values that are yet to be quantized."""
    names, values = FreshNames(kernel), list(kernel.values)
    statistics = {store.arg: _statistic(kernel, store, values, names) for store in late}
    sources: dict[int, Store] = {}
    for store in late:
        source = _source(kernel, store)
        if source not in sources:
            sources[source] = Store(names.new(f"{store.arg}_values"), source, store.span)
    carried = (*sources.values(), *statistics.values())
    hidden = tuple(carrier(values, store) for store in carried)
    quantized = {store.arg for store in late}
    first = replace(
        kernel,
        args=(*(arg for arg in kernel.args if arg.name not in quantized), *hidden),
        values=tuple(values),
        stores=(*(store for store in kernel.stores if store.arg not in quantized), *carried),
    )
    read: list[Value] = []
    stores: list[Store] = []
    for store in late:
        arg = next(a for a in hidden if a.name == sources[_source(kernel, store)].arg)
        x = _read(kernel, store, read, arg)
        stores.append(_quantized(kernel, store, read, x, statistics[store.arg].arg))
    states = {str(value.attrs["name"]) for value in read if value.op == "arg"}
    args = tuple(arg for arg in kernel.args if arg.name in quantized or arg.name in states)
    return Split(first, second_kernel(kernel, args, hidden, read, stores), hidden, _why(late), _INSTEAD)


def second_kernel(
    kernel: Kernel, args: Sequence[Arg], hidden: Sequence[Arg], values: Sequence[Value], stores: Sequence[Store]
) -> Kernel:
    """The kernel of the second launch, with what says where the groups of its rows are."""
    axes = (axis for arg in (*args, *hidden) for axis in arg.axes)
    groups = {axis.by or axis.upto for axis in axes} - {arg.name for arg in args}
    return replace(
        kernel,
        name=f"{kernel.name}_2",
        args=(
            *(arg for arg in kernel.args if arg.name in groups),
            *args,
            *(replace(arg, direction="in") for arg in hidden),
        ),
        values=tuple(values),
        stores=tuple(stores),
        schedules=(),
    )


# Pieces.

_INSTEAD = ("1: with scales that are given (`scale = s`)",)


def _why(late: Sequence[Store]) -> str:
    outputs = ", ".join(store.arg for store in late)
    return f"a scale of {outputs} is one for a whole row, column or matrix, which must be measured first"


class FreshNames:
    """Names for arguments that the spec does not have."""

    def __init__(self, kernel: Kernel) -> None:
        self._taken = {arg.name for arg in kernel.args}

    def new(self, wanted: str) -> str:
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return wanted


def _statistic(kernel: Kernel, store: Store, values: list[Value], names: FreshNames) -> Store:
    """Append the statistic of an output's blocks, and say where it is stored."""
    quantized = kernel.values[store.value]
    fmt = quantized.dtype
    if not isinstance(fmt, BlockFormat):
        raise TypeError(f"{store.arg} is not quantized")
    over = quantized.axes[-1:] if fmt.block[0] == 1 else quantized.axes[-2:]
    kept = tuple(axis for axis in quantized.axes if axis not in over)
    attrs = {"kind": rule(fmt.quantizer).statistic, "over": over}
    values.append(Value("reduce", (quantized.operands[0],), "f32", kept, quantized.span, attrs))
    return Store(names.new(f"{store.arg}_amax"), len(values) - 1, store.span)


def carrier(values: Sequence[Value], store: Store) -> Arg:
    """The argument that carries a value, by a type that holds all of it."""
    value = values[store.value]
    dtype: Scalar = "bf16" if value.dtype == "bf16" else "f16" if value.dtype == "f16" else "f32"
    return Arg(store.arg, "out", dtype, tuple(Axis(axis, axis) for axis in value.axes), store.span)


def _source(kernel: Kernel, store: Store) -> int:
    """What an output quantizes, as it lies in the product, and before it was widened."""
    index = kernel.values[store.value].operands[0]
    while (value := kernel.values[index]).op == "transpose" or _widens(kernel.values, value):
        index = value.operands[0]
    return index


def _widens(values: Sequence[Value], value: Value) -> bool:
    return value.op == "cast" and value.dtype == "f32" and values[value.operands[0]].dtype in _NARROW


def _read(kernel: Kernel, store: Store, values: list[Value], arg: Arg) -> int:
    """Append what reads a carried value as the output's `quantize` takes it."""
    axes = tuple(str(axis.name) for axis in arg.axes)
    index = once(values, Value("arg", (), arg.dtype, axes, arg.span, {"name": arg.name}))
    if arg.dtype != "f32":
        index = once(values, Value("cast", (index,), "f32", axes, arg.span))
    wanted = kernel.values[store.value].axes
    return index if wanted == axes else once(values, Value("transpose", (index,), "f32", wanted, arg.span))


def once(values: list[Value], value: Value) -> int:
    """Append a value unless it is there."""
    if value not in values:
        values.append(value)
    return values.index(value)


def _quantized(kernel: Kernel, store: Store, values: list[Value], x: int, statistic: str) -> Store:
    """Append the output's `quantize` of `x` by a statistic that is known, and say that it is stored."""
    value = kernel.values[store.value]
    over = value.axes[-1:] if _rows(value) == 1 else value.axes[-2:]
    kept = tuple(axis for axis in value.axes if axis not in over)
    operands = [x, once(values, Value("arg", (), "f32", kept, value.span, {"name": statistic}))]
    if value.attrs.get("rounding") == "stochastic":
        operands.append(once(values, kernel.values[value.operands[-1]]))
    attrs: Mapping[str, object] = {**value.attrs, "mode": "statistic"}
    values.append(replace(value, operands=tuple(operands), attrs=attrs))
    return Store(store.arg, len(values) - 1, store.span)


def _rows(value: Value) -> int | str:
    if not isinstance(value.dtype, BlockFormat):
        raise TypeError("not quantized")
    return value.dtype.block[0]
