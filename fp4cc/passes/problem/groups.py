"""Rows in groups: ragged and masked axes of a kernel, as far as they are the rows of what it computes."""

from __future__ import annotations

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Axis, Expr, Kernel, Value
from fp4cc.ir.lowered_epilogue import Groups
from fp4cc.ir.sizes import Sizes, ceildiv, fold, mul
from fp4cc.passes.problem.placement import same_placement
from fp4num import LAYOUTS


def groups_of(kernel: Kernel, sizes: Sizes, m_axis: str, batch_axes: tuple[str, ...]) -> Groups | None:
    """The groups of the rows; None where they are in none. Raises DiagnosticError for what cannot be built yet."""
    found = ((arg, axis) for arg in kernel.args for axis in arg.axes if axis.name == m_axis and in_groups(axis))
    arg, axis = next(found, (None, None))
    if arg is None or axis is None:
        return None
    if axis.by is not None:
        extent = kernel.arg(axis.by).axes[0].extent
        if not isinstance(extent, tuple) or not isinstance(extent[1], str) or batch_axes:
            raise DiagnosticError([refused(arg, axis, "in several batches")])
        return Groups(axis.by, extent[1], sizes(extent[1]), ragged=True)
    counts = kernel.arg(str(axis.upto)).axes[0]
    if batch_axes != (counts.name,):
        raise DiagnosticError([refused(arg, axis, f"with the batch axes [{', '.join(batch_axes)}]")])
    return Groups(str(axis.upto), str(counts.name), sizes(counts.extent), ragged=False)


def contracted_groups(kernel: Kernel, sizes: Sizes, product: Value) -> Groups | None:
    """The groups of what a product contracts, each of which has a result of its own; None where it is in none."""
    if "contracted" not in product.attrs:
        return None
    arg, groups = str(product.attrs["contracted"]), str(product.attrs["groups"])
    axes = [axis for each in kernel.args for axis in each.axes if axis.name == product.attrs["k"]]
    return Groups(arg, groups, sizes(groups), ragged=any(axis.by is not None for axis in axes))


def most_tiles(m: Expr, rows: int, groups: Groups) -> Expr:
    """The most tiles of so many rows that m rows in groups can take, each group starting a new one.

    m ragged rows fill at most m // rows tiles, and each group that has rows leaves at most one that is not full.
    """
    if not groups.ragged:
        return mul(groups.count, ceildiv(m, rows))
    if rows == 1:
        return m
    return fold("add", fold("floordiv", m, rows), fold("min", groups.count, m))


def in_groups(axis: Axis) -> bool:
    """Whether an axis is ragged or masked."""
    return axis.by is not None or axis.upto is not None


def refused(arg: Arg, axis: Axis, why: str = "other than the rows of what is computed") -> Diagnostic:
    """Why a kernel with this axis cannot be built yet."""
    what = f"{axis.name} by {axis.by}" if axis.by is not None else f"{axis.name} upto {axis.upto}"
    return error(
        "FP4006", f"a ragged or masked axis {why} cannot be compiled yet: `{what}`", arg.span, "declared here",
        help="it runs on the reference: `fp4cc run --device reference`",
    )  # fmt: skip


def without_groups(kernel: Kernel, where: str) -> None:
    """Raise DiagnosticError for a kernel with ragged or masked axes, which cannot be compiled `where`."""
    errors = [refused(arg, axis, where) for arg in kernel.args for axis in arg.axes if in_groups(axis)]
    if errors:
        raise DiagnosticError(errors)


def check_groups(kernel: Kernel) -> None:
    """Raise DiagnosticError for ragged inputs whose scales lie so that a tile cannot find its group's."""
    errors: list[Diagnostic] = []
    for arg in kernel.args:
        fmt = arg.format
        if fmt is None or fmt.scale is None or arg.direction != "in" or not any(axis.by for axis in arg.axes):
            continue
        by_rows = fmt.stored[0] == 1 and fmt.layout.extent("row") == 1
        if not by_rows and not (fmt.stored[0] == 1 and same_placement(fmt.layout, LAYOUTS["blocked_128x4"])):
            what = f"{fmt.layout.name} with a scale per {fmt.stored[0]} x {fmt.stored[1]}"
            errors.append(
                error("FP4300", f"the scales of ragged rows cannot be read from this layout yet: {what}", arg.span,
                      f"`{fmt.name}`", help="store a scale for each row, in blocked_128x4 or linear"),
            )  # fmt: skip
    if errors:
        raise DiagnosticError(errors)


def grouped(kernel: Kernel) -> bool:
    """Whether a kernel has ragged or masked axes."""
    return any(in_groups(axis) for arg in kernel.args for axis in arg.axes)
