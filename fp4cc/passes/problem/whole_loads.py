"""What loads by TMA ask of K, or of what lies along the last axis: whole units of 16 bytes in each row."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Constraint, Kernel
from fp4cc.ir.lowered import Operand, Problem, Product
from fp4cc.ir.sizes import fold


def whole_loads(kernel: Kernel, loops: Sequence[Sequence[Product]]) -> tuple[Constraint, ...]:
    """What the loads ask of the K of products that share an A; what static sizes already break is an error here."""
    found: dict[str, Constraint] = {}
    for products in loops:
        product = products[0]
        span = next((d.span for d in kernel.dims if d.name == product.k_axis), kernel.arg(product.a.arg).span)
        operand = max((product.a, *(each.b for each in products)), key=_k_multiple)
        multiple = _k_multiple(operand)
        if multiple == 1:
            continue
        reason = f"a row of {operand.name} must start on 16 bytes for TMA"
        if operand.divided:
            reason = f"each group of {product.k_axis} is whole units of {multiple}: its blocks start anew"
        condition = fold("eq", fold("mod", product.k, multiple), 0)
        if condition is False:
            raise DiagnosticError([
                error("FP4011", f"{product.k_axis} = {product.k} is not a multiple of {multiple}", span, notes=[reason],
                      help=f"pad {product.k_axis} with zeros"),
            ])  # fmt: skip
        if condition is not True:
            text = f"{product.k_axis} % {multiple} == 0"
            found[text] = Constraint(condition, text, span, reason)
    return tuple(found.values())


def _k_multiple(operand: Operand) -> int:
    """The fewest elements that are whole units of 16 bytes."""
    if operand.across:
        return 1
    if operand.divided and isinstance(operand.format.stored[1], int):
        return max(32, operand.format.stored[1])
    return 64 if operand.bits == 6 else 128 // operand.bits


def rows_across(kernel: Kernel, problem: Problem) -> tuple[Constraint, ...]:
    """What loads ask of the rows of operands that lie across, which are the elements of a row of their memory."""
    found: dict[str, Constraint] = {}
    for axis, operand in ((problem.m_axis, problem.a), *((problem.n_axis, each.b) for each in problem.products)):
        multiple = 128 // operand.bits
        condition = fold("eq", fold("mod", operand.rows, multiple), 0)
        if not operand.across or condition is True:
            continue
        span = next((d.span for d in kernel.dims if d.name == axis), kernel.arg(operand.arg).span)
        reason = f"a row of {operand.name} must start on 16 bytes for TMA"
        if condition is False:
            raise DiagnosticError([
                error("FP4011", f"{axis} = {operand.rows} is not a multiple of {multiple}", span, notes=[reason],
                      help=f"pad {axis} with zeros"),
            ])  # fmt: skip
        text = f"{axis} % {multiple} == 0"
        found[text] = Constraint(condition, text, span, reason)
    return tuple(found.values())
