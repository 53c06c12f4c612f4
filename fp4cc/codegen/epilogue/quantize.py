"""Quantized outputs: the functions they need, and the lines that quantize a sub-tile and store its scales."""

from __future__ import annotations

from fp4cc.codegen.epilogue.construct import Construct
from fp4cc.codegen.epilogue.quantizers import element_helper, quantizer, tensor_factors
from fp4cc.codegen.epilogue.staged import staged_address
from fp4cc.codegen.fragments import Block, Call, Fragment, Function, Listed, Statement, fragment
from fp4cc.codegen.placing import rows_end
from fp4cc.codegen.scale_layout import LayoutText, divided, remainder, rounded_up
from fp4cc.codegen.strides import packed_bytes
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered_epilogue import CTA_ROWS, TRANSPOSE_BUFFER, EpilogueOutput, EpilogueProgram, QuantizePlan
from fp4num import BlockFormat, ScaleLayout
from fp4num.cute import Tree, leaves

_LINE = 32


class Quantize(Construct):
    """The quantized outputs of an epilogue."""

    name = "quantize"

    def setup(self) -> Fragment:
        before: list[str] = []
        lines = [
            line for output in self.program.outputs if not of_each_batch(output, self.program)
            for line in self._factors(output, before, "first_tile + thread == 0")
        ]  # fmt: skip
        return fragment(*before, *transpose_setup(self.lowered), *lines)

    def _factors(self, output: EpilogueOutput, before: list[str], first: str, index: str = "0") -> list[str]:
        """Tensor scales both ways, and the store of one that the kernel makes, by the thread that is `first`."""
        plan = output.quantize
        if plan is None or plan.given is None:
            return []
        return factor_lines(output, self.printer.text(plan.given, before, self.names), first, index)

    def functions(self) -> list[Function]:
        return quantize_functions(self.lowered)

    def per_tile(self) -> Fragment:
        """Tensor scales of the tile's batch; what is known of the rows' blocks, each by the thread that has the row."""
        found: Fragment = ()
        for output in self.program.outputs:
            if of_each_batch(output, self.program):
                ahead: list[str] = []
                lines = self._factors(output, ahead, "m0 + n0 + thread == 0", "batch")
                found = fragment(found, *ahead, *lines)
        for output, known in self._known("columns"):
            before: list[str] = []
            text = self.printer.text(known, before, self.names)
            found = fragment(found, *before, known_lines(self.lowered, output, text))
        return found

    def lists(self) -> None:
        """What is known of a line of a sub-tile."""
        for output, known in self._known("rows"):
            before: list[str] = []
            if known in self.program.staged:
                text = f"{output.arg}_known"
                place = staged_address(self.program, known, "column - n0 + lane")
                before.append(f"{text} = shared_load_f32({place})")
            else:
                text = self.printer.text(known, before, self.names)
            self.epilogue.factors[output.arg] = fragment(*before, known_lines(self.lowered, output, text))

    def _known(self, along: str) -> list[tuple[EpilogueOutput, int]]:
        """The outputs whose lines lie that way and of whose blocks something is known, and what."""
        plans = [(output, output.quantize) for output in self.program.outputs if output.quantize is not None]
        return [(o, plan.known) for o, plan in plans if plan.known is not None and plan.along == along]


def quantize_functions(lowered: LoweredKernel) -> list[Function]:
    """Module-level functions of all quantized outputs."""
    texts: list[Function] = []
    for output in lowered.epilogue.outputs:
        if output.quantize is None:
            continue
        fmt, plan = output.format, output.quantize
        where = "" if plan.along == "columns" else " of a column"
        made = quantizer(fmt, output.arg, plan.mode, plan.measure, where)
        offset = _layout(lowered, output).offset_function(f"{output.arg}_scale_offset")
        texts += [*made.functions, offset, _store_function(lowered, output)]
    return texts


def of_each_batch(output: EpilogueOutput, program: EpilogueProgram) -> bool:
    """Whether an output has a tensor scale for each batch: then it is known once a tile, not once a kernel."""
    if output.quantize is None or output.quantize.given is None:
        return False
    return bool(program.kernel.values[output.quantize.given].axes)


def transpose_setup(lowered: LoweredKernel) -> list[str]:
    """Where a warp turns sub-tiles around, if it does."""
    if all(buffer.name != TRANSPOSE_BUFFER for buffer in lowered.smem.buffers):
        return []
    return [f"slab_to_transpose = shared_address({TRANSPOSE_BUFFER}) + warp * {4 * _LINE * _LINE}"]


