"""How an epilogue quantizes an output: which direction its blocks lie in, and where codes, scales and padding go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Arg, Expr, Kernel, Value
from fp4cc.ir.lowered import KernelParam, SmemBuffer
from fp4cc.ir.lowered_epilogue import (
    CTA_ROWS,
    LINE,
    TRANSPOSE_BUFFER,
    EpilogueOutput,
    EpilogueProgram,
    QuantizePlan,
    Space,
    StorePlan,
)
from fp4cc.ir.sizes import Sizes, ceildiv, mul, scaled
from fp4cc.passes.epilogue.construct import Construct, GlobalMemory, Planning
from fp4cc.passes.epilogue.lines import KNOWN, PANEL, along, measure
from fp4cc.passes.epilogue.memory import Level, slabs, transposition
from fp4cc.passes.problem.divides import divides
from fp4cc.passes.problem.groups import most_tiles
from fp4cc.passes.problem.unzip import Frame
from fp4num import BlockFormat
from fp4num.rules import FourOverSix, rule
from fp4rt.manifest import Init, Param, TensorMap


class Quantize(Construct):
    """The quantized outputs of an epilogue."""

    name = "quantize"
    writes = ("quantized",)

    def stores(self, arg: Arg, value: Value, frame: Frame) -> bool:
        return arg.format is not None

    def output_refusals(self, arg: Arg, value: Value, frame: Frame) -> Iterable[Diagnostic]:
        return refusals(arg, value, frame.problem)

    def stored(self, index: int, kernel: Kernel) -> Sequence[int]:
        """What is quantized, and what is given of it: not the random state, which is no value."""
        value = kernel.values[index]
        if value.op != "quantize":
            return (index,)
        return value.operands[: 1 if value.attrs.get("mode", "none") == "none" else 2]

    def output(self, arg: Arg, index: int, planning: Planning) -> EpilogueOutput:
        kernel = planning.kernel
        return plan_quantized(
            kernel, arg, kernel.values[index], planning.space, planning.sizes, planning.tile_n, planning.level
        )

    def output_params(self, output: EpilogueOutput) -> Sequence[KernelParam]:
        """The scales, then the codes where threads store them, the random state, and the tensor scale."""
        plan = output.quantization
        found = [KernelParam(plan.scales_param, Param("pointer", f"{output.arg}.scales"), "scales")]
        if output.store.via != "tma":
            found.append(KernelParam(output.param_name, Param("pointer", f"{output.arg}.codes"), "codes"))
        if plan.rng is not None:
            found.append(KernelParam(f"{plan.rng}_ptr", Param("pointer", plan.rng), "random state"))
        if plan.tensor_scale_param is not None:
            stored = Param("pointer", f"{output.arg}.tensor_scale")
            found.append(KernelParam(plan.tensor_scale_param, stored, "tensor scale"))
        if output.store.flag is not None:
            found.append(KernelParam(output.store.flag, Param("i32", legal(output)), "rows start on 16 bytes"))
        return found

    def output_maps(self, output: EpilogueOutput, space: Space) -> Sequence[TensorMap]:
        return [] if output.store.tensor_map is None else [tensor_map(output, space)]

    def output_buffers(self, output: EpilogueOutput) -> Sequence[SmemBuffer]:
        return slabs(output)

    def buffers(self, program: EpilogueProgram) -> Sequence[SmemBuffer]:
        return [transposition()] if any(o.quantize and o.quantize.transpose_buffer for o in program.outputs) else []

    def memory(self, program: EpilogueProgram, start: Expr) -> GlobalMemory:
        found = [fill for o in program.outputs if o.quantize is not None for fill in fills(o, program.problem)]
        return GlobalMemory(tuple(found), (), start)


def refusals(arg: Arg, value: Value, problem: Space) -> list[Diagnostic]:
    """Why this quantized output cannot be built yet; empty if it can."""
    fmt = arg.format
    if fmt is None or value.op != "quantize":
        return [_refusal(arg, "a quantized output must be assigned `quantize(...)`")]
    found: list[Diagnostic] = []
    axes = tuple(str(axis.name) for axis in arg.axes)
    m, n = problem.m_axis, problem.n_axis
    product = (*problem.batch_axes, m, n)
    if axes not in (product, (*problem.batch_axes, n, m)):
        found.append(_refusal(arg, f"its axes are [{', '.join(axes)}], the product's [{', '.join(product)}]"))
        return found
    if problem.groups is not None:
        found += _group_refusals(arg, fmt, problem, value)
    seen = measure(value, along(arg, n))
    if seen is None:
        rows, columns = fmt.block
        lie = "" if along(arg, n) == "columns" else f", lying along {m}"
        found.append(_refusal(arg, f"blocks of {rows} x {columns}{lie}", _blocks_note(along(arg, n))))
    the_rule = rule(fmt.quantizer)
    if isinstance(the_rule, FourOverSix) and seen == "panel":
        found.append(_refusal(arg, f"{the_rule.name} with blocks of over {LINE} rows or columns"))
    if the_rule.statistic == "std" and (fmt.block[0] != 1 or seen == "panel"):
        found.append(_refusal(arg, f"{the_rule.name} with blocks of several rows or of over {LINE} columns"))
    return found


def _group_refusals(arg: Arg, fmt: BlockFormat, space: Space, value: Value) -> list[Diagnostic]:
    """Why rows in groups cannot be quantized that way."""
    what = None
    if along(arg, space.n_axis) != "columns":
        if not space.ragged:
            what = f"blocks along {space.m_axis}, of masked rows"
        elif measure(value, "rows") != "line":
            what = f"blocks along {space.m_axis} that are no parts of runs of {LINE}, or whose scales are given"
    elif not isinstance(fmt.stored[0], int):
        what = f"a scale for all of {space.m_axis}"
    elif space.ragged and placed_by(fmt) is None:
        what = f"scales in the layout {fmt.layout.name}, whose atoms have other than 1 or {CTA_ROWS} rows"
    elif space.ragged and "row" in fmt.layout.nearer("k"):
        what = f"scales in the layout {fmt.layout.name}, where rows lie nearer than blocks of a row"
    elif fmt.each_batch and not space.ragged and value.attrs.get("mode") == "amax":
        what = "a tensor scale that is made for each batch, some of which have no rows"
    if what is None:
        return []
    return [error("FP4300", f"`{arg.name}` cannot be quantized in groups of rows yet: {what}", arg.span,
                  "declared here", help="it runs on the reference: `fp4cc run --device reference`")]  # fmt: skip


def placed_by(fmt: BlockFormat) -> Literal["row", "atom"] | None:
    """Where the scales of ragged rows lie: at their rows, or each group's from a new row of atoms of 128 rows on."""
    tall = fmt.stored[0]
    rows = tall * fmt.layout.extent("row") if isinstance(tall, int) else 0
    return "row" if rows == 1 else "atom" if rows == CTA_ROWS else None


