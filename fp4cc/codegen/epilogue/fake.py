"""Values quantized and dequantized in place, as quantization-aware training does: blocks along a thread's columns."""

from __future__ import annotations

from fp4cc.codegen.epilogue.construct import Transform
from fp4cc.codegen.epilogue.quantizers import quantizer, tensor_factors
from fp4cc.codegen.fragments import Block, Fragment, Function, fragment
from fp4cc.ir.kernel import Value
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4num import BlockFormat


class FakeQuantize(Transform):
    """Values quantized and dequantized in place."""

    name = "fake_quantize"
    takes = "is quantized"
    made = "dequantized"

    def setup(self) -> Fragment:
        return self._factors(each_batch=False)

    def per_tile(self) -> Fragment:
        return self._factors(each_batch=True)

    def _factors(self, *, each_batch: bool) -> Fragment:
        """Tensor scales both ways: those of all batches, which are known once a kernel, or those of each."""
        lines: list[str] = []
        for value in fakes(self.program):
            factor = fake_given(self.program, value)
            if factor is not None and bool(self.program.kernel.values[factor].axes) == each_batch:
                name, text = fake_name(self.program, value), self.printer.text(factor, lines, self.names)
                lines.append(f"{', '.join(fake_factors(self.program, value))} = {name}_factors({text})")
        return fragment(*lines)

    def values(self) -> list[int]:
        return fakes(self.program)

    def operand(self, value: int) -> int:
        return _quantize(self.program, value).operands[0]

    def call(self, value: int, x: str) -> str:
        return fake_call(self.program, value, x)

    def functions_of(self, value: int) -> list[Function]:
        return fake_functions(self.program, value)


def fakes(program: EpilogueProgram) -> list[int]:
    """The `dequantize`s, in the order in which they are computed."""
    values = program.kernel.values
    found = (s.value for s in program.statements if values[s.value].op == "dequantize")
    return [value for value in found if values[values[value].operands[0]].op == "quantize"]


def fake_given(program: EpilogueProgram, value: int) -> int | None:
    """The tensor scale or amax that a format with a tensor scale takes."""
    quantize = _quantize(program, value)
    return quantize.operands[1] if len(quantize.operands) > 1 else None


def fake_name(program: EpilogueProgram, value: int) -> str:
    """What the functions of a value are called after."""
    number = fakes(program).index(value)
    return f"fake{number + 1}" if number else "fake"


def fake_call(program: EpilogueProgram, value: int, x: str) -> str:
    """The values of a list of 32 after quantization."""
    return f"{fake_name(program, value)}_quantized({', '.join([x, *fake_factors(program, value)])})"


def fake_factors(program: EpilogueProgram, value: int) -> list[str]:
    """The names of the tensor scale both ways."""
    quantize = _quantize(program, value)
    return [f"{fake_name(program, value)}_{factor}" for factor in tensor_factors(_format(quantize), _mode(quantize))]


def fake_functions(program: EpilogueProgram, value: int) -> list[Function]:
    """Module-level functions of one value."""
    name, quantize = fake_name(program, value), _quantize(program, value)
    fmt = _format(quantize)
    made = quantizer(fmt, name, _mode(quantize))
    scale = "from_bits(scale)" if fmt.scale == "f32" else f"decode_{fmt.scale}(scale)"
    factors = [f"tensor_{factor}" for factor in tensor_factors(fmt, _mode(quantize))]
    decoded = f"mul(element, {scale})"
    if fmt.tensor_scale == "multiplies":
        decoded = f"mul({decoded}, tensor_decode)"
    elif fmt.tensor_scale == "divides":
        decoded = f"div({decoded}, tensor_encode)"
    block = fmt.block[1]
    each = fragment(
        f"scaled, scale = quantize_{name}({', '.join([f'x[j : j + {block}]', *factors])})",
        f"values += [{decoded} for element in rounded_{fmt.element}(scaled)]",
    )
    body = fragment("values = []", Block(f"for j in range(0, len(x), {block}):", each), "return values")
    doc = f"Values quantized to {fmt.name} and back."
    return [*made.functions, Function(f"{name}_quantized", ("x", *factors), doc, body)]


def _quantize(program: EpilogueProgram, value: int) -> Value:
    return program.kernel.values[program.kernel.values[value].operands[0]]


def _format(quantize: Value) -> BlockFormat:
    if not isinstance(quantize.dtype, BlockFormat):
        raise TypeError(f"quantize to {quantize.dtype!r}")
    return quantize.dtype


def _mode(quantize: Value) -> str:
    return str(quantize.attrs.get("mode", "none"))
