"""Quantized outputs: the functions they need, and the lines that quantize a sub-tile and store its scales."""

from __future__ import annotations

from fp4cc.codegen.quantizers import element_helper, quantizer, statistic_helper
from fp4cc.codegen.scale_offset import divided, needs_batches, offset_function, remainder, rounded_up
from fp4cc.codegen.wrap import call
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered_epilogue import EpilogueOutput, QuantizePlan
from fp4cc.passes.epilogue_quantize import TRANSPOSE_BUFFER
from fp4num import BlockFormat, ScaleLayout

_INDENT = 16  # of the sub-tile hook in the kernel file
_LINE = 32


def quantize_functions(lowered: LoweredKernel, helpers: set[str]) -> list[str]:
    """Module-level functions of all quantized outputs."""
    texts: list[str] = []
    for output in lowered.epilogue.outputs:
        if output.quantize is None:
            continue
        fmt = _format(output)
        where = "" if output.quantize.along == "columns" else " of a column"
        measured = output.quantize.measure != "line"
        made = quantizer(fmt, output.arg, output.quantize.mode, where, measured=measured)
        helpers |= made.helpers | {"store_word", "global_address", "both", "where_int"}
        texts += [made.factors] if made.factors is not None else []
        batched = bool(lowered.epilogue.problem.batch_axes)
        texts += [made.block, offset_function(output.arg, fmt.layout, batched), _store_function(lowered, output)]
    return texts


def quantize_setup(lowered: LoweredKernel, given: dict[str, str], helpers: set[str]) -> list[str]:
    """Lines of the kernel hook: tensor scales both ways, and the store of one that the kernel makes.

    `given` has the text of each output's tensor scale or amax.
    """
    lines: list[str] = []
    if any(buffer.name == TRANSPOSE_BUFFER for buffer in lowered.smem.buffers):
        helpers.add("shared_address")
        lines.append(f"slab_to_transpose = shared_address({TRANSPOSE_BUFFER}) + warp * {4 * _LINE * _LINE}")
    for output in lowered.epilogue.outputs:
        plan = output.quantize
        if plan is None:
            continue
        if plan.given is not None:
            lines.append(f"{output.arg}_encode, {output.arg}_decode = {output.arg}_factors({given[output.arg]})")
        if plan.tensor_scale_param is not None:
            helpers |= {"store_word", "global_address", "bits"}
            stored = f"{output.arg}_decode" if _format(output).tensor_scale == "multiplies" else f"{output.arg}_encode"
            address = f"global_address({plan.tensor_scale_param}, 0, 4)"
            lines.append(f'store_word("b32", {address}, bits({stored}), first_tile + thread == 0)')
    return lines


def quantize_lines(lowered: LoweredKernel, output: EpilogueOutput, values: str, helpers: set[str]) -> list[str]:
    """Quantize this thread's line of a sub-tile to `NAME_words`, and store its scales."""
    plan, fmt, name = _plan(output), _format(output), output.arg
    lines: list[str] = []
    line, rows, start, length = _extent(plan)
    if plan.along == "rows":
        helpers.add("transpose_in_warp")
        lines.append(f"{name}_line = transpose_in_warp(slab_to_transpose, lane, {values})")
        values = f"{name}_line"
    if plan.measure == "line":
        wide = _wide(fmt)
        arguments = [f"{values}[j : j + {wide}]"]
        if fmt.tensor_scale is not None:
            arguments += [f"{name}_encode", f"{name}_decode"]
        if fmt.block[0] != 1:
            arguments.append(f"{line} < {rows}")
        lines.append(f"{name}_blocks = [quantize_{name}({', '.join(arguments)}) for j in range(0, 32, {wide})]")
        scaled = f"[value for scaled, _ in {name}_blocks for value in scaled]"
    else:
        if by_column(output):
            helpers |= {"shared_load_f32", "shared_address"}
            lines.append(f"{name}_factor = shared_load_f32(shared_address({name}_blocks) + 4 * (column - n0 + lane))")
        scaled = f"[{element_helper(fmt)}(value, {name}_factor) for value in {values}]"
    if plan.rng is None:
        helpers.add(f"words_{fmt.element}")
        lines.append(f"{name}_words = words_{fmt.element}({scaled})")
    else:
        helpers |= {f"random_words_{fmt.element}", "random_words"}
        number = f"Int64(batch) * {rows} + {line}" if lowered.epilogue.problem.batch_axes else f"Int64({line})"
        group = f"({_parens(number)} * {length} + {_parens(start)}) >> 4"
        lines.append(f"{name}_random = random_words({plan.rng}_ptr_words, {plan.stream}, {group}, 2)")
        lines.append(f"{name}_words = random_words_{fmt.element}({scaled}, {name}_random)")
    if plan.measure != "line":
        return lines
    first, *rest = _scales(lowered, output, (line, rows, start, length)).split("\n")
    return [*lines, first, *(part[_INDENT:] for part in rest)]


