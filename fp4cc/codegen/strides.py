"""Element offsets in a tensor that has the product's axes, as text over the sizes the kernel has."""

from __future__ import annotations

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered_epilogue import Space
from fp4cc.ir.sizes import mul

Term = tuple[Expr, str]


def offset(problem: Space, batch: Term = (0, ""), row: Term = (0, ""), column: Term = (0, "")) -> str:
    """The sum of stride * index as text: 64-bit where a stride is not 0 or 1. Sizes appear as m_size and n_size."""
    terms = [_term(problem, stride, index) for stride, index in (batch, row, column) if stride != 0]
    return " + ".join(terms) if terms else "0"


def _term(problem: Space, stride: Expr, index: str) -> str:
    if stride == 1:
        return index
    return f"Int64({index}) * {stride_text(problem, stride)}"


def bytes_text(width: int, stride: str) -> str:
    """A stride of elements of `width` bytes, in bytes."""
    if stride.isdigit():
        return str(width * int(stride))
    return stride if width == 1 else f"{width} * {stride}"


def packed_bytes(elements: str, bits: int) -> str:
    """Bytes of packed codes of `bits` each, for a number of elements that fills bytes."""
    if bits == 8:
        return elements
    return f"{elements} >> 1" if bits == 4 else f"({elements} >> 2) * 3"


def stride_text(problem: Space, stride: Expr) -> str:
    """A stride as text. ValueError if it is not a product of the problem's sizes."""
    if isinstance(stride, int):
        return str(stride)
    if stride == problem.n:
        return "n_size"
    if stride == problem.m:
        return "m_size"
    if stride == mul(problem.m, problem.n):
        return "m_size * n_size"
    # Of an argument that is read by halves.
    if stride == mul(problem.n, 2):
        return "2 * n_size"
    if stride == mul(problem.m, problem.n, 2):
        return "m_size * 2 * n_size"
    raise ValueError(f"stride {stride!r} is not made of {problem.m!r} and {problem.n!r}")
