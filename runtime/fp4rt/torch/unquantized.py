"""Layers for training with their quantizers off: what is left of a recipe is exact, up to the rounding of its type.

A layer's kernels say what they compute (their typed kernels). Here those values are computed by torch, in the type of
the arguments, with no rounding between them and each quantizer the mean of what it gives: so transforms, signs, factors
and the order of operands are the recipe's own, and `torch.autograd.gradcheck` in float64 says whether they are right.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch  # pyright: ignore[reportMissingImports]

from fp4num import BlockFormat
from fp4rt.errors import DeviceError
from fp4rt.torch.operators import Operator
from fp4rt.torch.qat import FakeQuantize
from fp4rt.torch.training import TrainingLinear
from fp4rt.typed import TypedKernel, Value

#: What is rounded stochastically to 3/4 of it: the kernels that use it multiply by 4/3 for each such operand.
_MEANS = {"quartet_stochastic": 3 / 4}
_ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    "abs": torch.abs,
    "add": torch.add,
    "div": torch.div,
    "le": torch.le,
    "mul": torch.mul,
    "sub": torch.sub,
    "where": torch.where,
}


@contextmanager
def unquantized(model: Any) -> Generator[Any]:
    """Within the block the model's layers for training compute without quantizing: `gradcheck` of them holds.

    A `TrainingLinear` then takes x and its weight in any type of floats, of sizes that its Hadamard transforms divide,
    and goes through its own forward and backward pass; a `FakeQuantize` passes on what it gets. Other layers stay as
    they are. It is slow, and not for training. DeviceError FP6307 for kernels with operations that are not known here.
    """
    changed: list[tuple[Any, str, Any]] = []
    try:
        for module in model.modules():
            if isinstance(module, TrainingLinear):
                changed.append((module, "_step", module._step))  # pyright: ignore[reportPrivateUsage]
                step = copy.copy(module._step)  # pyright: ignore[reportPrivateUsage]
                step.operators, step.exact = _exact(step.operators), True
                module._step = step  # pyright: ignore[reportPrivateUsage]
            elif isinstance(module, FakeQuantize):
                changed.append((module, "_operators", module._operators))  # pyright: ignore[reportPrivateUsage]
                changed.append((module, "exact", False))
                module._operators, module.exact = _exact(module._operators), True  # pyright: ignore[reportPrivateUsage]
        yield model
    finally:
        for module, name, value in changed:
            setattr(module, name, value)


def _exact(operators: Mapping[str, Operator]) -> dict[str, Any]:
    return {role: Exact(operator.kernel.manifest.kernel) for role, operator in operators.items()}


@dataclass(frozen=True, slots=True)
class _Named:
    """A tensor and the names of its axes."""

    data: Any
    axes: tuple[str, ...]

    def align(self, axes: tuple[str, ...]) -> Any:
        """The data with these axes in this order, of size 1 where it has none of that name."""
        present = [self.axes.index(a) for a in axes if a in self.axes]
        shape = [self.data.shape[self.axes.index(a)] if a in self.axes else 1 for a in axes]
        return self.data.permute(present).reshape(shape)


_Op: TypeAlias = "Callable[[Value, list[_Named]], Any]"


class Exact:
    """Called like the operator of a kernel, with plain tensors for its quantized arguments, and gives such."""

    def __init__(self, kernel: TypedKernel) -> None:
        self._kernel = kernel

    def __call__(self, **args: Any) -> dict[str, Any]:
        """The outputs by name, in the type of the first argument of floats with axes."""
        first = next(args[a.name] for a in self._kernel.args if a.direction == "in" and len(a.axes) > 1)
        values: list[_Named] = []
        for value in self._kernel.values:
            data = self._leaf(value, args, first) if not value.operands else None
            if data is None:
                data = _computed(value, [values[i] for i in value.operands])
            values.append(_Named(data, value.axes))
        return {store.arg: values[store.value].data for store in self._kernel.stores}

    def _leaf(self, value: Value, args: Mapping[str, Any], first: Any) -> Any:
        if value.op in ("const", "tensor_scale"):  # plain tensors have no scale
            return torch.tensor(value.attrs.get("value", 1), dtype=first.dtype, device=first.device)
        if value.op != "arg":
            raise _unknown(value)
        found = args[str(value.attrs["name"])]
        return found.to(first.dtype) if found.is_floating_point() else found


def _computed(value: Value, operands: list[_Named]) -> Any:
    if value.op in _WHOLE:
        return _WHOLE[value.op](value, operands)
    if value.op not in _ELEMENTWISE:
        raise _unknown(value)
    return _ELEMENTWISE[value.op](*[x.align(value.axes) for x in operands])


def _quantize(value: Value, operands: list[_Named]) -> Any:
    fmt, x = value.dtype, operands[0].data
    assert isinstance(fmt, BlockFormat)
    return x * _MEANS.get(fmt.quantizer, 1)


def _hadamard(value: Value, operands: list[_Named]) -> Any:
    x, size = operands[0], int(value.attrs["size"])  # pyright: ignore[reportArgumentType]
    at = x.axes.index(str(value.attrs["axis"]))
    runs = x.data.movedim(at, -1).unflatten(-1, (-1, size))
    if len(operands) > 1:
        runs = runs * operands[1].data
    h = runs.new_ones(1, 1)
    while len(h) < size:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return (runs @ (h / math.sqrt(size))).flatten(-2).movedim(-1, at)


def _reduce(value: Value, operands: list[_Named]) -> Any:
    if value.attrs["kind"] != "max" or value.axes:
        raise _unknown(value)
    return operands[0].data.max()


def _unknown(value: Value) -> DeviceError:
    return DeviceError(f"without quantizers there is no operation {value.op!r}", code="FP6307")


_WHOLE: dict[str, _Op] = {
    "cast": lambda value, operands: operands[0].data,
    "dequantize": lambda value, operands: operands[0].data,
    "hadamard": _hadamard,
    "matmul": lambda value, operands: operands[0].data @ operands[1].data,
    "quantize": _quantize,
    "reduce": _reduce,
    "transpose": lambda value, operands: operands[0].data.mT,
}