def _blocks_note(along: str) -> str:
    widest = PANEL if along == "columns" else CTA_ROWS
    return (
        f"an epilogue measures blocks whose rows and columns divide {LINE}, and those of 1 to {CTA_ROWS} rows and "
        f"{LINE} to {widest} columns in powers of two; 1 x all and all x all take a second launch"
    )


def _refusal(arg: Arg, what: str, *notes: str) -> Diagnostic:
    return error("FP4025", f"`{arg.name}` cannot be quantized in an epilogue yet: {what}", arg.span, "declared here",
                 notes=notes, help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip


def plan_quantized(
    kernel: Kernel, arg: Arg, value: Value, problem: Space, sizes: Sizes, tile_n: int, level: Level
) -> EpilogueOutput:
    """The plan of an output that `refusals` has no word against."""
    fmt = _format(arg)
    direction, constraints = along(arg, problem.n_axis), kernel.constraints
    length, lines = (problem.n, problem.m) if direction == "columns" else (problem.m, problem.n)
    pitch = scaled(length, fmt.bits, 8)
    line_bytes = LINE * fmt.bits // 8
    mode = str(value.attrs.get("mode", "none"))
    given = value.operands[1] if mode in ("tensor_scale", "amax") else None
    shared = mode == "tensor_scale" and given is not None and kernel.values[given].op == "arg"
    return EpilogueOutput(
        arg=arg.name,
        param_name=f"{arg.name}_codes_ptr",
        kind="quantized",
        dtype=fmt,
        value=value.operands[0],
        batch_stride=mul(lines, pitch) if problem.batch_axes else 0,
        row_stride=pitch if direction == "columns" else 0,
        column_stride=pitch if direction == "rows" else 0,
        store=_store(arg.name, fmt, divides(128 // fmt.bits, length, constraints, sizes), line_bytes, level, problem),
        quantize=QuantizePlan(
            mode=mode,
            given=given,
            known=value.operands[1] if mode in KNOWN else None,
            along=direction,
            line_bytes=line_bytes,
            scales_param=f"{arg.name}_scales_ptr",
            tensor_scale_param=None if shared or fmt.tensor_scale is None else f"{arg.name}_tensor_scale_ptr",
            pads=problem.groups is None and _pads(fmt, direction, tile_n),
            rng=_rng(kernel, value),
            stream=_stream(value),
            aligned=isinstance(fmt.block[1], int) and fmt.block[1] % 16 == 0 or divides(16, length, constraints, sizes),
            transpose_buffer=TRANSPOSE_BUFFER if direction == "rows" else None,
            measure=measure(value, direction) or "line",
        ),
        beyond=_beyond(fmt, direction, problem, stored=fmt.tensor_scale is not None and not shared),
    )


def _beyond(fmt: BlockFormat, direction: str, problem: Space, *, stored: bool) -> tuple[str, ...]:
    """The axes that may be empty while there are scales, or a tensor scale that the kernel has `stored`."""
    m, n = (problem.m_axis,), (problem.n_axis,)
    if stored:
        return (*problem.batch_axes, *m, *n)
    rows, columns = fmt.block
    lines, length = (m, n) if direction == "columns" else (n, m)
    return (*(lines if rows == "all" else ()), *(length if columns == "all" else ()))


def _rng(kernel: Kernel, value: Value) -> str | None:
    """The argument that stochastic rounding draws from."""
    if value.attrs.get("rounding") != "stochastic":
        return None
    return str(kernel.values[value.operands[-1]].attrs["name"])


def _stream(value: Value) -> int:
    stream = value.attrs.get("stream", 0)
    return stream if isinstance(stream, int) else 0


def _store(name: str, fmt: BlockFormat, always: bool, line_bytes: int, level: Level, space: Space) -> StorePlan:
    if line_bytes % 16 or not level.tma:
        return StorePlan("direct", buffer=f"{name}_slabs", stages=1, row_bytes=line_bytes)
    return StorePlan(
        via="tma" if always and space.groups is None else "either",
        tensor_map=f"{name}_store",
        flag=None if always else f"{name}_by_tma",
        buffer=f"{name}_slabs",
        stages=level.stages,
        row_bytes=line_bytes,
        swizzle="32B" if line_bytes == 32 else "none",
    )


def _pads(fmt: BlockFormat, along: str, tile_n: int) -> bool:
    """Whether whole tiles cover whole atoms, so that the threads at the edges see all padding."""
    rows, k = fmt.layout.extent("row"), fmt.layout.extent("k")
    tall, wide = fmt.stored
    if not isinstance(tall, int) or not isinstance(wide, int):
        return rows == 1 and k == 1 and fmt.layout.extent("batch") == 1  # there is no padding
    tile_lines, tile_length = (CTA_ROWS, tile_n) if along == "columns" else (tile_n, CTA_ROWS)
    return fmt.layout.extent("batch") == 1 and tile_lines % (rows * tall) == 0 and tile_length % (k * wide) == 0


def legal(output: EpilogueOutput) -> Expr:
    """Whether TMA can store the codes: lines start on 16 bytes."""
    pitch = output.row_stride if output.quantization.along == "columns" else output.column_stride
    return ("eq", ("mod", pitch, 16), 0)


def tensor_map(output: EpilogueOutput, problem: Space) -> TensorMap:
    """The map that stores 32 lines of codes."""
    along_columns = output.quantization.along == "columns"
    pitch = output.row_stride if along_columns else output.column_stride
    batched = bool(problem.batch_axes)
    lines = problem.m if along_columns else problem.n
    return TensorMap(
        name=str(output.store.tensor_map),
        source=f"{output.arg}.codes",
        dtype="U8",
        dims=(pitch, lines, *((problem.batch,) if batched else ())),
        strides=(pitch, *((output.batch_stride,) if batched else ())),
        box=(output.store.row_bytes, LINE, *((1,) if batched else ())),
        element_strides=(1, 1, *((1,) if batched else ())),
        swizzle=output.store.swizzle,
        when=legal(output) if output.store.flag is not None else None,
    )


def fills(output: EpilogueOutput, problem: Space) -> list[Init]:
    """What fills the scale buffer's padding where the kernel does not."""
    plan, fmt = output.quantization, output.format
    if plan.pads:
        return []
    lines, length = (problem.m, problem.n) if plan.along == "columns" else (problem.n, problem.m)
    tall, wide = fmt.stored
    layout = fmt.layout
    rows = ceildiv(lines, tall * layout.extent("row")) if isinstance(tall, int) else 1
    by_group = problem.groups is not None and problem.groups.ragged and plan.along == "columns"
    if problem.groups is not None and by_group and isinstance(tall, int):
        rows = most_tiles(lines, tall * layout.extent("row"), problem.groups)
    count = mul(
        ceildiv(problem.batch, layout.extent("batch")),
        rows,
        ceildiv(length, wide * layout.extent("k")) if isinstance(wide, int) else 1,
        layout.atom_size,
    )
    return [Init(f"{output.arg}.scales", mul(count, 4) if fmt.scale == "f32" else count, layout.pad)]


def _format(arg: Arg) -> BlockFormat:
    if arg.format is None:
        raise TypeError(f"{arg.name} is not quantized")
    return arg.format
