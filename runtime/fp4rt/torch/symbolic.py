"""Sizes of outputs where dims are torch's symbols: what `fp4rt.sizes` computes of numbers, without asking a symbol for
its value. No constraint is looked at: the call does that, and names what does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4num import BlockFormat
from fp4num.formats import Extent
from fp4rt.errors import ArgumentError
from fp4rt.sizes import shifted
from fp4rt.strict import Expr
from fp4rt.typed import Arg, TypedKernel

Size = Any  # int or torch.SymInt

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "sub": lambda a, b: a - b,
    "div": lambda a, b: a // b,  # exact where the call goes through
    "floordiv": lambda a, b: a // b,
    "ceildiv": lambda a, b: -(-a // b),
    "mod": lambda a, b: a % b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "min": torch.sym_min,
    "max": torch.sym_max,
}


def evaluate(expr: Expr, dims: Mapping[str, Size]) -> Size:
    """The value of a size expression of a checked manifest."""
    if isinstance(expr, int):
        return expr
    if isinstance(expr, str):
        return dims[expr]
    operator, *operands = expr
    assert isinstance(operator, str)  # checked when the manifest was read
    values = [evaluate(operand, dims) for operand in operands]
    if operator in _BINARY:
        return reduce(_BINARY[operator], values)
    if operator == "neg":
        return -values[0]
    if operator == "not":
        return torch.sym_not(values[0])
    if operator == "where":
        return torch.sym_ite(values[0], values[1], values[2])
    return any(values) if operator == "or" else all(values)


def dims_of(kernel: TypedKernel, shapes: Mapping[str, Sequence[Size]]) -> dict[str, Size]:
    """All dims by the shapes of the inputs. ArgumentError FP6105 for a number of axes, FP6110 for a dim that no shape
    has."""
    dims: dict[str, Size] = {d.name: d.value for d in kernel.dims if d.value is not None}
    for arg in kernel.args:
        shape = shapes.get(arg.name)
        if shape is None:
            continue
        if len(shape) != len(arg.axes):
            raise ArgumentError(
                f"{arg.name!r} has {len(shape)} axes; {kernel.name} takes {len(arg.axes)}",
                argument=arg.name,
                code="FP6105",
            )
        for axis, size in zip(arg.axes, shape, strict=True):
            if isinstance(axis.extent, str):
                dims.setdefault(axis.extent, size)
    for arg in kernel.args:
        for axis, size in zip(arg.axes, shapes.get(arg.name, ()), strict=False):
            found = shifted(axis.extent)
            if found is not None:
                dims.setdefault(found[0], size - found[1])
    left = [d for d in kernel.dims if d.name not in dims]
    while left:
        ready = [d for d in left if d.expr is not None and _known(d.expr, dims)]
        if not ready:
            raise ArgumentError(f"no argument determines the dim {left[0].name}", argument=left[0].name, code="FP6110")
        for dim in ready:
            assert dim.expr is not None
            dims[dim.name] = evaluate(dim.expr, dims)
        left = [d for d in left if d.name not in dims]
    return dims


def output_shape(arg: Arg, dims: Mapping[str, Size]) -> list[Size]:
    """The shape of an argument."""
    return [evaluate(axis.extent, dims) for axis in arg.axes]


def scale_count(f: BlockFormat, shape: Sequence[Size], groups: Size | None) -> Size:
    """Elements of the scale buffer: `BlockFormat.scales_size`, or `fp4num.groups.buffer_size` for row groups."""
    batches: Size = 1
    for n in shape[:-2]:
        batches = batches * n
    tall, wide = f.stored
    rows, columns = shape[-2] if len(shape) > 1 else 1, _count(shape[-1], wide)
    extents = {name: f.layout.extent(name) for name in ("batch", "row", "k")}
    if groups is None:
        row_atoms = _ceil(_count(rows, tall), extents["row"])
    elif tall == "all":
        row_atoms = groups
    elif extents["row"] * tall == 1:
        row_atoms = rows
    else:
        row_atoms = rows // (extents["row"] * tall) + torch.sym_min(groups, rows)
    return _ceil(batches, extents["batch"]) * row_atoms * _ceil(columns, extents["k"]) * f.layout.atom_size


def _known(expr: Expr, dims: Mapping[str, Size]) -> bool:
    if isinstance(expr, (int, str)):
        return not isinstance(expr, str) or expr in dims
    return all(_known(operand, dims) for operand in expr[1:])


def _count(n: Size, extent: Extent) -> Size:
    return 1 if extent == "all" else _ceil(n, extent)


def _ceil(n: Size, step: int) -> Size:
    return n if step == 1 else -(-n // step)
