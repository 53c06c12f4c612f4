"""What the dims of a kernel are for, as far as sizes that nobody gave depend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fp4rt.sizes import names

if TYPE_CHECKING:
    from fp4cc.ir.kernel import Kernel
    from fp4rt.typed import TypedKernel


def batch_dims(kernel: Kernel | TypedKernel) -> frozenset[str]:
    """The dims that count batches or experts: each of their elements costs as much as a whole matrix.

    A batch dim is somewhere in an axis before the last two, and is no row, column or contracted axis of a product. So
    the E of `w : nvfp4[E, N, K]` is one although `bias : bf16[E, N]` has it in the place of rows, and that of
    `offsets : i32[E + 1]` where nothing else has it.
    """
    sides = {
        axis
        for value in kernel.values
        if value.op == "matmul"
        for operand in value.operands
        for axis in kernel.values[operand].axes[-2:]
    }
    leading = {
        name for arg in kernel.args for axis in arg.axes[:-2] for name in names(axis.extent)
    }  # fmt: skip
    return frozenset(leading - sides) | group_dims(kernel)


def group_dims(kernel: Kernel | TypedKernel) -> frozenset[str]:
    """The dims that count the groups of ragged rows."""
    by = {axis.by for arg in kernel.args for axis in arg.axes if axis.by is not None}
    extents = (arg.axes[0].extent for arg in kernel.args if arg.name in by and arg.axes)
    return frozenset(name for extent in extents for name in names(extent))
