"""Where the scales of an operand that is some of its argument's rows start, and what that asks of sizes and tiles."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Constraint, Expr, Kernel
from fp4cc.ir.lowered import Operand, Problem
from fp4cc.passes.divides import divides
from fp4cc.passes.sizes import Sizes, fold

REASON = "scales lie in atoms of 128 rows, and an MMA starts at the first or the middle row of one"


def scales_in_place(operand: Operand, tile_n: int) -> Expr:
    """The condition under which the tensor core reads the scales of B's tiles as they lie in memory.

    A tile of 64 or 192 columns may start in the middle of an atom, by a column offset; one of 128 or 256 would then
    reach into an atom more than it loads. Halves that take turns do so in multiples of a tile.
    """
    if not operand.scaled or operand.half is None or operand.half.group is not None:
        return True
    return fold("eq", fold("mod", operand.first_row, _multiple(tile_n)), 0)


def widths_in_place(kernel: Kernel, problem: Problem, widths: Sequence[int]) -> tuple[int, ...]:
    """The tile widths for which scales can be read as they lie. Raises DiagnosticError if static sizes allow none."""
    bs = list(dict.fromkeys(product.b for product in problem.products))
    possible = tuple(n for n in widths if all(scales_in_place(b, n) is not False for b in bs))
    if not possible:
        raise DiagnosticError([_misplaced(kernel, problem, b) for b in bs if scales_in_place(b, 64) is False])
    return possible


def certain_widths(kernel: Kernel, problem: Problem, sizes: Sizes, widths: Sequence[int]) -> tuple[int, ...]:
    """Those of the tile widths for which scales are read as they lie whatever the sizes of a call."""
    return tuple(n for n in widths if not place_constraints(kernel, problem, sizes, n))


def place_constraints(kernel: Kernel, problem: Problem, sizes: Sizes, tile_n: int) -> tuple[Constraint, ...]:
    """What sizes must be for the scales of a tile this wide to be read as they lie."""
    axis, multiple = problem.n_axis, _multiple(tile_n)
    narrower = "" if multiple == 64 else f"; `where {axis} % 64 == 0` chooses tiles that may start at the middle one"
    for operand in (product.b for product in problem.products):
        known = scales_in_place(operand, tile_n) is True
        if not known and not divides(multiple, operand.first_row, kernel.constraints, sizes):
            condition = ("eq", ("mod", axis, multiple), 0)  # halves apart start at the end of a half
            span = kernel.arg(operand.arg).span
            return (Constraint(condition, f"{axis} % {multiple} == 0", span, f"{REASON}{narrower}"),)
    return ()


def _multiple(tile_n: int) -> int:
    """What the first row of a tile's scales must be a multiple of."""
    return 128 if tile_n % 128 == 0 else 64


def _misplaced(kernel: Kernel, problem: Problem, operand: Operand) -> Diagnostic:
    size = int(problem.n) if isinstance(problem.n, int) else 0
    span = next((d.span for d in kernel.dims if d.name == problem.n_axis), kernel.arg(operand.arg).span)
    return error(
        "FP4011", f"{problem.n_axis} = {size} is not a multiple of 64", span,
        also=[(kernel.arg(operand.arg).span, f"its second half starts at row {size}")], notes=[REASON],
        help=f"pad each half to {-(-size // 64) * 64} rows, or interleave the rows of both: `group = 1`",
    )  # fmt: skip
