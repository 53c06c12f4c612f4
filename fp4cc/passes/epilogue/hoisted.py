"""Inputs that do not depend on the column: by value, of the device, of a batch, or of a row."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.ir.lowered import KernelParam
from fp4cc.ir.lowered_epilogue import EpilogueInput
from fp4cc.passes.epilogue.construct import Construct, Planning
from fp4cc.passes.epilogue.inputs import dim_size, pointer
from fp4rt.manifest import Param


class Hoisted(Construct):
    """Scalars, values of the batch, and values of a thread's row."""

    name = "hoisted"
    reads = ("scalar_param", "dim", "device_scalar", "batch", "row")

    def input_params(self, leaf: EpilogueInput, planning: Planning) -> Sequence[KernelParam]:
        if leaf.kind == "scalar_param":
            return [KernelParam(leaf.param_name, Param("f32", leaf.name), "by value")]
        if leaf.kind == "dim":
            size = dim_size(planning.kernel.values[leaf.value], planning.sizes)
            return [KernelParam(leaf.param_name, Param("i32", size), "a size used as a number")]
        return [pointer(leaf, planning.kernel)]
