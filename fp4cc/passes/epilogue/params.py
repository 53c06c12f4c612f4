"""The parameters that an epilogue adds to its kernel."""

from __future__ import annotations

from fp4cc.ir.lowered import KernelParam
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.epilogue import quantize as quantized
from fp4cc.passes.epilogue.inputs import dim_size
from fp4cc.passes.epilogue.memory import legal
from fp4rt.manifest import Param


def epilogue_params(program: EpilogueProgram, sizes: Sizes) -> tuple[KernelParam, ...]:
    """The parameters that an epilogue adds, each once."""
    kernel = program.kernel
    params: list[KernelParam] = []
    for leaf in program.inputs:
        value = kernel.values[leaf.value]
        if leaf.kind == "scalar_param":
            params.append(KernelParam(leaf.param_name, Param("f32", leaf.name), "by value"))
        elif leaf.kind == "dim":
            size = dim_size(value, sizes)
            params.append(KernelParam(leaf.param_name, Param("i32", size), "a size used as a number"))
        elif leaf.kind == "uniform":
            params.append(KernelParam(leaf.param_name, Param("pointer", leaf.source), "random state"))
        elif leaf.load is None or leaf.vector is not True:
            if value.op == "tensor_scale":
                source = f"{value.attrs['name']}.tensor_scale"
            else:
                source = kernel.arg(leaf.source).source or leaf.source
            params.append(KernelParam(leaf.param_name, Param("pointer", source), f"{leaf.dtype}, {leaf.kind}"))
    for leaf in program.inputs:
        if leaf.kind == "tile" and leaf.vector is not None and leaf.vector is not True:
            params.append(KernelParam(leaf.flag, Param("i32", leaf.vector), "rows start on 16 bytes"))
    for output in program.outputs:
        if output.quantize is not None:
            params.extend(quantized.params(output))
        elif output.reduce is None and output.store.via != "tma":
            params.append(KernelParam(output.param_name, Param("pointer", output.arg), f"{output.dtype}"))
        if output.store.flag is not None:
            params.append(KernelParam(output.store.flag, Param("i32", legal(output)), "rows start on 16 bytes"))
    return tuple({param.name: param for param in params}.values())
