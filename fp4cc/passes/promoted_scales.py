"""f32 scales of FP8 products: what they may cover, and where the kernel finds those of a tile and a step along K.

A step is 128 along K: what one pair of scales covers. The partial sum of a step is multiplied by the product of its two
scales and added in f32 registers ("promotion", DeepSeek-AI 2024, section 3.3.2): exactly the meaning of the formats.
"""

from __future__ import annotations

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Constraint, Expr, Kernel
from fp4cc.ir.lowered import KernelParam, Operand, Problem
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.ir.lowered_promoted import PromotedScales
from fp4cc.passes.params import clips
from fp4cc.passes.sizes import Sizes, ceildiv, fold, mul
from fp4cc.passes.unzip import Frame, epilogue_frame, tile_widths
from fp4num import LAYOUTS, BlockFormat
from fp4rt.manifest import Param

STEP = 128  # along K
_ROWS = 128  # of a scale that is not for each row


def is_promoted(kernel: Kernel) -> bool:
    """Whether a kernel multiplies FP8 operands with f32 scales: what this family is for."""
    products = [value for value in kernel.values if value.op == "matmul"]
    formats = [arg.format for arg in kernel.args if arg.direction == "in" and arg.format is not None]
    return len(products) == 1 and bool(formats) and all(fmt.scale == "f32" for fmt in formats)


def check_operands(kernel: Kernel, problem: Problem, elements: tuple[str, ...]) -> None:
    """Raise DiagnosticError for scales that are not read yet, and for other elements than those."""
    errors = [e for o in (problem.a, problem.b) for e in _operand_errors(kernel.arg(o.arg), o, elements)]
    if errors:
        raise DiagnosticError(errors)


def _operand_errors(arg: Arg, operand: Operand, elements: tuple[str, ...]) -> list[Diagnostic]:
    fmt = operand.format
    rows, columns = fmt.stored
    if fmt.element not in elements or rows not in (1, _ROWS) or columns not in (STEP, "all"):
        return [
            error("FP4202", f"`{fmt.name}` is {fmt.element} with f32 scales per {rows} x {columns}: not multiplied yet",
                  arg.span, f"`{fmt.name}`",
                  notes=[f"it takes {' or '.join(elements)} with an f32 scale per 1 x 128, 128 x 128 or 1 x all"],
                  help="use ds_act, ds_weight or fp8_token, or a format like them"),
        ]  # fmt: skip
    if not _is_linear(fmt):
        return [
            error("FP4206", f"scales in layout {fmt.layout.name} cannot be multiplied yet", arg.span,
                  f"`{fmt.name}` stores its scales in {fmt.layout.name}",
                  notes=["f32 scales are read row by row"], help="use a format with `layout linear`"),
        ]  # fmt: skip
    return []


def _is_linear(fmt: BlockFormat) -> bool:
    linear = LAYOUTS["linear"]
    return (fmt.layout.coords, fmt.layout.atom_shape, fmt.layout.order) == (
        linear.coords, linear.atom_shape, linear.order
    )  # fmt: skip


def constraints(kernel: Kernel, problem: Problem) -> tuple[Constraint, ...]:
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


def promoted_frame(kernel: Kernel, problem: Problem, sizes: Sizes, columns: int) -> Frame:
    """The epilogue's view of a kernel with tiles of so many columns. Raises DiagnosticError for too wide an unzip."""
    frame = epilogue_frame(kernel, problem, sizes)
    if not tile_widths(frame, (columns,)):
        unzipped = next(value for value in kernel.values if value.op == "unzip")
        raise DiagnosticError([
            error("FP4020", f"this `unzip` cannot be compiled yet: groups of {frame.group} with f32 scales",
                  unzipped.span, "unzipped here", notes=[f"a tile has {columns} columns: whole groups of both halves"],
                  help=f"interleave the weights in groups of at most {columns // 2}"),
        ])  # fmt: skip
    return frame


def promoted_scales(problem: Problem) -> tuple[PromotedScales, PromotedScales]:
    """Where the scales of both operands lie."""
    return _scales("a", problem.a), _scales("b", problem.b)


def _scales(role: str, operand: Operand) -> PromotedScales:
    rows, columns = operand.format.stored
    return PromotedScales(
        role="a" if role == "a" else "b",
        arg=operand.arg,
        rows=1 if rows == 1 else 128,
        row_stride=f"{operand.arg}_scales_pitch",
        step_stride=0 if columns == "all" else 1,
        batch_stride=f"{operand.arg}_scales_batch" if operand.batched else None,
    )


def promoted_sizes(problem: Problem, epilogue: EpilogueProgram) -> tuple[tuple[str, Expr, str], ...]:
    """Sizes that the scales and the tile's edges need: name, value, meaning."""
    found: list[tuple[str, Expr, str]] = []
    if not clips(epilogue):
        found += [("m_size", problem.m, problem.m_axis), ("n_size", epilogue.problem.n, epilogue.problem.n_axis)]
    for operand in (problem.a, problem.b):
        rows, columns = operand.format.stored
        steps: Expr = 1 if columns == "all" else ceildiv(problem.k, STEP)
        blocks = operand.rows if rows == 1 else ceildiv(operand.rows, _ROWS)
        found.append((f"{operand.arg}_scales_pitch", steps, f"scales of a row of {operand.arg}"))
        if operand.batched:
            found.append((f"{operand.arg}_scales_batch", mul(blocks, steps), f"scales of a batch of {operand.arg}"))
    return tuple(found)


def promoted_params(problem: Problem, sizes: tuple[tuple[str, Expr, str], ...]) -> tuple[KernelParam, ...]:
    """The parameters for them: those sizes that are no numbers, and where each operand's scales start."""
    found = [KernelParam(name, Param("i32", expr), what) for name, expr, what in sizes if not isinstance(expr, int)]
    for operand in (problem.a, problem.b):
        source = Param("pointer", f"{operand.arg}.scales")
        found.append(KernelParam(f"{operand.arg}_scales_ptr", source, f"f32 scales of {operand.arg}"))
    return tuple(found)
