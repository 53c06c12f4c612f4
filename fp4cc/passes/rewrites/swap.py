"""Swapped operands: y = x @ w.T made as (w @ x.T).T, weights as the A of the instruction.

The M side of an instruction has 128 rows a CTA whatever the problem has, the N side as few columns as a tile is wide.
So a call with few rows of x fills tiles of 128 rows of weights by 32 or 64 of x. What becomes of the sums is computed
element by element and by the names of axes, so it means what it did: only a product's axes are turned around, and what
needs them in their order (`.T`, blocks of quantized outputs) gets a transposition. An output that was stored row by
row is then one across the product, which every store can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Constraint, Expr, Kernel, Store, Value
from fp4cc.ir.verify import verify
from fp4cc.passes.problem.gathered import gathers
from fp4cc.passes.problem.groups import grouped
from fp4cc.source import Span

#: Reductions whose bits depend on the order of their terms.
_ORDERED = ("sum", "mean", "mean_square")
#: What takes its operand by the order of axes, not by their names.
_IN_ORDER = ("transpose", "quantize", "hadamard", "unzip")
_HELP = "write `swap_ab no`, or leave it out"


def swap_operands(kernel: Kernel, asked: Span | None = None) -> Kernel:
    """The kernel with the operands of each product swapped.

    `asked` is where a schedule block wants it. Raises DiagnosticError FP4060 or FP4061 for what cannot be swapped.
    Operands must lie as `find_problem` wants them: contracted axis last, the right one under a transposition.
    """
    errors = list(dict.fromkeys(_refusals(kernel, asked)))
    if errors:
        raise DiagnosticError(errors)
    made = _Swap(kernel).kernel()
    verify(made, after="swapping operands")
    return made


def where(kernel: Kernel, when: Expr | None) -> Kernel:
    """The kernel with the condition of its plan among what is known of its sizes."""
    if when is None:
        return kernel
    fact = Constraint(when, "the condition of the plan", kernel.span, "the plan is used nowhere else")
    return replace(kernel, constraints=(*kernel.constraints, fact))


def can_swap(kernel: Kernel) -> bool:
    """Whether the operands of all products can be swapped."""
    return next(_refusals(kernel, None), None) is None


def _refusals(kernel: Kernel, asked: Span | None) -> Iterator[Diagnostic]:
    products = [value for value in kernel.values if value.op == "matmul"]
    if grouped(kernel):
        yield _refused(
            "FP4060", "the operands of a product with rows in groups cannot be swapped", products[0].span, asked,
            "each group has weights of its own, and tiles of one group lie along M of the instruction",
        )  # fmt: skip
        return
    if gathers(kernel) or any(store.at is not None for store in kernel.stores):
        yield _refused(
            "FP4061", "rows by number cannot be made with swapped operands", products[0].span, asked,
            "they are loaded one by one, as rows of the instruction's A, or stored so",
        )  # fmt: skip
    for value in kernel.values:
        over = value.attrs.get("over")
        if value.op == "unzip":
            yield _refused(
                "FP4061", "an `unzip` cannot be made with swapped operands", value.span, asked,
                "its halves lie along the columns of the product, which swapped operands make its rows: "
                "two weights, `swiglu(x @ wg.T, x @ wu.T)`, can be swapped",
            )  # fmt: skip
        if value.op == "reduce" and value.attrs.get("kind") in _ORDERED and isinstance(over, tuple):
            both = {axis for product in products for axis in product.axes[-2:]} <= set(over)
            if both:
                yield _refused(
                    "FP4061", f"a {value.attrs['kind']} over rows and columns cannot be made with swapped operands",
                    value.span, asked,
                    "its order, blocks of 32 x 32 along N and then along M, is part of its meaning; `max` and `min` "
                    "have none",
                )  # fmt: skip


def _refused(code: str, what: str, span: Span, asked: Span | None, why: str) -> Diagnostic:
    also = [(asked, "asked for here")] if asked is not None else []
    return error(code, what, span, "here", also=also, notes=[why], help=_HELP)


@dataclass
class _Swap:
    source: Kernel
    values: list[Value] = field(default_factory=list[Value])
    new: dict[int, int] = field(default_factory=dict[int, int])
    turned: set[int] = field(default_factory=set[int])  # old indices whose new value has its last two axes swapped
    ordered: dict[int, int] = field(default_factory=dict[int, int])  # by old index: those with their axes back

    def kernel(self) -> Kernel:
        for index, value in enumerate(self.source.values):
            self.new[index] = self._product(value) if value.op == "matmul" else self._other(index, value)
            if value.op == "matmul":
                self.turned.add(index)
        stores = tuple(Store(s.arg, self.new[s.value], s.span) for s in self.source.stores)
        return replace(self.source, values=tuple(self.values), stores=stores)

    def _add(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def _product(self, value: Value) -> int:
        """x @ w.T as w @ x.T."""
        left, right = (self.source.values[operand] for operand in value.operands)
        if right.op != "transpose":
            raise ValueError("a right operand without a transposition")
        turned = self._add(self._transposed(self.new[value.operands[0]], left))
        operands = (self.new[right.operands[0]], turned)
        return self._add(replace(value, operands=operands, axes=_turned(value.axes)))

    def _other(self, index: int, value: Value) -> int:
        """Anything else; a sum of products stays one accumulator, so it has their axes."""
        if value.op == "add" and all(operand in self.turned for operand in value.operands):
            self.turned.add(index)
            value = replace(value, axes=_turned(value.axes))
        in_order = value.op in _IN_ORDER
        operands = tuple(self._in_order(o) if in_order else self.new[o] for o in value.operands)
        return self._add(replace(value, operands=operands))

    def _in_order(self, old: int) -> int:
        """The new value of an old one, with its axes in the old order."""
        if old not in self.turned:
            return self.new[old]
        if old not in self.ordered:
            self.ordered[old] = self._add(self._transposed(self.new[old], self.values[self.new[old]]))
        return self.ordered[old]

    def _transposed(self, index: int, value: Value) -> Value:
        return Value("transpose", (index,), value.dtype, _turned(value.axes), value.span)


def _turned(axes: tuple[str, ...]) -> tuple[str, ...]:
    return (*axes[:-2], axes[-1], axes[-2])
