"""Quantized inputs as numbers, as text: a function that reads 32 columns of a row, codes and scales."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.codegen.epilogue.construct import Construct
from fp4cc.codegen.epilogue.reading import number_of_row, numbered_row, offset_text
from fp4cc.codegen.fragments import Call, Fragment, Function, fragment
from fp4cc.codegen.scale_layout import divided
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.codegen.strides import packed_bytes
from fp4cc.ir.lowered_converters import DecodedInput
from fp4cc.ir.lowered_epilogue import SUBTILE, EpilogueInput, RowNumbersInput


class Decoded(Construct):
    """`dequantize` of arguments: a list of 32 numbers each, 0 past the ends."""

    name = "decoded"

    def lists(self) -> None:
        parts = {part.arg: part for part in self.program.parts_of(DecodedInput)}
        for leaf in self.epilogue.inputs("codes"):
            name = self.epilogue.vectors[leaf.value] = self.names.new(f"{leaf.source}_columns")
            self.epilogue.steps.append(self._read(parts[leaf.source], leaf, name))

    def functions(self) -> Sequence[Function]:
        return [
            function
            for part in self.program.parts_of(DecodedInput)
            for function in (*ReaderText(part.arg, part.scales).functions(), _numbers(part))
        ]

    def _read(self, part: DecodedInput, leaf: EpilogueInput, name: str) -> Fragment:
        if leaf.numbers is not None:
            return self._by_number(part, leaf, leaf.numbers, name)
        where = offset_text(self.program, leaf)
        address = f"global_address({leaf.param_name}, {packed_bytes(f'({where})', part.bits)}, 1)"
        reader = ReaderText(part.arg, part.scales)
        arguments = (address, part.scales.param, "row", "column", "n_size", "row_valid", *reader.arguments)
        return fragment(Call(f"{name} = {part.arg}_numbers", tuple(dict.fromkeys(arguments))))

    def _by_number(self, part: DecodedInput, leaf: EpilogueInput, numbers: RowNumbersInput, name: str) -> Fragment:
        """The same of the row that has a number."""
        row = numbered_row(numbers)
        where = packed_bytes(f"(Int64({row}) * n_size + column)", part.bits)
        address = f"global_address({leaf.param_name}, {where}, 1)"
        reader = ReaderText(part.arg, part.scales)
        arguments = (address, part.scales.param, row, "column", "n_size", f"{row}_there", *reader.arguments)
        return fragment(
            number_of_row(self.program, numbers, row),
            Call(f"{name} = {part.arg}_numbers", tuple(dict.fromkeys(arguments))),
        )


def _numbers(part: DecodedInput) -> Function:
    """The function that loads a run of codes and their scales, and multiplies them."""
    reader, count, width = ReaderText(part.arg, part.scales), part.run_scales, part.scales.width
    run = SUBTILE * part.words // part.bits
    valid = f"both(row_valid, n_size - column > {run} * i)" if part.loads > 1 and part.bits == 8 else "valid"
    at = f"address + {4 * part.words} * i" if part.loads > 1 else "address"
    words = f"words = load_words(address, {part.words}, valid)"
    if part.loads > 1:
        words = f"words = [word for i in range({part.loads}) for word in load_words({at}, {part.words}, {valid})]"
    block = divided("column", part.block) if part.block else "0"
    places = f"[start + {reader.block_offset(block)}]"
    if count > width:
        places = f"[start + {reader.block_offset(f'({block}) + i')} for i in range(0, {count}, {width})]"
    factor = "factors[0]" if count == 1 else f"factors[j // {part.block}]"
    body = fragment(
        "valid = both(row_valid, column < n_size)",
        words,
        f"start = global_address(scales_ptr, {reader.row_offset('row')}, 1)",
        Call("(scales,) = gather_scales", (places, str(width), f"where_int(valid, {count}, 0)")),
        f"factors = [decode_{part.scales.scale}(scales >> 8 * i & 255) for i in range({count})]",
        f'numbers = [x for pair in pairs_of_{part.element}(words, "bf16") for x in unpack_bf16(pair)]',
        f"return [mul(x, {factor}) for {'j, x in enumerate(numbers)' if count > 1 else 'x in numbers'}]",
    )
    head = ("address", "scales_ptr", "row", "column", "n_size", "row_valid", *reader.arguments)
    doc = f"{SUBTILE} numbers of a row of {part.arg}: {part.element} times {part.scales.scale} scales; 0 past the ends."
    return Function(f"{part.arg}_numbers", tuple(dict.fromkeys(head)), doc, body)