def measured(lowered: LoweredKernel) -> list[EpilogueOutput]:
    """The outputs whose blocks are measured in a walk of their own."""
    return [o for o in lowered.epilogue.outputs if o.quantize is not None and o.quantize.measure != "line"]


def by_column(output: EpilogueOutput) -> bool:
    """Whether each column of a tile has a block of its own, which is all of the tile's rows."""
    plan = _plan(output)
    return plan.measure == "tile" and plan.along == "rows" and _format(output).block[0] == 1


def measure_start(lowered: LoweredKernel) -> list[str]:
    """Lines before the first walk over a tile."""
    return [f"{output.arg}_amax = Float32(0.0)" for output in measured(lowered) if not by_column(output)]


def measure_lines(lowered: LoweredKernel, output: EpilogueOutput, values: str, helpers: set[str]) -> list[str]:
    """Lines of the first walk for a sub-tile: join the statistic of its values."""
    fmt, name = _format(output), output.arg
    statistic, join = statistic_helper(fmt)
    helpers |= {statistic, join, "where"}
    if by_column(output):
        helpers |= {"transpose_in_warp", "shared_store_f32", "shared_address"}
        place = f"shared_address({name}_blocks) + 4 * (128 * warp + column - n0 + lane)"
        line = f"transpose_in_warp(slab_to_transpose, lane, {values})"
        return [f"shared_store_f32({place}, {statistic}({line}))"]
    if fmt.block[1] == "all":
        values = f"[where(n_size - column > j, {values}[j], 0.0) for j in range(32)]"
    return [f"{name}_amax = {join}({name}_amax, {statistic}({values}))"]


def measure_end(lowered: LoweredKernel, output: EpilogueOutput, helpers: set[str]) -> list[str]:
    """Lines after the first walk: the scales, stored, and the factors."""
    plan, fmt, name = _plan(output), _format(output), output.arg
    _, join = statistic_helper(fmt)
    helpers |= {join, "where"}
    lines: list[str] = []
    line, rows, start, length = ("row", "m_size", "n0", "n_size")
    if plan.along == "rows":
        line, rows, start, length = ("n0 + thread", "n_size", "m0", "m_size")
    if by_column(output):
        helpers |= {"shared_load_f32", "shared_store_f32", "shared_address"}
        parts = [f"shared_load_f32({name}_column + {512 * warp})" for warp in range(4)]
        lines += [
            "prims.barrier_cta_sync(1, thread_count=128)",
            f"{name}_column = shared_address({name}_blocks) + 4 * thread",
            f"{name}_amax = {join}({join}({parts[0]}, {parts[1]}), {join}({parts[2]}, {parts[3]}))",
        ]
    elif fmt.block[0] != 1:
        helpers |= {"largest_of_warps", "shared_address"}
        valid = f"where(row_valid, {name}_amax, 0.0)"
        lines.append(f"{name}_amax = largest_of_warps(shared_address({name}_blocks), warp, lane, {valid})")
    given = [f"{name}_encode", f"{name}_decode"] if fmt.tensor_scale is not None else []
    lines.append(f"{name}_stored, {name}_factor = {name}_scale({', '.join([f'{name}_amax', *given])})")
    block, blocks = ("0", "1") if fmt.block[1] == "all" else (divided(start, 128), divided(length, 128))
    batch, batches = _batches(lowered, output, f"{name}_batches")
    arguments = [plan.scales_param, *batch, line, block, f"[{name}_stored]", rows, blocks, *batches]
    lines.append(f"store_{name}_scales({', '.join(arguments)})")
    if by_column(output):
        lines += [
            "prims.barrier_cta_sync(1, thread_count=128)",
            f"shared_store_f32({name}_column, {name}_factor)",
            "prims.barrier_cta_sync(1, thread_count=128)",
        ]
    return lines


def measure_release(lowered: LoweredKernel) -> list[str]:
    """Lines after a tile: its factors have been read."""
    if any(by_column(output) for output in measured(lowered)):
        return ["prims.barrier_cta_sync(1, thread_count=128)  # the factors have been read"]
    return []


def quantized_place(lowered: LoweredKernel, output: EpilogueOutput) -> list[str]:
    """Where a slab of codes goes, for `copy_rows_out`."""
    plan, fmt = _plan(output), _format(output)
    line, rows, start, length = _extent(plan)
    first = line.replace(" + lane", "") if plan.along == "rows" else "m0 + 32 * warp"
    pitch = _packed(length, fmt.bits)
    number = f"Int64({first}) + Int64(batch) * {rows}" if lowered.epilogue.problem.batch_axes else f"Int64({first})"
    where = f"{_parens(number)} * {_parens(pitch)} + {_parens(_packed(_parens(start), fmt.bits))}"
    left = _packed(f"({length} - {_parens(start)})", fmt.bits)
    return [
        f"global_address({output.param_name}, {where}, 1)",
        pitch,
        str(output.store.row_bytes),
        "1" if fmt.block[1] == "all" else "4",
        "lane",
        f"{rows} - {_parens(first)}",
        left if fmt.block[1] == "all" else f"{_parens(left)} >> 2",
    ]


