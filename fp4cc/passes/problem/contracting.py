"""Products that contract rows in groups: which operands can be multiplied so, and why others cannot."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Arg, Value
from fp4cc.passes.problem.groups import refused

#: Bits of elements whose blocks of 32 are whole units of 16 bytes, in which TMA counts where a group starts.
_WHOLE_BITS = (4, 8)


def refused_within(arg: Arg, product: Value, *, halved: bool) -> Diagnostic | None:
    """Why an operand cannot be multiplied where rows in groups are contracted; None where it can.

    Plain rows lie across, [rows, n]; rows with block scales along them, [n, rows], where their blocks can lie.
    """
    k, fmt = product.attrs["k"], arg.format
    if fmt is None and arg.dtype in ("bf16", "f16") and not halved and arg.axes[-2].name == k:
        return None
    if fmt is not None and not halved:
        if fmt.scale in ("e4m3", "e8m0") and isinstance(fmt.stored[1], int) and fmt.bits in _WHOLE_BITS:
            masked = next((axis for axis in arg.axes if axis.upto is not None), None)
            return None if masked is None else refused(arg, masked, "along which scale blocks lie")
        notes = ["blocks along the rows have e4m3 or e8m0 scales, and elements of 4 or 8 bits"]
        help = "make both operands nvfp4, mxfp4 or mxfp8, or bf16 rows"
    else:
        notes = [
            "a group ends in the middle of a step along K, where zeros stand in for its neighbor's rows: "
            f"plain ones are rows of bf16 or f16, with `{k}` before the last axis"
        ]
        help = "make both operands bf16 rows, or run it on the reference: `fp4cc run --device reference`"
    what = fmt.name if fmt is not None else str(arg.dtype)
    axes = ", ".join(axis.name or "_" for axis in arg.axes)
    return error(
        "FP4050", f"{'halves of ' * halved}{what}[{axes}] cannot be multiplied over rows in groups yet", arg.span, what,
        also=[(product.span, f"`{k}` is contracted here")], notes=notes, help=help,
    )  # fmt: skip


def beside(args: Sequence[Arg], product: Value) -> list[Diagnostic]:
    """Why the two operands of a product over rows in groups cannot be multiplied together."""
    if len(args) < 2 or "contracted" not in product.attrs:
        return []
    (a, b), k = args, product.attrs["k"]
    if (a.format is None) == (b.format is None):
        return []
    return [
        error("FP4070", f"`{a.name}` and `{b.name}` cannot be multiplied together over rows in groups yet", a.span,
              a.format.name if a.format is not None else str(a.dtype),
              also=[(b.span, b.format.name if b.format is not None else str(b.dtype)),
                    (product.span, f"`{k}` is contracted here")],
              notes=["block scales lie along the rows of one of them, and the other has none"],
              help="give both block scales, or neither"),
    ]  # fmt: skip
