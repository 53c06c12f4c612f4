"""FP8 operands with one f32 scale a row: their codes are multiplied, and the products by the scales afterwards.

A row's scale is a factor of all its sums, so `x @ w.T` is the product of x's codes times a vector along x's rows. The
reference multiplies each element by its scale first; both round, by less than the bound that a product has, and not at
all where scales are powers of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fp4cc.ir.kernel import Arg, Kernel, Value
from fp4cc.ir.verify import verify
from fp4cc.passes.problem.placement import same_placement
from fp4num import LAYOUTS

_ELEMENTS = {"e4m3": "e4m3", "e5m2": "e5m2"}


def split_row_scales(kernel: Kernel) -> Kernel:
    """The kernel with such operands as two arguments each: plain codes under the old name, and their scales.

    The kernel itself if it has none. Both refer to the buffers of the one argument (`Arg.source`).
    """
    split = [arg for arg in kernel.args if _splits(kernel, arg)]
    if not split:
        return kernel
    made = _Split(kernel, {arg.name: arg for arg in split}).kernel()
    verify(made, after="splitting row scales")
    return made


def _splits(kernel: Kernel, arg: Arg) -> bool:
    """Whether an argument has one f32 scale a row, row after row, and is nothing but an operand of products."""
    fmt = arg.format
    if arg.direction != "in" or fmt is None or fmt.scale != "f32" or fmt.stored != (1, "all"):
        return False
    if fmt.element not in _ELEMENTS or fmt.tensor_scale is not None or fmt.block != fmt.stored:
        return False
    return same_placement(fmt.layout, LAYOUTS["linear"]) and all(
        user.op == "matmul" for user in _users(kernel, _leaves(kernel, arg.name))
    )


def _leaves(kernel: Kernel, name: str) -> list[int]:
    return [i for i, value in enumerate(kernel.values) if value.op == "arg" and value.attrs["name"] == name]


def _users(kernel: Kernel, indices: Sequence[int]) -> list[Value]:
    """What uses some values, seen through transpositions and rows by number."""
    found: list[Value] = []
    for index, value in enumerate(kernel.values):
        if any(operand in indices for operand in value.operands):
            found += _users(kernel, [index]) if value.op in ("transpose", "gather") else [value]
    return found


@dataclass
class _Split:
    source: Kernel
    args: dict[str, Arg]
    values: list[Value] = field(default_factory=list[Value])
    new: dict[int, int] = field(default_factory=dict[int, int])
    scales: dict[str, int] = field(default_factory=dict[str, int])  # by argument: the value of its scales

    def kernel(self) -> Kernel:
        """The kernel with its arguments split."""
        args = tuple(part for arg in self.source.args for part in self._parts(arg))
        for index, value in enumerate(self.source.values):
            self.new[index] = self._value(value)
        stores = tuple(
            replace(s, value=self.new[s.value], at=None if s.at is None else self.new[s.at]) for s in self.source.stores
        )
        return replace(self.source, args=args, values=tuple(self.values), stores=stores)

    def _parts(self, arg: Arg) -> list[Arg]:
        """An argument, or its codes and scales."""
        fmt = arg.format
        if arg.name not in self.args or fmt is None:
            return [arg]
        name, axes = self._scales_name(arg.name), arg.axes[:-1]
        return [
            replace(arg, dtype=_ELEMENTS[fmt.element], source=f"{arg.name}.codes"),
            replace(arg, name=name, dtype="f32", axes=axes, source=f"{arg.name}.scales"),
        ]

    def _scales_name(self, arg: str) -> str:
        """The name of the argument with the scales."""
        names = {other.name for other in self.source.args}
        name, number = f"{arg}_scales", 1
        while name in names:
            number += 1
            name = f"{arg}_scales{number}"
        return name

    def _add(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def _value(self, value: Value) -> int:
        """The value again; of a product, what it becomes times its operands' scales."""
        operands = [self.source.values[operand] for operand in value.operands]
        value = replace(value, operands=tuple(self.new[operand] for operand in value.operands))
        if value.op == "arg" and value.attrs["name"] in self.args:
            name = str(value.attrs["name"])
            fmt = self.args[name].format
            self.scales[name] = self._add(
                replace(
                    value, dtype="f32", axes=value.axes[:-1], attrs={**value.attrs, "name": self._scales_name(name)}
                )
            )
            return self._add(replace(value, dtype=_ELEMENTS[fmt.element] if fmt else value.dtype))
        if value.op in ("transpose", "gather") and not isinstance(operands[0].dtype, str):
            return self._add(replace(value, dtype=self.values[value.operands[0]].dtype))
        factors = [self._factor(each) for each in operands if self._argument(each)] if value.op == "matmul" else []
        if not factors:
            return self._add(value)
        named = {"name": value.attrs["name"]} if "name" in value.attrs else {}
        unnamed = {key: attr for key, attr in value.attrs.items() if key != "name"}
        found = self._add(replace(value, attrs=unnamed))
        for place, factor in enumerate(factors, 1):
            attrs = named if place == len(factors) else {}
            found = self._add(Value("mul", (found, factor), "f32", value.axes, value.span, attrs))
        return found

    def _factor(self, operand: Value) -> int:
        """The scales of an operand's rows: of rows by number, those with the same numbers."""
        scales = self.scales[str(self._argument(operand))]
        if operand.op != "gather":
            return scales
        numbers = self.new[operand.operands[1]]
        axes = (*self.values[numbers].axes, *self.values[scales].axes[1:])
        return self._add(Value("gather", (scales, numbers), "f32", axes, operand.span))

    def _argument(self, operand: Value) -> str | None:
        """The argument under an operand, if it is split."""
        while operand.op in ("transpose", "gather"):
            operand = self.source.values[operand.operands[0]]
        name = str(operand.attrs.get("name", ""))
        return name if operand.op == "arg" and name in self.args else None
