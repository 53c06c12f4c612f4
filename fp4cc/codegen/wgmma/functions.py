"""Functions of Hopper's GEMM as text: those that convert a row of an operand, and those that read its scales."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.fragments import Block, Function, fragment
from fp4cc.codegen.scale_layout import divided
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.codegen.wgmma.loops import ahead_function, function_name, scale_reader
from fp4cc.ir.lowered import TILE_K, LoweredKernel, Scales, Side, Wgmma


@dataclass(frozen=True, slots=True)
class RowFunction:
    """What the template says of a function that converts a row; `scales` and `scale` are None of an unscaled operand.

    A row is loaded in `groups` of whole words of codes, `words`, each of which makes `chunks` of 8 wide elements.
    `pairs`: what makes words of two wide elements; `scales`: the call that makes wide scales of a step's bytes;
    `scale`: which of them is that of chunk number `chunk`.
    """

    function: str
    what: str
    wide: str
    groups: int
    words: str
    chunks: int
    pairs: str
    scales: str | None
    scale: str | None


def row_functions(lowered: LoweredKernel) -> list[RowFunction]:
    """The functions that convert a row, one for each format and type it becomes."""
    sides = (side for side in lowered.engine_as(Wgmma).sides if side.converted)
    return list({function_name(side): _row_function(side) for side in sides}.values())


def _row_function(side: Side) -> RowFunction:
    scales, operand = side.scales, side.operand
    what, text, scale = operand.element, None, None
    if scales is not None:
        over = scales.block or "row"
        what += f" with {scales.type} scales per {over}"
        text = f'scales_of_e4m3(scales, "{side.wide}")' if scales.type == "e4m3" else "scales_of_e8m0(scales)"
        scale = f"8 * chunk // {scales.block}" if scales.per_step > 1 else "0"
    loads = side.row_bytes // 16
    # 16 bytes are no whole number of 6-bit codes.
    groups = 1 if operand.bits == 6 else loads
    all_words = f"[word for part in range({loads}) for word in shared_load_4_words(codes + 16 * part)]"
    return RowFunction(
        function=function_name(side),
        what=what,
        wide=side.wide,
        groups=groups,
        words="shared_load_4_words(codes + 16 * i)" if groups > 1 else all_words,
        chunks=TILE_K // 8 // groups,
        pairs=f"pairs_of_{operand.element}",
        scales=text,
        scale=scale,
    )


def scale_functions(lowered: LoweredKernel) -> list[Function]:
    """The functions that read scales from global memory: for each such operand where a scale lies, and the loads."""
    found: dict[str, list[Function]] = {}
    for side in lowered.engine_as(Wgmma).sides:
        arg, scales, reader = side.operand.arg, side.scales, scale_reader(lowered, side)
        if scales is not None and reader is not None:
            found[reader.name] = [*reader.functions(), _ahead_function(arg, scales, reader)]
    return [text for texts in found.values() for text in texts]


def _ahead_function(arg: str, scales: Scales, reader: ReaderText) -> Function:
    """The function that has scales of a row and a step loaded."""
    if scales.per_step > 1:
        k = f"{scales.per_step} * step + i"
    else:
        k = divided("step", scales.block // TILE_K) if scales.block else "0"
    head = ["found", "scales_ptr", "row", "step", str(scales.rows), *reader.arguments]
    doc = f"Have {arg}'s scales of a row and a step loaded into `found`, a byte each; 0 past the edges."
    each = fragment(
        f"k = {k}",
        f"address = start + {reader.block_offset('k')}",
        f"found[i] = load_b8(address, both(row < {scales.rows}, k < {reader.reader.blocks}))",
    )
    start = f"start = global_address(scales_ptr, {reader.row_offset('row')}, 1)"
    body = fragment(start, Block(f"for i in range({scales.per_step}):", each))
    return Function(ahead_function(reader), tuple(head), doc, body)
