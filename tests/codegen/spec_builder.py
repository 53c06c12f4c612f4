"""Typed kernels built by hand for the epilogue's tests: a product of two nvfp4 operands and what follows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fp4cc.ir.kernel import Arg, Attr, Axis, Constraint, Dim, Direction, Kernel, Scalar, Store, Value
from fp4cc.source import Source, Span
from fp4num import FORMATS
from fp4rt.ops import OPS


@dataclass
class Spec:
    """Builds a kernel `c = f(a @ b.T, ...)`; values are their indices."""

    text: str = "# built by hand\n"
    batched: bool = False
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    args: list[Arg] = field(default_factory=list[Arg])
    values: list[Value] = field(default_factory=list[Value])
    stores: list[Store] = field(default_factory=list[Store])
    constraints: list[Constraint] = field(default_factory=list[Constraint])

    def __post_init__(self) -> None:
        self.span = Span(Source("spec.fp4", self.text), 0, len(self.text.rstrip()))
        lead = ("L",) if self.batched else ()
        a = self._operand("a", (*lead, "M", "K"))
        b = self._operand("b", (*lead, "N", "K"))
        bt = self._value("transpose", (b,), FORMATS["nvfp4"], (*lead, "K", "N"))
        self.axes = (*lead, "M", "N")
        self.product = self._value("matmul", (a, bt), "f32", self.axes, {"k": "K"})

    def _operand(self, name: str, axes: tuple[str, ...]) -> int:
        self.args.append(Arg(name, "in", FORMATS["nvfp4"], tuple(Axis(a, a) for a in axes), self.span))
        return self._value("arg", (), FORMATS["nvfp4"], axes, {"name": name})

    def _value(self, op: str, operands: tuple[int, ...], dtype: object, axes: tuple[str, ...], attrs: dict[str, Attr] | None = None) -> int:
        self.values.append(Value(op, operands, dtype, axes, self.span, attrs or {}))  # type: ignore[arg-type]
        return len(self.values) - 1

    def arg(self, name: str, dtype: Scalar, axes: tuple[str, ...] = (), direction: Direction = "in") -> int:
        """An argument read as f32."""
        if name not in {arg.name for arg in self.args}:
            self.args.append(Arg(name, direction, dtype, tuple(Axis(a, a) for a in axes), self.span))
        leaf = self._value("arg", (), dtype, axes, {"name": name})
        return leaf if dtype == "f32" else self._value("cast", (leaf,), "f32", axes)

    def const(self, value: float) -> int:
        """A number."""
        return self._value("const", (), "f32", (), {"value": value})

    def tensor_scale(self, name: str) -> int:
        """The tensor scale of an operand."""
        return self._value("tensor_scale", (), "f32", (), {"name": name})

    def op(self, op: str, *operands: int, name: str | None = None, dtype: Scalar | None = None) -> int:
        """An elementwise operation; its axes are the union of its operands', in the product's order."""
        found = {a for o in operands for a in self.values[o].axes}
        axes = tuple(a for a in self.axes if a in found)
        result = OPS[op].result
        kind: Scalar = dtype or ("bool" if result == "bool" else "f32")
        return self._value(op, operands, kind, axes, {"name": name} if name else None)

    def store(self, name: str, value: int, dtype: Scalar, axes: tuple[str, ...] | None = None, direction: Direction = "out") -> None:
        """An output."""
        if name not in {arg.name for arg in self.args}:
            self.args.append(Arg(name, direction, dtype, tuple(Axis(a, a) for a in axes or self.axes), self.span))
        self.stores.append(Store(name, value, self.span))

    def kernel(self) -> Kernel:
        """The kernel."""
        names = (*(("L",) if self.batched else ()), "M", "N", "K")
        dims = tuple(Dim(name, self.span, self.sizes.get(name)) for name in names)
        return Kernel("k", dims, tuple(self.args), tuple(self.values), tuple(self.stores), tuple(self.constraints), (), self.span)
