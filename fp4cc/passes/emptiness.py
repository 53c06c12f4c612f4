"""What a kernel cannot do for empty tensors: an empty problem launches nothing."""

from __future__ import annotations

from fp4cc.ir.kernel import Constraint, Kernel
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.passes.sizes import Sizes


def not_empty(kernel: Kernel, program: EpilogueProgram, sizes: Sizes) -> tuple[Constraint, ...]:
    """An empty tensor launches nothing, so it may not be empty where something is to be written all the same."""
    left = [o.arg for o in program.outputs if o.reduce is not None or (o.quantize and o.quantize.measure == "row")]
    left += [o.arg for o in program.outputs if o.quantize is not None and o.quantize.tensor_scale_param is not None]
    if not left:
        return ()
    space = program.problem
    reason = f"nothing is launched for an empty tensor, but `{left[0]}` has values to be written even then"
    return tuple(
        Constraint(("gt", dim.name, 0), f"{dim.name} > 0", dim.span, reason)
        for dim in kernel.dims
        if dim.name in (*space.batch_axes, space.m_axis, space.n_axis) and sizes(dim.name) == dim.name
    )
