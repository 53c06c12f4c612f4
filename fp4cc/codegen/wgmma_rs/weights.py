"""Weights on their way to registers, as text: where a lane finds its rows' codes and scales, and the functions."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.fragments import Block, Call, Fragment, Function, fragment
from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.parts import bytes_name
from fp4cc.codegen.scale_layout import divided
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.ir.lowered import LoweredKernel, Weights, WeightScales, WgmmaRS
from fp4cc.ir.lowered.wgmma_rs import STAGE_K


@dataclass(frozen=True, slots=True)
class WeightsText:
    """What a multiplying warp does for its weights.

    `setup`: once, where its rows are. `ahead`: before a tile's first stage; `stage`: in each, up to `fragments`, the
    call that makes A of a stage, and `following`: has the scales of the next stage loaded.
    """

    setup: Fragment
    ahead: Fragment
    stage: Fragment
    fragments: Call
    following: Fragment


def weights_text(lowered: LoweredKernel) -> WeightsText:
    """The text of all weights: they are alike, and a warp has rows of one of them."""
    engine = lowered.engine_as(WgmmaRS)
    like, several = engine.like, len(engine.weights) > 1
    warp = "(mma_warp % 4)" if engine.turns else "mma_warp"
    setup = [
        f"weight_row = 16 * {warp} + lane // 4  # this lane's first row of the tile's weights; it has that + 8 too"
    ]
    if several:
        setup += [f"which = mma_warp // {like.rows // 16}  # the operand that this warp has rows of",
                  f"operand_row = weight_row % {like.rows}"]  # fmt: skip
    row = "operand_row" if several else "weight_row"
    bases = [f"shared_address({each.part.buffer})" for each in engine.weights]
    if engine.fast:
        return _fast(lowered, engine, setup, row)
    turned = lowered.kernel.arg(lowered.products.a.arg).turned
    of_lane = " + 8 * (lane % 4)" if turned else ""
    setup.append(f"codes_of_lane = {_chosen(bases)} + {row} * {like.row_bytes}{of_lane}")
    function, arguments = _fragments(engine, turned=turned)
    if not turned:
        setup.append(f"selector = lane_selector(lane % 4, {like.operand.bits})")
    if like.scales is None:
        return WeightsText(fragment(*setup), (), (), Call(function, (*arguments, "None", "8")), ())
    per_scale = str(like.scales.block) if like.scales.per_stage > 1 else str(STAGE_K)
    made = (
        f'equal_pairs(pairs_of_e4m3([word], "{engine.wide}"))' if like.scales.type == "e4m3" else "scales_of_e8m0(word)"
    )
    scaled = Call(function, (*arguments, "scales", per_scale))
    if like.scales.reader is None:
        setup_atoms, words = _atoms(lowered, engine, like.scales, row)
        stage = fragment(*words, f"scales = [{made} for word in words]")
        return WeightsText(fragment(*setup, *setup_atoms), (), stage, scaled, ())
    stage = fragment(f"scales = [{made} for word in [scale_words[0], scale_words[1]]]")
    return WeightsText(
        fragment(*setup, "scale_words = cutlass.Array(Int32, 2, space=cutlass.AddressSpace.rmem)  # the next stage's"),
        _read(lowered, engine, row, _first_stage(lowered, engine)),
        stage,
        scaled,
        _read(lowered, engine, row, f"k_stage + {2 if engine.turns else 1}"),
    )


def _fast(lowered: LoweredKernel, engine: WgmmaRS, setup: list[str], row: str) -> WeightsText:
    """Codes and words of scales as they are: what becomes of them depends on how far the scales lie apart."""
    like = engine.like
    if like.scales is None:
        raise TypeError(f"{like.operand.arg} has no scales")
    bases = _chosen([f"shared_address({each.part.buffer})" for each in engine.weights])
    setup += [
        f"codes_of_lane = {bases} + {row} * {like.row_bytes} + {row} // 2 % 4 * 16 + lane % 4 // 2 * 4",
        "selector = 0x5410 + lane % 2 * 0x2222  # of prmt: the low or the high halves of two words",
    ]
    arguments = (f"codes_of_lane + stage * {bytes_name(like.part)}", str(8 * like.row_bytes), "selector")
    codes = Call("codes = codes_of_two_rows", arguments)
    if like.scales.reader is None:
        setup_atoms, words = _atoms(lowered, engine, like.scales, row)
        return WeightsText(fragment(*setup, *setup_atoms), (), fragment(*words), codes, ())
    held = "scale_words = cutlass.Array(Int32, 2, space=cutlass.AddressSpace.rmem)  # the next stage's"
    return WeightsText(
        fragment(*setup, held),
        _read(lowered, engine, row, _first_stage(lowered, engine)),
        fragment("words = [scale_words[0], scale_words[1]]"),
        codes,
        _read(lowered, engine, row, f"k_stage + {engine.step_stages}"),
    )


def _fragments(engine: WgmmaRS, *, turned: bool) -> tuple[str, list[str]]:
    """The function that makes A of a stage, and its arguments but for the scales."""
    like = engine.like
    codes = f"codes_of_lane + stage * {bytes_name(like.part)}"
    further, element, wide = str(8 * like.row_bytes), like.operand.element, f'"{engine.wide}"'
    if turned:
        return "weights = turned_fragments", [codes, further, f"pairs_of_{element}", wide]
    chunks = str(like.row_bytes // 16)
    return "weights = weight_fragments", [codes, further, chunks, f"lane_pairs_of_{element}", wide, "selector"]


def _first_stage(lowered: LoweredKernel, engine: WgmmaRS) -> str:
    """The first stage along K of a work item that a warp multiplies."""
    own = "warpgroup" if engine.turns else "0"
    if lowered.split is None:
        return own
    if engine.step_stages == 1:
        return "k_first"
    return f"{engine.step_stages} * k_first" + (f" + {own}" if engine.turns else "")


def _chosen(texts: list[str]) -> str:
    """The text of the operand that the warp has rows of."""
    if len(set(texts)) == 1:
        return texts[0]
    found = texts[-1]
    for index in reversed(range(len(texts) - 1)):
        found = f"where_int(which == {index}, {texts[index]}, {found})"
    return found


# Scales in atoms.


def _atoms(lowered: LoweredKernel, engine: WgmmaRS, scales: WeightScales, row: str) -> tuple[list[str], list[str]]:
    """Where the warp's atoms are, and the statements that read the words of a lane's rows."""
    bases = [f"shared_address({each.part.of_scales.buffer})" for each in engine.weights]
    first = "0" if scales.stages_per_atom == 1 else f"k_stage % {scales.stages_per_atom} * {scales.per_stage}"
    in_atom = f"atom_row + {row}" if engine.like.rows != 128 else row
    word = f"atom_scales(atom, {in_atom} + 8 * i, {first}, {scales.per_stage})"
    words = ["atom = atoms + stage * SFB_BYTES", f"words = [{word} for i in range(2)]"]
    return [f"atoms = {_chosen(bases)}"], words


def atom_rows(lowered: LoweredKernel) -> Fragment:
    """Once a tile: in which row of its atom a tile's weights start, where tiles are narrower than atoms."""
    engine = lowered.engine_as(WgmmaRS)
    scales = engine.like.scales
    if scales is None or scales.reader is not None or engine.like.rows == 128:
        return ()
    firsts = [f"({first_row(lowered, each)}) % 128" for each in engine.weights]
    return fragment(f"atom_row = {_chosen(firsts)}")


