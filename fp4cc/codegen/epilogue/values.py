"""Values of the typed kernel as Python expressions over the helpers of an emitted kernel."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fp4cc.codegen.names import Names
from fp4cc.ir.kernel import Kernel

#: The helper of each operation whose helper has another name.
HELPERS: Mapping[str, str] = {
    "min": "minimum", "max": "maximum", "abs": "absolute", "and": "both", "or": "either", "not": "is_not",
}  # fmt: skip
ROUNDING = {"bf16": "round_bf16", "f16": "round_f16", "e4m3": "round_e4m3", "e5m2": "round_e5m2"}
#: Longer expressions are split at an operand, which then has a line of its own.
WIDTH = 96


class Origin(NamedTuple):
    """The kinds of leaves that a value is computed from, constants apart, and the last argument among them."""

    kinds: frozenset[str]
    arg: str | None


@dataclass
class ValuePrinter:
    """Prints values as expressions. `known` maps a value to the text that stands for it where it is used."""

    kernel: Kernel
    known: dict[int, str] = field(default_factory=dict[int, str])
    origins: list[Origin] = field(default_factory=list["Origin"])

    def child(self) -> ValuePrinter:
        """A printer for an inner scope, which knows what this one knows."""
        return ValuePrinter(self.kernel, dict(self.known), self.origins)

    def title(self, index: int) -> str:
        """A name for a value: the spec's, or one made of what it is computed from."""
        value = self.kernel.values[index]
        name = value.attrs.get("name")
        if name is not None and value.op != "tensor_scale":
            return str(name)
        origin = self._origin(index)
        if origin.kinds == frozenset(("tensor_scale",)):
            return "scale"
        return f"{origin.arg}_term" if origin.kinds == frozenset(("arg",)) else "term"

    def _origin(self, index: int) -> Origin:
        """What the value is computed from. Each value is looked at once: walks from each one up are exponential."""
        for value in self.kernel.values[len(self.origins) : index + 1]:
            below = [self.origins[operand] for operand in value.operands]
            if value.op == "const":
                made = Origin(frozenset(), None)
            elif not below:
                made = Origin(frozenset((value.op,)), str(value.attrs["name"]) if value.op == "arg" else None)
            else:
                args = [origin.arg for origin in below if origin.arg is not None]
                made = Origin(frozenset().union(*(origin.kinds for origin in below)), args[-1] if args else None)
            self.origins.append(made)
        return self.origins[index]

    def lines(
        self, values: Sequence[int], named: Mapping[int, str | None], results: Iterable[int], names: Names
    ) -> list[str]:
        """Assignments that compute `values`, in order.

        A value gets its own line if the spec names it, if it is used more than once, or if it is one of `results`
        (which is needed later); others stand inside the expression that uses them.
        """
        computed = [v for v in values if self._alias(v) is None]
        uses = Counter(self.resolve(o) for v in computed for o in self.kernel.values[v].operands)
        wanted = {self.resolve(v) for v in results}
        lines: list[str] = []
        for value in values:
            name = named.get(value)
            if not self._is_line(value) or (name is None and uses[value] <= 1 and value not in wanted):
                continue
            text = self._text(value, lines, names, top=True)
            self.known[value] = names.new(name or self.title(value))
            lines.append(f"{self.known[value]} = {text}")
        return lines

    def text(self, value: int, lines: list[str], names: Names) -> str:
        """The value as an expression; parts that make it too long are assigned in `lines` first."""
        return self._text(value, lines, names, top=False)

    def resolve(self, index: int) -> int:
        """The value of which this one is just another name."""
        alias = self._alias(index)
        return index if alias is None else self.resolve(alias)

    def _is_line(self, value: int) -> bool:
        """Whether it computes something: a constant or another name for a value does not."""
        return self.kernel.values[value].op != "const" and self._alias(value) is None

    def _alias(self, index: int) -> int | None:
        """The operand that the value is just another name of."""
        value = self.kernel.values[index]
        if value.op in ("transpose", "of_group"):  # a tile's rows are all of one group
            return value.operands[0]
        if value.op == "dequantize" and self.kernel.values[value.operands[0]].op in ("arg", "gather"):
            return value.operands[0]
        if value.op == "cast" and value.dtype == "f32" and self.kernel.values[value.operands[0]].dtype != "bool":
            return value.operands[0]
        return None

    def _text(self, index: int, lines: list[str], names: Names, *, top: bool) -> str:
        if index in self.known:
            return self.known[index]
        alias = self._alias(index)
        if alias is not None:
            return self._text(alias, lines, names, top=top)
        value = self.kernel.values[index]
        if value.op == "const":
            if is_negative_zero(value.attrs["value"]):
                return "neg(0.0)"  # the DSL takes the constants -0.0 and 0.0 for one
            return _number(value.attrs["value"])
        operands = [self._text(o, lines, names, top=False) for o in value.operands]
        if value.op == "cast" and self.kernel.values[value.operands[0]].dtype == "bool":
            helper, operands = "where", [*operands, "1.0", "0.0"]
        elif value.op == "cast":
            helper = ROUNDING[str(value.dtype)]
        elif value.op == "where" and value.dtype == "bool":
            helper = "where_bool"
        else:
            helper = HELPERS.get(value.op, value.op)
        text = f"{helper}({', '.join(operands)})"
        if not top and names.width(text) > WIDTH:
            name = names.new(self.title(index))
            lines.append(f"{name} = {text}")
            self.known[index] = name
            return name
        return text


def is_negative_zero(value: object) -> bool:
    """Whether a constant is -0.0."""
    return isinstance(value, float) and value == 0.0 and math.copysign(1.0, value) < 0


def _number(value: object) -> str:
    """A constant of the spec as Python text."""
    if isinstance(value, bool):
        return f"cutlass.Boolean({value})"
    if not isinstance(value, int | float):
        raise TypeError(f"not a number: {value!r}")
    number = float(value)
    return repr(number) if abs(number) != float("inf") else f'float("{number}")'
