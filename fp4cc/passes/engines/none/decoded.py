"""How threads of a kernel without a product read quantized inputs: where codes and scales of a run of 32 lie."""

from __future__ import annotations

from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import Operand
from fp4cc.ir.lowered_converters import DecodedInput
from fp4cc.ir.lowered_epilogue import SUBTILE, EpilogueProgram
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.feeds.scale_reading import Needs, Readers


def decoded_inputs(program: EpilogueProgram, kernel: Kernel, sizes: Sizes, needs: Needs) -> tuple[DecodedInput, ...]:
    """A part for each quantized input of the program; `needs` gets the pointers and sizes that they take."""
    readers = Readers(kernel, sizes, program.problem, kernel.constraints, needs)
    found: dict[str, DecodedInput] = {}
    for leaf in (each for each in program.inputs if each.kind == "codes"):
        arg = kernel.arg(leaf.source)
        if arg.format is None:
            raise TypeError(f"{arg.name} is not quantized")
        fmt, columns = arg.format, arg.format.stored[1]
        operand = Operand("A", arg.name, fmt, sizes(arg.axes[-2].extent), len(arg.axes) > 2)
        block = columns if isinstance(columns, int) else 0
        reader = readers.scales(operand, program.problem.n, max(1, SUBTILE // block) if block else 1)
        found[arg.name] = DecodedInput(leaf.value, arg.name, fmt.element, fmt.bits, block, reader)
    return tuple(found.values())
