"""f32 scales of FP8 products: what they may cover, and where the kernel finds those of a tile and a step along K.

A step is 128 along K: what one pair of scales covers. The partial sum of a step is multiplied by the product of its two
scales and added in f32 registers ("promotion", DeepSeek-AI 2024, section 3.3.2): exactly the meaning of the formats.
"""

from __future__ import annotations

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Constraint, Expr, Kernel
from fp4cc.ir.lowered import Operand, Problem, PromotedScales
from fp4cc.ir.sizes import Sizes, fold
from fp4cc.passes.epilogue.blocks import TooNarrow, whole_panels
from fp4cc.passes.feeds.scale_reading import Readers
from fp4cc.passes.problem.halves import refusal
from fp4cc.passes.problem.unzip import Frame, find_products
from fp4num import BlockFormat

STEP = 128  # along K
COLUMNS = 128  # of a tile


def is_promoted(kernel: Kernel) -> bool:
    """Whether a kernel has one product, of two FP8 operands with f32 scales: what promotion is for."""
    products = [value for value in kernel.values if value.op == "matmul"]
    types = [kernel.values[operand].dtype for product in products for operand in product.operands]
    return len(products) == 1 and all(isinstance(fmt, BlockFormat) and fmt.scale == "f32" for fmt in types)


def promoted_product(kernel: Kernel, sizes: Sizes, elements: tuple[str, ...]) -> tuple[Problem, Frame]:
    """The product of such a kernel and the epilogue's view; `elements` are those it may multiply.

    Raises DiagnosticError for scales and elements that it may not, and for an `unzip` that needs products of its own.
    """
    problem, frame = find_products(kernel, sizes, COLUMNS)
    errors = [e for o in (problem.a, problem.b) for e in _operand_errors(kernel.arg(o.arg), o, elements)]
    if errors:
        raise DiagnosticError(errors)
    if any(product.b.half is not None for product in problem.products):
        unzipped = next(value for value in kernel.values if value.op == "unzip")
        raise refusal(
            unzipped, "of an FP8 product with f32 scales in other groups than 1, 2, 4, ... 64 columns",
            "interleave the weights in smaller groups, or use mxfp8 operands",
        )  # fmt: skip
    if not whole_panels(frame, (COLUMNS,)):
        raise TooNarrow(frame, COLUMNS, "a thread has no registers for wider ones")
    return problem, frame


def _operand_errors(arg: Arg, operand: Operand, elements: tuple[str, ...]) -> list[Diagnostic]:
    fmt = operand.format
    rows, columns = fmt.stored
    if fmt.element in elements and rows in (1, 128) and columns in (STEP, "all"):
        return []
    return [
        error("FP4202", f"`{fmt.name}` is {fmt.element} with f32 scales per {rows} x {columns}: not multiplied yet",
              arg.span, f"`{fmt.name}`",
              notes=[f"it takes {' or '.join(elements)} with an f32 scale per 1 x 128, 128 x 128 or 1 x all"],
              help="use ds_act, ds_weight or fp8_token, or a format like them"),
    ]  # fmt: skip


def promoted_constraints(kernel: Kernel, problem: Problem) -> tuple[Constraint, ...]:
    """A row must start on 16 bytes; blocks of 128 along K see to that, one block a row does not."""
    condition = fold("eq", fold("mod", problem.k, 16), 0)
    if "all" not in (problem.a.format.stored[1], problem.b.format.stored[1]) or condition is True:
        return ()
    span, reason = kernel.arg(problem.a.arg).span, "a row of codes must start on 16 bytes for TMA"
    if condition is False:
        raise DiagnosticError([
            error("FP4011", f"{problem.k_axis} = {problem.k} is not a multiple of 16", span, notes=[reason],
                  help=f"pad {problem.k_axis} with zeros"),
        ])  # fmt: skip
    return (Constraint(condition, f"{problem.k_axis} % 16 == 0", span, reason),)


def promoted_scales(problem: Problem, readers: Readers) -> tuple[PromotedScales, PromotedScales]:
    """Where the scales of both operands lie."""
    a, b = (_scales(operand, problem.k, readers) for operand in (problem.a, problem.b))
    return a, b


def _scales(operand: Operand, k: Expr, readers: Readers) -> PromotedScales:
    return PromotedScales(
        arg=operand.arg,
        reader=readers.scales(operand, k, 1),
        each_step=operand.format.stored[1] != "all",
        rows=readers.rows(operand),
    )
