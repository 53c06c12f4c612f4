"""How a schedule block asks for results to be stored: by TMA, which must always be possible, or by threads."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Arg, Schedule
from fp4cc.ir.lowered_epilogue import EpilogueOutput, EpilogueProgram
from fp4cc.passes.epilogue.memory import ELEMENT_BYTES
from fp4rt.sizes import text

FIELD = "store"
#: Kinds of outputs that TMA may store: what a reduction leaves is no tile.
_TILES = ("plain", "quantized")


def asked_store(schedule: Schedule | None) -> str:
    """`direct`, `tma`, or `auto` where nothing is asked."""
    return "auto" if schedule is None else str(schedule.fields.get(FIELD, ("auto",))[0])


def is_asked(schedule: Schedule | None, output: EpilogueOutput) -> bool:
    """Whether a block has decided how an output is stored."""
    return output.kind in _TILES and asked_store(schedule) != "auto"


def not_by_tma(program: EpilogueProgram, schedule: Schedule) -> list[Diagnostic]:
    """A refusal for each output of which TMA does not store every tile, with the rule."""
    found: list[Diagnostic] = []
    for output in program.outputs:
        if output.kind not in _TILES or output.store.via == "tma":
            continue
        arg = program.kernel.arg(output.arg)
        why, *ways = _why(program, output, arg)
        found.append(
            error("FP4206", f"TMA does not store every tile of `{output.arg}`", schedule.field_spans[FIELD],
                  "asked for here", also=[(arg.span, "the output")], notes=[why],
                  help=(*ways, "write `store auto`, or `store direct`")),
        )  # fmt: skip
    return found


def _why(program: EpilogueProgram, output: EpilogueOutput, arg: Arg) -> Iterator[str]:
    """The rule that is not met, and what would meet it."""
    space = program.problem
    pitch = "TMA stores to rows that start on 16 bytes"
    if output.store.adds:
        yield "parts of K add their sums by an atomic for each element, which `reduce atomic` asks for"
        yield "write `reduce ordered`"
    elif space.groups is not None:
        yield "TMA clips at the end of a tensor, and a tile of rows in groups ends where its group does"
    elif output.quantize is not None and output.quantize.line_bytes % 16:
        yield f"32 codes of a row are {output.quantize.line_bytes} bytes, and TMA stores boxes of whole 16 bytes"
    elif output.store.via == "either":
        yield f"{pitch}, which a dynamic size decides"
        yield f"add `where {_condition(output, arg)}` to the kernel"
    elif output.kind == "plain" and output.column_stride != 1:
        yield "a sub-tile has rows of the product, whose elements are no neighbors in this output"
    elif output.store.buffer is None:
        yield "what TMA stores lies in shared memory first, and there is no room for it"
        yield "store fewer outputs"
    else:
        yield f"{pitch}, and those of {text(output.row_stride)} elements of this one do not"
        yield f"give it rows of a multiple of {_unit(output)} elements"


def _unit(output: EpilogueOutput) -> int:
    """Elements of 16 bytes."""
    return 16 // ELEMENT_BYTES[output.dtype] if isinstance(output.dtype, str) else 128 // output.format.bits


def _condition(output: EpilogueOutput, arg: Arg) -> str:
    """What makes all rows of an output start on 16 bytes."""
    length = output.row_stride if output.kind == "plain" else arg.axes[-1].extent
    return f"{text(('mod', length, _unit(output)))} == 0"