def factor_lines(output: EpilogueOutput, given: str, first: str, index: str) -> list[str]:
    """Lines for a tensor scale both ways, and its store by the thread that is `first`, where the kernel makes it.

    `given` is the text of the tensor scale or amax, `index` that of the number of its batch.
    """
    plan = output.quantization
    lines = [f"{', '.join(factor_names(output))} = {output.arg}_factors({given})"]
    if plan.tensor_scale_param is not None:
        sense = "decode" if output.format.tensor_scale == "multiplies" else "encode"
        address = f"global_address({plan.tensor_scale_param}, {index}, 4)"
        lines.append(f'store_word("b32", {address}, bits({output.arg}_{sense}), {first})')
    return lines


def factor_names(output: EpilogueOutput) -> list[str]:
    """The names of the tensor scale both ways, and of the amax where the rule needs it; none without a tensor scale."""
    return [f"{output.arg}_{name}" for name in tensor_factors(output.format, output.quantization.mode)]


def known_lines(lowered: LoweredKernel, output: EpilogueOutput, known: str) -> Fragment:
    """Lines for what is known of a line: its scale's word and factor, and the store by the first tile with the line.

    They stand at the tile where blocks lie along the columns, and else at the sub-tile.
    """
    name, plan = output.arg, output.quantization
    line, rows, _, _ = extent_of(plan)
    first = "n0 == 0" if plan.along == "columns" else "m0 + 32 * warp == 0"
    stored = store_scales(lowered, output, (line, rows, "0", "1"), f"[{name}_scale_stored]")
    return fragment(
        f"{name}_scale_stored, {name}_factor = {name}_scale({', '.join([known, *factor_names(output)])})",
        Block(f"if {first}:", (stored,)),
    )


def quantize_lines(lowered: LoweredKernel, output: EpilogueOutput, values: str, before: Fragment) -> Fragment:
    """Quantize this thread's line of a sub-tile to `NAME_words`.

    `before` has the lines that find `NAME_factor`, if something other than this line determines it.
    """
    plan, fmt, name = output.quantization, output.format, output.arg
    lines: list[str | Statement] = []
    line, rows, start, length = extent_of(plan)
    if plan.along == "rows":
        lines.append(f"{name}_line = transpose_in_warp(slab_to_transpose, lane, {values})")
        values = f"{name}_line"
    if plan.measure == "line":
        wide = _wide(fmt)
        arguments = [f"{values}[j : j + {wide}]", *factor_names(output)]
        if fmt.block[0] != 1:
            arguments.append(f"{line} < {rows_end(lowered) if plan.along == 'columns' else rows}")
        quantized = f"quantize_{name}({', '.join(arguments)})"
        lines.append(Listed(f"{name}_blocks", quantized, f"j in range(0, 32, {wide})"))
        scaled = f"[value for scaled, _ in {name}_blocks for value in scaled]"
    else:
        lines += before
        scaled = f"[{element_helper(fmt)}(value, {name}_factor) for value in {values}]"
    if plan.rng is None:
        lines.append(f"{name}_words = words_{fmt.element}({scaled})")
    else:
        number = f"Int64(batch) * {rows} + {line}" if lowered.epilogue.problem.batch_axes else f"Int64({line})"
        first, state = f"{_parens(number)} * {length} + {_parens(start)}", f"{plan.rng}_ptr_words, {plan.stream}"
        random = f"random_words({state}, ({first}) >> 4, 2)" if plan.aligned else f"random_bytes({state}, {first})"
        lines.append(f"{name}_random = {random}")
        lines.append(f"{name}_words = random_words_{fmt.element}({scaled}, {name}_random)")
    return fragment(*lines)


def store_lines(lowered: LoweredKernel, output: EpilogueOutput) -> Fragment:
    """Store the scales of this thread's line of a sub-tile, which `quantize_lines` has found.

    After the codes are on their way: the fence before TMA reads them would wait for these stores.
    """
    if output.quantize is None or output.quantize.measure != "line":
        return ()
    scales = f"[scale for _, scale in {output.arg}_blocks]"
    return (store_scales(lowered, output, extent_of(output.quantize), scales),)


def store_scales(
    lowered: LoweredKernel, output: EpilogueOutput, extent: tuple[str, str, str, str], scales: str
) -> Call:
    """The call that stores the scales of blocks next to each other on a line.

    `extent`: the line and how many there are, where the first block starts and how long a line is.
    """
    plan, fmt = output.quantization, output.format
    line, rows, start, length = extent
    end: list[str] = []
    if lowered.epilogue.problem.groups is not None:
        line, rows, last = scale_lines(lowered, output)
        end = [] if last is None else [last]
    wide, stored = fmt.block[1], fmt.stored[1]
    if isinstance(wide, int) and isinstance(stored, int):
        start, length = divided(_parens(start), stored), divided(length, stored)
        if plan.along == "rows":
            end = [divided(each, stored) for each in end]
        if wide != stored:
            scales = f"repeated({scales}, {wide // stored})"
    batch = ["batch"] if lowered.epilogue.problem.batch_axes else []
    arguments = [plan.scales_param, *batch, line, start, scales, *_batches(lowered, output), rows, length, *end]
    return Call(f"store_{output.arg}_scales", tuple(arguments))