# Scales by their layout.


def first_row(lowered: LoweredKernel, weights: Weights) -> str:
    """The row of its argument at which an operand's rows of a tile start."""
    return whole_index(weights.operand.half, "n0", "n_size", weights.rows)


def _readers(lowered: LoweredKernel) -> list[ReaderText]:
    """A reader for each operand; those of one argument that differ are numbered."""
    found: list[ReaderText] = []
    for each in lowered.engine_as(WgmmaRS).weights:
        if each.scales is None or each.scales.reader is None:
            continue
        arg = each.operand.arg
        others = [text.reader for text in found if text.name.startswith(arg)]
        distinct = list(dict.fromkeys([*others, each.scales.reader]))
        found.append(ReaderText(f"{arg}{numbered(distinct.index(each.scales.reader))}", each.scales.reader))
    return found


def _read(lowered: LoweredKernel, engine: WgmmaRS, row: str, stage: str) -> Fragment:
    """Have the words of scales of a stage loaded."""
    calls: list[Call] = []
    for each, reader in zip(engine.weights, _readers(lowered), strict=True):
        scales = each.scales
        if scales is None:
            raise TypeError(f"{each.operand.arg} has no scales")
        arguments = ["scale_words", reader.reader.param, f"n0 + {row}", stage, str(scales.rows), *reader.arguments]
        calls.append(Call(f"{reader.name}_scales_ahead", tuple(dict.fromkeys(arguments))))
    if len(calls) == 1:
        return (calls[0],)
    return tuple(Block(f"if which == {index}:", (call,)) for index, call in enumerate(calls))


def scale_functions(lowered: LoweredKernel) -> list[Function]:
    """The functions that read scales from global memory: for each such operand where a scale lies, and the loads."""
    engine = lowered.engine_as(WgmmaRS)
    found: dict[str, list[Function]] = {}
    for each, reader in zip(engine.weights, _readers(lowered), strict=False):
        if each.scales is not None:
            found[reader.name] = [*reader.functions(), _ahead(each.operand.arg, each.scales, reader)]
    return [function for functions in found.values() for function in functions]


def _ahead(arg: str, scales: WeightScales, reader: ReaderText) -> Function:
    """The function that has a word of scales of a stage loaded for each of a lane's two rows."""
    count, width = scales.per_stage, reader.reader.width
    if count > 1:
        k = f"{count} * stage"
    else:
        k = divided("stage", scales.block // scales.stage_k) if scales.block else "0"
    places = f"[start + {reader.block_offset('k + i' if count > 1 else 'k')}]"
    if count > width:
        places = f"[start + {reader.block_offset('k + i')} for i in range(0, {count}, {width})]"
    elif count > 1:
        places = f"[start + {reader.block_offset('k')}]"
    word = "word"
    if reader.reader.partial:
        word = "first_bytes(word, left)"
    each = fragment(
        f"left = where_int(row + 8 * half < {scales.rows}, {reader.reader.blocks} - k, 0)",
        f"start = global_address(scales_ptr, {reader.row_offset('row + 8 * half')}, 1)",
        Call("(word,) = gather_scales", (places, str(width), "left")),
        f"found[half] = {word}",
    )
    head = ["found", "scales_ptr", "row", "stage", str(scales.rows), *reader.arguments]
    doc = f"Have {arg}'s scales of two rows and a stage loaded into `found`, a word each; 0 past the edges."
    body = fragment(f"k = {k}", Block("for half in range(2):", each))
    return Function(f"{reader.name}_scales_ahead", tuple(dict.fromkeys(head)), doc, body)
