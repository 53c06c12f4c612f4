"""Reductions over an axis of row numbers, written out: `sum(w * z[inverse], over = J)`, w[T, J] and inverse i32[T, J].

Each of the few indices of J is a term of its own, whose inputs are picked along J, and the terms are joined in the
order that a reduction has (`fp4rt.reference.tensorops.ordered_sum`): sums by halves in blocks of 32, then the blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Attr, Kernel, Value
from fp4cc.ir.sizes import Sizes
from fp4cc.ir.verify import verify
from fp4cc.passes.rewrites.wide import pruned
from fp4rt.ops import OPS

#: More terms than these are refused: each is a row that a thread loads.
MOST_TERMS = 64
_BLOCK = 32


def unroll(kernel: Kernel) -> Kernel:
    """The kernel with such reductions written out; the kernel itself if it has none.

    Raises DiagnosticError FP4057 where the axis has no known size, or something in between cannot be picked from.
    """
    if not any(_numbers_rows(kernel, value) for value in kernel.values):
        return kernel
    made = pruned(_Unroll(kernel, Sizes.of(kernel.dims)).kernel())
    verify(made, after="writing reductions out")
    return made


def _numbers_rows(kernel: Kernel, value: Value) -> bool:
    """Whether a value is a reduction over an axis that numbers rows."""
    over = _over(value)
    return over is not None and any(
        each.op == "gather" and over in kernel.values[each.operands[1]].axes for each in kernel.values
    )


def _over(value: Value) -> str | None:
    """The one axis that a reduction is over; None of others."""
    over = value.attrs.get("over") if value.op == "reduce" else None
    if isinstance(over, tuple) and len(over) == 1:
        return str(over[0])
    return over if isinstance(over, str) else None


@dataclass
class _Unroll:
    source: Kernel
    sizes: Sizes
    values: list[Value] = field(default_factory=list[Value])
    made: dict[object, int] = field(default_factory=dict[object, int])

    def kernel(self) -> Kernel:
        stores = tuple(
            replace(s, value=self.copy(s.value, {}), at=None if s.at is None else self.copy(s.at, {}))
            for s in self.source.stores
        )
        return replace(self.source, values=tuple(self.values), stores=stores)

    def copy(self, old: int, at: Mapping[str, int]) -> int:
        """A value at an index of some axes, which its copy lacks."""
        value = self.source.values[old]
        here = {axis: index for axis, index in at.items() if axis in value.axes}
        key = (old, tuple(sorted(here.items())))
        if key not in self.made:
            self.made[key] = self._made(value, at, here)
        return self.made[key]

    def _made(self, value: Value, at: Mapping[str, int], here: Mapping[str, int]) -> int:
        if _numbers_rows(self.source, value):
            return self._reduced(value, at)
        if value.op == "arg" and here:
            if len(here) > 1:
                raise self._refused(value, "picked from along two axes")
            ((axis, index),) = here.items()
            attrs: dict[str, Attr] = {"axis": axis, "index": index}
            axes = tuple(each for each in value.axes if each != axis)
            return self._add(Value("pick", (self._add(value),), value.dtype, axes, value.span, attrs))
        if here and value.op == "transpose" and set(value.axes[-2:]) & set(here):
            return self.copy(value.operands[0], at)
        simple = OPS[value.op].kind == "elementwise" or value.op in ("gather", "dequantize", "transpose", "of_group")
        if here and not simple:
            raise self._refused(value, f"computed by `{value.op}`")
        if value.op == "gather" and set(self.source.values[value.operands[0]].axes) & set(here):
            raise self._refused(value, "an axis of the rows themselves")
        operands = tuple(self.copy(operand, at) for operand in value.operands)
        axes = tuple(axis for axis in value.axes if axis not in here)
        attrs = {key: attr for key, attr in value.attrs.items() if not here or key != "name"}
        return self._add(replace(value, operands=operands, axes=axes, attrs=attrs))

    def _reduced(self, value: Value, at: Mapping[str, int]) -> int:
        """The terms joined."""
        axis, kind = str(_over(value)), str(value.attrs["kind"])
        extents = {each.name: each.extent for arg in self.source.args for each in arg.axes}
        count = self.sizes(extents[axis])
        if not isinstance(count, int) or not 1 <= count <= MOST_TERMS:
            raise DiagnosticError([
                error("FP4057", f"a {kind} over `{axis}`, which numbers rows, cannot be compiled yet", value.span,
                      f"`{axis}` is {count}" if isinstance(count, int) else f"`{axis}` is found at each call",
                      notes=["each of its terms is a row that is loaded by itself"],
                      help=f"give it a size of 1 to {MOST_TERMS}: `kernel k(.., {axis} = 8)`, or `--set {axis}=8`"),
            ])  # fmt: skip
        terms = [self.copy(value.operands[0], {**at, axis: index}) for index in range(count)]
        if kind in ("max", "min"):
            found = terms[0]
            for term in terms[1:]:
                found = self._join(kind, value, found, term)
            return found
        if kind == "mean_square":
            terms = [self._join("mul", value, term, term) for term in terms]
        total = self._sum(value, terms)
        return total if kind == "sum" else self._join("div", value, total, self._number(value, float(count)))

    def _sum(self, value: Value, terms: list[int]) -> int:
        """Blocks of 32 by halves, and the blocks in order. What fills up the last block is +0."""
        total: int | None = None
        for first in range(0, len(terms), _BLOCK):
            parts: list[int | None] = [*terms[first : first + _BLOCK]]
            parts += [None] * (_BLOCK - len(parts))
            while len(parts) > 1:
                half = len(parts) // 2
                parts = [self._both(value, a, b) for a, b in zip(parts[:half], parts[half:], strict=True)]
            total = self._both(value, total, parts[0])
        if total is None:
            raise ValueError("a sum of nothing")
        # A term plus a filling zero is the term, but of -0, which a sum of such alone would be.
        return total if len(terms) % _BLOCK == 0 else self._join("add", value, total, self._number(value, 0.0))

    def _both(self, value: Value, a: int | None, b: int | None) -> int | None:
        return self._join("add", value, a, b) if a is not None and b is not None else b if a is None else a

    def _join(self, op: str, value: Value, a: int, b: int) -> int:
        axes = self.values[a].axes
        return self._add(Value(op, (a, b), "f32", axes, value.span))

    def _number(self, value: Value, number: float) -> int:
        return self._add(Value("const", (), "f32", (), value.span, {"value": number}))

    def _add(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def _refused(self, value: Value, what: str) -> DiagnosticError:
        return DiagnosticError([
            error("FP4057", f"a reduction over row numbers cannot be compiled yet: of something {what}", value.span,
                  "computed here", help="compute it in a kernel of its own, and take it as an input"),
        ])  # fmt: skip
