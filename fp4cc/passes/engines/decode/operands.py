"""What products of few rows multiply, and how lanes read it: the same pairs as Hopper's other engine, in registers."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.ir.kernel import Constraint, Expr, Kernel
from fp4cc.ir.lowered import Operand, Problem, Product, Strip, Wide
from fp4cc.ir.sizes import fold, scaled
from fp4cc.passes.feeds.holding import why_not_dequantized
from fp4cc.passes.feeds.scale_reading import Readers
from fp4cc.targets.sm90 import SM90A

#: Bytes of the widest load, which each row starts on a multiple of.
LOAD_BYTES = 16
#: Elements of a row that a lane takes at a step; of weights of 16 bits fewer, for they fill its registers.
RUN, WIDE_RUN = 32, 16


def wide_of(product: Product) -> Wide | None:
    """The type that both operands become, exactly; None where there is none, or scales are for whole partial sums."""
    operands = (product.a, product.b)
    plain = {operand.element for operand in operands if not operand.scaled}
    if plain - set(SM90A.plain) or plain >= {"bf16", "f16"}:
        return None
    wide: Wide = "f16" if "f16" in plain else "bf16"
    return wide if all(_held(operand, wide, bool(plain)) for operand in operands if operand.scaled) else None


def run_of(problem: Problem) -> int:
    """Elements of a row that a lane takes at a step."""
    return WIDE_RUN if any(product.b.bits == 16 for product in problem.products) else RUN


def plan_strips(problem: Problem, run: int, readers: Readers) -> tuple[tuple[Strip, Strip], ...] | None:
    """How lanes read the operands of each product; None where one cannot be multiplied here."""
    found: list[tuple[Strip, Strip]] = []
    if any(readers.kernel.arg(product.a.arg).turned for product in problem.products):
        return None
    for product in problem.products:
        wide = wide_of(product)
        if wide is None:
            return None
        a, b = (_strip(operand, wide, product.k, run, readers) for operand in (product.a, product.b))
        found.append((a, b))
    return tuple(found)


def constraints(kernel: Kernel, products: Sequence[Product]) -> tuple[Constraint, ...] | None:
    """What the loads ask of each K; None where static sizes break it."""
    found: dict[str, Constraint] = {}
    for product in products:
        span = next((d.span for d in kernel.dims if d.name == product.k_axis), kernel.arg(product.a.arg).span)
        operand = max((product.a, product.b), key=_k_multiple)
        condition = fold("eq", fold("mod", product.k, _k_multiple(operand)), 0)
        if condition is False:
            return None
        if condition is not True:
            text = f"{product.k_axis} % {_k_multiple(operand)} == 0"
            reason = f"a row of {operand.name} must start on {LOAD_BYTES} bytes, which a lane loads at once"
            found[text] = Constraint(condition, text, span, reason)
    return tuple(found.values())


def _k_multiple(operand: Operand) -> int:
    """The fewest elements that are whole loads."""
    return 64 if operand.bits == 6 else 8 * LOAD_BYTES // operand.bits


def _held(operand: Operand, wide: Wide, beside_plain: bool) -> bool:
    """Whether an operand with block scales becomes `wide`, by scales that serve whole runs of a lane."""
    fmt = operand.format
    columns = fmt.stored[1]
    if fmt.scale == "f32":
        return False
    if fmt.scale is not None and columns != "all" and columns not in SM90A.blocks and columns % (2 * RUN):
        return False
    return not beside_plain or why_not_dequantized(fmt, wide) is None


def _strip(operand: Operand, wide: Wide, k: Expr, run: int, readers: Readers) -> Strip:
    arg, needs = operand.arg, readers.needs
    scaled_by = operand.scaled and operand.format.scale is not None
    block = operand.format.stored[1] if scaled_by else 0
    block = block if isinstance(block, int) else 0
    return Strip(
        operand=operand,
        wide=wide,
        pointer=needs.pointer(f"{arg}_codes_ptr", operand.codes, f"{operand.element} codes of {arg}"),
        row_bytes=needs.size(f"{arg}_row_bytes", scaled(k, operand.bits, 8), f"bytes of a row of {arg}"),
        rows=readers.rows(operand),
        rows_of=readers.rows_of(operand),
        all_rows=needs.size(f"{arg}_all_rows", readers.all_rows(operand), f"rows of {arg} in all")
        if operand.batched
        else None,
        scales=readers.scales(operand, k, max(1, run // block) if block else 1) if scaled_by else None,
        block=block,
    )
