"""What a kernel cannot do for empty tensors: an empty problem launches nothing."""

from __future__ import annotations

from fp4cc.ir.kernel import Constraint, Kernel
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.ir.sizes import Sizes


def not_empty(kernel: Kernel, program: EpilogueProgram, sizes: Sizes) -> tuple[Constraint, ...]:
    """An empty tensor launches nothing, so it may not be empty where something is to be written all the same."""
    found: dict[str, Constraint] = {}
    for output in program.outputs:
        reason = f"nothing is launched for an empty tensor, but `{output.arg}` has values to be written even then"
        for axis in output.beyond:
            dim = next((d for d in kernel.dims if d.name == axis), None)
            if dim is not None and sizes(axis) == axis:
                found.setdefault(axis, Constraint(("gt", axis, 0), f"{axis} > 0", dim.span, reason))
    return tuple(found.values())