def quantized_coordinates(output: EpilogueOutput) -> tuple[str, str]:
    """The TMA coordinates of a slab of codes: the byte in a line, and the first line."""
    plan, fmt = _plan(output), _format(output)
    if plan.along == "columns":
        return _packed("column", fmt.bits), "m0 + 32 * warp"
    return _packed("(m0 + 32 * warp)", fmt.bits), "column"


def _extent(plan: QuantizePlan) -> tuple[str, str, str, str]:
    """This thread's line and how many there are; where its 32 elements start and how long a line is."""
    if plan.along == "columns":
        return "row", "m_size", "column", "n_size"
    return "column + lane", "n_size", "m0 + 32 * warp", "m_size"


def _scales(lowered: LoweredKernel, output: EpilogueOutput, extent: tuple[str, str, str, str]) -> str:
    """The call that stores the scales of this thread's line."""
    plan, fmt, name = _plan(output), _format(output), output.arg
    line, rows, start, length = extent
    batch, batches = _batches(lowered, output, f"{name}_batches")
    arguments = [
        plan.scales_param, *batch, line, divided(_parens(start), _wide(fmt)), f"[scale for _, scale in {name}_blocks]",
        rows, divided(length, _wide(fmt)), *batches,
    ]  # fmt: skip
    return call(_INDENT, f"store_{name}_scales", arguments)


def _store_function(lowered: LoweredKernel, output: EpilogueOutput) -> str:
    """A function that stores adjacent scales of a line, and the padding beyond the edges."""
    plan, fmt, name = _plan(output), _format(output), output.arg
    layout = fmt.layout
    batch, batches = _batches(lowered, output, "batches")
    tall = fmt.stored[0] if isinstance(fmt.stored[0], int) else 1
    width = 4 if fmt.scale == "f32" else 1
    place = ", ".join([*batch, "row", "k", "rows", "blocks", *batches])
    body = ["for scale in scales:", f"    offset = {name}_scale_offset({place})"]
    value, stored = "scale", "both(row < rows, k < blocks)"
    if plan.pads and _padded(layout):
        body.append(f"    scale = where_int({stored}, scale, {_pad(fmt)})")
        lines, columns = (_rounded(c, layout.extent(e)) for c, e in (("rows", "row"), ("blocks", "k")))
        stored = f"both(row < {lines}, k < {columns})"
    if tall != 1:
        stored = f"both(first, {stored})"
    address = f"global_address(scales_ptr, offset, {width})"
    body += [f'    store_word("b{8 * width}", {address}, {value}, {stored})', "    k += 1"]
    if tall != 1:
        first = f"first = {remainder('row', tall)} == 0  # one row of a block stores its scale"
        body = [first, f"row, rows = {divided('row', tall)}, {rounded_up('rows', tall)}", *body]
    pads = ", padding included" if plan.pads and _padded(layout) else ""
    arguments = ", ".join(["scales_ptr", *batch, "row", "k", "scales", "rows", "blocks", *batches])
    return "\n".join(
        [
            f"def store_{name}_scales({arguments}):",
            f'    """Store the scales of blocks k, k + 1, ... of a row{pads}."""',
            *(f"    {text}" for text in body),
        ]
    )


def _batches(lowered: LoweredKernel, output: EpilogueOutput, count: str) -> tuple[list[str], list[str]]:
    """What a function of a scale's place takes of batches: which one, and, if the layout asks for it, how many."""
    if not lowered.epilogue.problem.batch_axes:
        return [], []
    return ["batch"], [count] if needs_batches(_format(output).layout) else []


def _padded(layout: ScaleLayout) -> bool:
    return layout.extent("row") > 1 or layout.extent("k") > 1


def _pad(fmt: BlockFormat) -> str:
    if fmt.scale != "f32":
        return str(fmt.layout.pad)
    return f"bits({float(fmt.layout.pad)!r})"


def _rounded(count: str, multiple: int) -> str:
    """A count rounded up to a multiple, as text."""
    return count if multiple == 1 else f"({rounded_up(count, multiple)}) * {multiple}"


def _packed(elements: str, bits: int) -> str:
    """Bytes of packed codes."""
    if bits == 8:
        return elements
    return f"{elements} >> 1" if bits == 4 else f"({elements} >> 2) * 3"


def _parens(text: str) -> str:
    return text if text.isidentifier() else f"({text})"


def _wide(fmt: BlockFormat) -> int:
    if not isinstance(fmt.block[1], int):
        raise TypeError(f"{fmt.name} has one scale a row")
    return fmt.block[1]


def _plan(output: EpilogueOutput) -> QuantizePlan:
    if output.quantize is None:
        raise TypeError(f"{output.arg} is not quantized")
    return output.quantize


def _format(output: EpilogueOutput) -> BlockFormat:
    if isinstance(output.dtype, str):
        raise TypeError(f"{output.arg} is not quantized")
    return output.dtype
