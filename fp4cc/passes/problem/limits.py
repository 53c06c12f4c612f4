"""Sizes that are known before a call and that no kernel can count, or no memory hold."""

from __future__ import annotations

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Kernel
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.sizes import Sizes
from fp4rt.arrays import ITEM_SIZE
from fp4rt.sizes import LONGEST_AXIS, SizeError, text

#: More than the addresses of any GPU, and little enough that what is computed from it has 64 bits.
MOST_BYTES = 2**56


def check_limits(kernel: Kernel, sizes: Sizes) -> None:
    """Refuse arguments that are too long or too large whatever the sizes of a call. Raises DiagnosticError (FP4026)."""
    errors = [problem for arg in kernel.args if (problem := _problem(arg, sizes)) is not None]
    if errors:
        raise DiagnosticError(errors)


def too_large(kernel: Kernel, problem: SizeError) -> DiagnosticError:
    """What to say of a size that has no value, which an argument's own do not explain."""
    return DiagnosticError([
        error("FP4026", f"a size that `{kernel.name}` needs has no value: {problem}", kernel.span,
              help="use smaller dims, or leave them to be found at each call"),
    ])  # fmt: skip


def check_tiles(plan: LoweredKernel) -> LoweredKernel:
    """The plan, if it can count its tiles. Raises DiagnosticError (FP4026)."""
    for one in (launch for each in (plan, *plan.variants) for launch in each.launches):
        tiles = one.walk.tiles
        if isinstance(tiles, int) and tiles > LONGEST_AXIS:
            raise DiagnosticError([
                error("FP4026", f"`{plan.name}` would have {tiles} tiles", one.kernel.span, f"at most {LONGEST_AXIS}",
                      notes=["kernels count tiles in 32 bits"], help="use smaller dims, or cut the tensors up"),
            ])  # fmt: skip
    return plan


def _problem(arg: Arg, sizes: Sizes) -> Diagnostic | None:
    known = 1
    for axis in arg.axes:
        try:
            extent = sizes(axis.extent)
        except SizeError as problem:
            return error("FP4026", f"an axis of `{arg.name}` has no length: {problem}", arg.span,
                         f"`{text(axis.extent)}`", help="use smaller dims")  # fmt: skip
        if not isinstance(extent, int):
            continue
        if extent > LONGEST_AXIS:
            return error("FP4026", f"an axis of `{arg.name}` is {extent} long", arg.span,
                         f"`{text(axis.extent)}` is at most {LONGEST_AXIS}",
                         notes=["kernels count rows, columns and steps in 32 bits"],
                         help="use smaller dims, or cut the tensor into several")  # fmt: skip
        known *= extent
    bits = arg.format.bits if arg.format is not None else 8 * ITEM_SIZE[str(arg.dtype)]
    if known * bits // 8 > MOST_BYTES:
        return error("FP4026", f"`{arg.name}` has {known * bits // 8} bytes", arg.span, f"at most {MOST_BYTES}",
                     notes=["no GPU has addresses for more"], help="use smaller dims")  # fmt: skip
    return None