def quantized_place(lowered: LoweredKernel, output: EpilogueOutput) -> list[str]:
    """Where a slab of codes goes, for `copy_rows_out`."""
    plan, fmt = output.quantization, output.format
    _, rows, start, length = extent_of(plan)
    first = "column" if plan.along == "rows" else "m0 + 32 * warp"
    stop = rows_end(lowered) if plan.along == "rows" else length
    left, unit = packed_bytes(f"({stop} - {_parens(start)})", fmt.bits), _unit(fmt)
    return [
        _codes_address(lowered, output, first),
        packed_bytes(length, fmt.bits),
        "lane",
        f"row_bytes={output.store.row_bytes}",
        f"width={unit}",
        f"rows={rows_end(lowered) if plan.along == 'columns' else rows} - {_parens(first)}",
        f"units={left if unit == 1 else divided(_parens(left), unit)}",
    ]


def _codes_address(lowered: LoweredKernel, output: EpilogueOutput, line: str) -> str:
    """Where the codes of a sub-tile start on a line."""
    plan, bits = output.quantization, output.format.bits
    _, rows, start, length = extent_of(plan)
    pitch = packed_bytes(length, bits)
    number = f"Int64({line}) + Int64(batch) * {rows}" if lowered.epilogue.problem.batch_axes else f"Int64({line})"
    where = f"{_parens(number)} * {_parens(pitch)} + {_parens(packed_bytes(_parens(start), bits))}"
    return f"global_address({output.param_name}, {where}, 1)"


def lane_stores(lowered: LoweredKernel, output: EpilogueOutput) -> Fragment:
    """Store the codes of this thread's 32 columns of its row: 16 bytes at once where rows start on 16 bytes."""
    name, bits = output.arg, output.format.bits
    line, _, start, length = extent_of(output.quantization)
    address, words = _codes_address(lowered, output, line), f"{name}_words"
    left, inside = packed_bytes(f"({length} - {start})", bits), f"{line} < {rows_end(lowered)}"
    vectors = Call("store_vectors", (address, words, left, inside))
    if output.store.flag is None:
        return (vectors,)
    units = Call("store_units", (address, words, str(_unit(output.format)), left, inside))
    return (Block(f"if {output.store.flag} != 0:", (vectors,), (units,)),)


def _unit(fmt: BlockFormat) -> int:
    """Bytes that every line of codes has a whole number of, a word at most: a line has whole blocks."""
    columns = fmt.block[1]
    size = columns * fmt.bits // 8 if isinstance(columns, int) else 1
    return next(unit for unit in (4, 2, 1) if size % unit == 0)


def quantized_coordinates(output: EpilogueOutput) -> tuple[str, str]:
    """The TMA coordinates of a slab of codes: the byte in a line, and the first line."""
    plan, fmt = output.quantization, output.format
    if plan.along == "columns":
        return packed_bytes("column", fmt.bits), "m0 + 32 * warp"
    return packed_bytes("(m0 + 32 * warp)", fmt.bits), "column"


def scale_lines(lowered: LoweredKernel, output: EpilogueOutput) -> tuple[str, str, str | None]:
    """This thread's line in the scales, how many there are, and where the group ends, if it does not with them.

    Of ragged rows that share rows of atoms, each group starts a new one. Where lines lie along the rows, the group ends
    within each of them, at a whole block.
    """
    line, rows, _, _ = extent_of(output.quantization)
    space = lowered.epilogue.problem
    if space.groups is None:
        return line, rows, None
    end = rows_end(lowered)
    if output.quantization.along == "rows":
        return line, rows, end
    if not space.ragged or output.format.layout.extent("row") == output.format.stored[0] == 1:
        return line, rows, end
    place = f"{{}} - group_first + {CTA_ROWS} * atoms_before"
    return place.format(line), rows, place.format(end)


def extent_of(plan: QuantizePlan) -> tuple[str, str, str, str]:
    """This thread's line and how many there are; where its 32 elements start and how long a line is."""
    if plan.along == "columns":
        return "row", "m_size", "column", "n_size"
    return "column + lane", "n_size", "m0 + 32 * warp", "m_size"


