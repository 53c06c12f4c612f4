"""How an epilogue quantizes an output: which direction its blocks lie in, and where codes, scales and padding go."""

from __future__ import annotations

from typing import Literal

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Arg, Expr, Kernel, Value
from fp4cc.ir.lowered import KernelParam, SmemBuffer
from fp4cc.ir.lowered_epilogue import EpilogueOutput, QuantizePlan, Space, StorePlan
from fp4cc.passes.divides import divides
from fp4cc.passes.sizes import Sizes, ceildiv, mul, scaled
from fp4num import BlockFormat
from fp4num.rules import FourOverSix, rule
from fp4rt.manifest import Init, Param, TensorMap

LINE = 32  # elements one thread quantizes at a time
CTA_ROWS = 128
TRANSPOSE_BUFFER = "transpose_smem"


def refusals(arg: Arg, value: Value, problem: Space, *, walks: Literal["once", "tile", "row"]) -> list[Diagnostic]:
    """Why this quantized output cannot be built yet; empty if it can. `walks`: what the kernel can walk twice."""
    fmt = arg.format
    if fmt is None or value.op != "quantize":
        return [_refusal(arg, "a quantized output must be assigned `quantize(...)`")]
    found: list[Diagnostic] = []
    axes = tuple(str(axis.name) for axis in arg.axes)
    m, n = problem.m_axis, problem.n_axis
    product = (*problem.batch_axes, m, n)
    if axes not in (product, (*problem.batch_axes, n, m)):
        found.append(_refusal(arg, f"its axes are [{', '.join(axes)}], the product's [{', '.join(product)}]"))
    if value.attrs.get("mode") == "scale":
        found.append(_refusal(arg, "scales that are given"))
    the_rule = rule(fmt.quantizer)
    tall_std = the_rule.statistic == "std" and (fmt.block[0] != 1 or measure(fmt) != "line")
    if isinstance(the_rule, FourOverSix) or tall_std:
        found.append(_refusal(arg, f"the quantizer {the_rule.name}"))
    rows, columns = fmt.block
    twice = {"once": (), "tile": ("line", "tile"), "row": ("line", "tile", "row")}[walks]
    if measure(fmt) in twice and fmt.stored == fmt.block:
        if measure(fmt) == "row" and axes != product:
            found.append(_refusal(arg, "a scale for all of a column"))
        return found
    if not isinstance(columns, int) or LINE % columns or fmt.stored[1] != columns:
        found.append(_refusal(arg, f"blocks of {rows} x {columns}: a thread sees {LINE} elements at a time"))
    elif not isinstance(rows, int) or LINE % rows or fmt.stored[0] not in (1, rows):
        found.append(_refusal(arg, f"blocks of {rows} x {columns}: a warp sees {LINE} rows at a time"))
    return found


def why_not_in_place(value: Value, problem: Space) -> str | None:
    """Why a `quantize` that is not stored but dequantized cannot be built yet; None if it can."""
    fmt = value.dtype
    if not isinstance(fmt, BlockFormat):
        raise TypeError(f"quantize to {fmt!r}")
    the_rule = rule(fmt.quantizer)
    if value.axes != (*problem.batch_axes, problem.m_axis, problem.n_axis):
        return "its blocks do not lie along the columns"
    if value.attrs.get("rounding", "nearest") != "nearest" or value.attrs.get("mode") == "scale":
        return "it rounds stochastically, or its scales are given"
    if isinstance(the_rule, FourOverSix):
        return f"the quantizer {the_rule.name}"
    if fmt.scale is None or fmt.block[0] != 1 or measure(fmt) != "line":
        return f"blocks of {fmt.block[0]} x {fmt.block[1]}"
    return None


def measure(fmt: BlockFormat) -> Literal["line", "tile", "row"] | None:
    """What a block's scale takes; None for blocks that fit neither a line, nor a tile, nor a row."""
    rows, columns = fmt.block
    if isinstance(columns, int) and isinstance(rows, int) and LINE % columns == 0 and LINE % rows == 0:
        return "line"
    if columns == CTA_ROWS and rows in (1, CTA_ROWS):
        return "tile"
    return "row" if columns == "all" and rows == 1 else None


