"""What a kernel cannot do for empty tensors: an empty problem launches nothing."""

from __future__ import annotations

from fp4cc.ir.kernel import Constraint, Kernel
from fp4cc.ir.lowered_epilogue import EpilogueOutput, EpilogueProgram, Space
from fp4cc.ir.sizes import Sizes


def not_empty(kernel: Kernel, program: EpilogueProgram, sizes: Sizes) -> tuple[Constraint, ...]:
    """An empty tensor launches nothing, so it may not be empty where something is to be written all the same."""
    space = program.problem
    found: dict[str, Constraint] = {}
    for output in program.outputs:
        reason = f"nothing is launched for an empty tensor, but `{output.arg}` has values to be written even then"
        for axis in _not_in_size(output, space):
            dim = next((d for d in kernel.dims if d.name == axis), None)
            if dim is not None and sizes(axis) == axis:
                found.setdefault(axis, Constraint(("gt", axis, 0), f"{axis} > 0", dim.span, reason))
    return tuple(found.values())


def _not_in_size(output: EpilogueOutput, space: Space) -> tuple[str, ...]:
    """The axes that may be empty while the output has numbers."""
    m, n, batch = (space.m_axis,), (space.n_axis,), space.batch_axes
    if output.reduce is not None:
        over = {"columns": n, "rows": m, "all": (*m, *n)}[output.reduce.over]
        return over if output.batch_stride != 0 or not batch else (*batch, *over)
    if output.quantize is None or isinstance(output.dtype, str):
        return ()
    if output.quantize.tensor_scale_param is not None:
        return (*batch, *m, *n)
    rows, columns = output.dtype.block
    lines, length = (m, n) if output.quantize.along == "columns" else (n, m)
    return (*(lines if rows == "all" else ()), *(length if columns == "all" else ()))