def _store_function(lowered: LoweredKernel, output: EpilogueOutput) -> Function:
    """A function that stores adjacent scales of a line, and the padding beyond the edges."""
    plan, fmt, name = output.quantization, output.format, output.arg
    layout = fmt.layout
    batch = ["batch"] if lowered.epilogue.problem.batch_axes else []
    tall = fmt.stored[0]
    width = 4 if fmt.scale == "f32" else 1
    place = ", ".join([*batch, "row", "k", *_layout(lowered, output).counts])
    end = ["end"] if lowered.epilogue.problem.groups is not None else []
    each = [f"offset = {name}_scale_offset({place})"]
    paired = plan.pads and plan.measure == "line" and _in_pairs(fmt)
    within = "rows" if not end or plan.along == "rows" else "end"
    last = "end" if end and plan.along == "rows" else "blocks"
    inside = f"row < {within}"
    number, stored = 2 if paired else 1, f"both({inside}, k < {last})"
    if plan.pads and _padded(layout):
        each.append(f"scale = where_int({stored}, scale, {_pad(fmt)})")
        if paired:
            each.append(f"scale |= where_int(both({inside}, k + 1 < blocks), next_scale, {_pad(fmt)}) << 8")
        lines, columns = (_rounded(c, layout.extent(e)) for c, e in (("rows", "row"), ("blocks", "k")))
        stored = f"both(row < {lines}, k < {columns})"
    if tall != 1:
        stored = f"both(first, {stored})"
    address = f"global_address(scales_ptr, offset, {width})"
    stores = f'store_word("b{8 * width * number}", {address}, scale, valid)'
    each += [f"valid = {stored}", stores, f"k += {number}"]
    before: list[str] = []
    if tall != 1:
        first, row, rows = "row", "0", "1"
        if isinstance(tall, int):
            first, row, rows = remainder("row", tall), divided("row", tall), rounded_up("rows", tall)
        before = [f"first = {first} == 0  # one row of a block stores its scale", f"row, rows = {row}, {rows}"]
        if within == "end":
            before.append(f"end = {rounded_up('end', tall) if isinstance(tall, int) else '1'}")
    pads = ", padding included" if plan.pads and _padded(layout) else ""
    arguments = ("scales_ptr", *batch, "row", "k", "scales", *_batches(lowered, output), "rows", "blocks", *end)
    doc = f"Store the scales of blocks k, k + 1, ... of a row{pads}."
    loop = "for scale, next_scale in zip(scales[0::2], scales[1::2]):" if paired else "for scale in scales:"
    body = fragment(*before, Block(loop, fragment(*each)))
    return Function(f"store_{name}_scales", arguments, doc, body)


def _layout(lowered: LoweredKernel, output: EpilogueOutput) -> LayoutText:
    return LayoutText(output.format.layout, bool(lowered.epilogue.problem.batch_axes))


def _batches(lowered: LoweredKernel, output: EpilogueOutput) -> list[str]:
    """The argument that says how many batches there are, where the layout needs it."""
    return [count for count in _layout(lowered, output).counts if count == "batches"]


def _padded(layout: ScaleLayout) -> bool:
    return layout.extent("row") > 1 or layout.extent("k") > 1


def _in_pairs(fmt: BlockFormat) -> bool:
    """Whether scales of one byte can be stored by twos: a sub-tile's line has a whole number of pairs, which the layout
    keeps together, at even places, in the padding too."""
    layout, stored = fmt.layout, fmt.stored[1]
    if fmt.scale == "f32" or not isinstance(stored, int) or _LINE // stored % 2 or layout.extent("k") % 2:
        return False
    modes = zip(layout.coords, _parts(layout.atom_shape), _parts(layout.atom_stride), strict=True)
    found = {name: list(leaves(shape, stride)) for (name, _), shape, stride in modes}
    (length, step), *rest = found.pop("k")
    others = [stride for _, stride in (*rest, *(leaf for mode in found.values() for leaf in mode))]
    return step == 1 and length % 2 == 0 and not any(stride % 2 for stride in others)


def _parts(tree: Tree) -> tuple[Tree, ...]:
    return tree if isinstance(tree, tuple) else (tree,)


def _pad(fmt: BlockFormat) -> str:
    width = 4 if fmt.scale == "f32" else 1
    return str(int.from_bytes([fmt.layout.pad] * width, "little", signed=width == 4))  # as an Int32


def _rounded(count: str, multiple: int) -> str:
    """A count rounded up to a multiple, as text."""
    return count if multiple == 1 else f"({rounded_up(count, multiple)}) * {multiple}"


def _parens(text: str) -> str:
    return text if text.isidentifier() else f"({text})"


def _wide(fmt: BlockFormat) -> int:
    if not isinstance(fmt.block[1], int):
        raise TypeError(f"{fmt.name} has one scale a row")
    return fmt.block[1]