def _refusal(arg: Arg, what: str) -> Diagnostic:
    return error("FP4025", f"`{arg.name}` cannot be quantized in an epilogue yet: {what}", arg.span, "declared here",
                 help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip


def plan_quantized(
    kernel: Kernel, arg: Arg, value: Value, problem: Space, sizes: Sizes, tile_n: int, stages: int
) -> EpilogueOutput:
    """The plan of an output that `refusals` has no word against."""
    fmt = _format(arg)
    along = "columns" if str(arg.axes[-1].name) == problem.n_axis else "rows"
    length = problem.n if along == "columns" else problem.m
    lines = problem.m if along == "columns" else problem.n
    pitch = scaled(length, fmt.bits, 8)
    line_bytes = LINE * fmt.bits // 8
    given = value.operands[1] if value.attrs.get("mode") in ("tensor_scale", "amax") else None
    shared = value.attrs.get("mode") == "tensor_scale" and given is not None and kernel.values[given].op == "arg"
    return EpilogueOutput(
        arg=arg.name,
        param_name=f"{arg.name}_codes_ptr",
        kind="quantized",
        dtype=fmt,
        value=value.operands[0],
        batch_stride=mul(lines, pitch) if problem.batch_axes else 0,
        row_stride=pitch if along == "columns" else 0,
        column_stride=pitch if along == "rows" else 0,
        store=_store(arg.name, fmt, divides(128 // fmt.bits, length, kernel.constraints, sizes), line_bytes, stages),
        quantize=QuantizePlan(
            mode=str(value.attrs.get("mode", "none")),
            given=given,
            along=along,
            line_bytes=line_bytes,
            scales_param=f"{arg.name}_scales_ptr",
            tensor_scale_param=None if shared or fmt.tensor_scale is None else f"{arg.name}_tensor_scale_ptr",
            pads=_pads(fmt, along, tile_n),
            rng=_rng(kernel, value),
            stream=_stream(value),
            transpose_buffer=TRANSPOSE_BUFFER if along == "rows" else None,
            measure=measure(fmt) or "line",
        ),
    )


def _rng(kernel: Kernel, value: Value) -> str | None:
    """The argument that stochastic rounding draws from."""
    if value.attrs.get("rounding") != "stochastic":
        return None
    return str(kernel.values[value.operands[-1]].attrs["name"])


def _stream(value: Value) -> int:
    stream = value.attrs.get("stream", 0)
    return stream if isinstance(stream, int) else 0


def _store(name: str, fmt: BlockFormat, always: bool, line_bytes: int, stages: int) -> StorePlan:
    if line_bytes % 16:
        return StorePlan("direct", buffer=f"{name}_slabs", stages=1, row_bytes=line_bytes)
    return StorePlan(
        via="tma" if always else "either",
        tensor_map=f"{name}_store",
        flag=None if always else f"{name}_by_tma",
        buffer=f"{name}_slabs",
        stages=stages,
        row_bytes=line_bytes,
        swizzle="32B" if line_bytes == 32 else "none",
    )


def _pads(fmt: BlockFormat, along: str, tile_n: int) -> bool:
    """Whether whole tiles cover whole atoms, so that the threads at the edges see all padding."""
    rows, k = fmt.layout.extent("row"), fmt.layout.extent("k")
    tile_lines, tile_length = (CTA_ROWS, tile_n) if along == "columns" else (tile_n, CTA_ROWS)
    tall, wide = (e if isinstance(e, int) else 1 for e in fmt.stored)
    return fmt.layout.extent("batch") == 1 and tile_lines % (rows * tall) == 0 and tile_length % (k * wide) == 0


def params(output: EpilogueOutput, problem: Space) -> list[KernelParam]:
    """The parameters of a quantized output, but for its tensor map and flag."""
    plan = _plan(output)
    found = [KernelParam(plan.scales_param, Param("pointer", f"{output.arg}.scales"), "scales")]
    if output.store.via != "tma":
        found.append(KernelParam(output.param_name, Param("pointer", f"{output.arg}.codes"), "codes"))
    if problem.batch_axes and _format_of(output).layout.order[-1] != "batch":
        found.append(KernelParam(f"{output.arg}_batches", Param("i32", problem.batch), "batches, nearer than others"))
    if plan.rng is not None:
        found.append(KernelParam(f"{plan.rng}_ptr", Param("pointer", plan.rng), "random state"))
    if plan.tensor_scale_param is not None:
        stored = Param("pointer", f"{output.arg}.tensor_scale")
        found.append(KernelParam(plan.tensor_scale_param, stored, "tensor scale"))
    return found


def legal(output: EpilogueOutput) -> Expr:
    """Whether TMA can store the codes: lines start on 16 bytes."""
    pitch = output.row_stride if _plan(output).along == "columns" else output.column_stride
    return ("eq", ("mod", pitch, 16), 0)


def tensor_map(output: EpilogueOutput, problem: Space) -> TensorMap:
    """The map that stores 32 lines of codes."""
    along_columns = _plan(output).along == "columns"
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
        when=legal(output) if output.store.via == "either" else None,
    )


def fills(output: EpilogueOutput, problem: Space) -> list[Init]:
    """What fills the scale buffer's padding where the kernel does not."""
    plan, fmt = _plan(output), _format_of(output)
    if plan.pads:
        return []
    lines, length = (problem.m, problem.n) if plan.along == "columns" else (problem.n, problem.m)
    tall, wide = (e if isinstance(e, int) else 1 for e in fmt.stored)
    layout = fmt.layout
    count = mul(
        ceildiv(problem.batch, layout.extent("batch")),
        ceildiv(lines, tall * layout.extent("row")),
        1 if fmt.stored[1] == "all" else ceildiv(length, wide * layout.extent("k")),
        layout.atom_size,
    )
    return [Init(f"{output.arg}.scales", count, layout.pad, 4 if fmt.scale == "f32" else 1)]


def measuring(outputs: tuple[EpilogueOutput, ...], warps: int) -> list[SmemBuffer]:
    """The buffers in which warps join the statistics of blocks that are taller than a warp's rows."""
    found: list[SmemBuffer] = []
    for output in outputs:
        plan = output.quantize
        if plan is None or plan.measure != "tile":
            continue
        what = f"what warps measure of {output.arg}"
        if _format_of(output).block[0] == CTA_ROWS:
            found.append(SmemBuffer(f"{output.arg}_blocks", 0, 4 * warps, 1, 16, what))
        elif plan.along == "rows":
            found.append(SmemBuffer(f"{output.arg}_blocks", 0, 4 * warps * CTA_ROWS, 1, 16, what))
    return found


def transposition(outputs: tuple[EpilogueOutput, ...], warps: int) -> list[SmemBuffer]:
    """The buffer in which each warp transposes a sub-tile, if an output needs it."""
    if not any((o.quantize and o.quantize.transpose_buffer) or (o.reduce and o.reduce.over == "rows") for o in outputs):
        return []
    return [SmemBuffer(TRANSPOSE_BUFFER, 0, warps * LINE * LINE * 4, 1, 1024, "a sub-tile of each warp, turned around")]


def _plan(output: EpilogueOutput) -> QuantizePlan:
    if output.quantize is None:
        raise TypeError(f"{output.arg} is not quantized")
    return output.quantize


def _format_of(output: EpilogueOutput) -> BlockFormat:
    if isinstance(output.dtype, str):
        raise TypeError(f"{output.arg} is not quantized")
    return output.dtype


def _format(arg: Arg) -> BlockFormat:
    if arg.format is None:
        raise TypeError(f"{arg.name} is not quantized")
    return arg.format
