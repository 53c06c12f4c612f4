"""Blocks larger than a thread's line: a walk over the panel measures them, the next one uses their factors.

In shared memory each such output has a float for every line that a thread sees of a panel: first what was measured of
it, then, at the first line of each block, the block's factor. Lines along the columns are a thread's own. Lines along
the rows (of transposed outputs) are measured by the warp that has the rows and used by all that share the block.
"""

from __future__ import annotations

from fp4cc.codegen.epilogue.construct import Construct
from fp4cc.codegen.epilogue.hooks import Walk
from fp4cc.codegen.epilogue.meeting import barrier_number, meet
from fp4cc.codegen.epilogue.quantize import divided, factor_names, store_scales
from fp4cc.codegen.epilogue.quantizers import statistic_helper
from fp4cc.codegen.epilogue.slices import needed
from fp4cc.codegen.fragments import Block, Fragment, Listed, fragment
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered_epilogue import CTA_ROWS, LINE, EpilogueOutput


class Measure(Construct):
    """Outputs whose blocks are measured in a walk of their own."""

    name = "measure"

    def setup(self) -> Fragment:
        return fragment(*measure_setup(self.lowered))

    def lists(self) -> None:
        for output in measured(self.lowered):
            self.epilogue.factors[output.arg] = fragment(factor_line(self.lowered, output))

    def walks(self) -> list[Walk]:
        outputs, results = measured(self.lowered), self.epilogue.results
        if not outputs:
            return []
        lines = [line for o in outputs for line in measure_lines(self.lowered, o, results[o.value])]
        subtile = fragment(needed(self.epilogue.steps, [results[output.value] for output in outputs]), *lines)
        end = fragment(*(measure_end(self.lowered, output) for output in outputs))
        return [Walk("measure the blocks", subtile, end)]

    def panel_end(self) -> Fragment:
        return fragment(*measure_release(self.lowered))


def measured(lowered: LoweredKernel) -> list[EpilogueOutput]:
    """The outputs whose blocks are measured in a walk of their own."""
    return [o for o in lowered.epilogue.outputs if o.quantize is not None and o.quantize.measure == "panel"]


def measure_setup(lowered: LoweredKernel) -> list[str]:
    """Lines of the kernel hook: where each output's floats are."""
    outputs = measured(lowered)
    return [f"{o.arg}_measured = shared_address({o.arg}_blocks)" for o in outputs]


def measure_lines(lowered: LoweredKernel, output: EpilogueOutput, values: str) -> list[str]:
    """Lines of the measuring walk for a sub-tile."""
    statistic, _ = statistic_helper(output.format)
    part = f"{output.arg}_part"
    if output.quantization.along == "columns":
        return [
            f"{part} = {statistic}({values})",
            f"shared_store_f32({_of_thread(output, '(column - panel0 >> 5)')}, {part})",
        ]
    return [
        f"{part} = {statistic}(transpose_in_warp(slab_to_transpose, lane, {values}))",
        f"shared_store_f32({_of_rows(lowered, output, 'warp', 'column - panel0 + lane')}, {part})",
    ]


def measure_end(lowered: LoweredKernel, output: EpilogueOutput) -> Fragment:
    """Lines after the measuring walk: scales, stored, and factors."""
    by_column = output.quantization.along == "rows"
    return (_by_column if by_column else _by_row)(lowered, output)


def factor_line(lowered: LoweredKernel, output: EpilogueOutput) -> str:
    """The factor of the block that this thread's line of a sub-tile is in."""
    lines = _lines(output)
    if output.quantization.along == "columns":
        block = "(column - panel0 >> 5)" if lines == 1 else f"(column - panel0 >> 5 & {-lines})"
        return f"{output.arg}_factor = shared_load_f32({_of_thread(output, block)})"
    rows = "0" if lines * LINE == CTA_ROWS else "warp" if lines == 1 else f"({divided('warp', lines)})"
    return f"{output.arg}_factor = shared_load_f32({_of_rows(lowered, output, rows, 'column - panel0 + lane')})"


def measure_release(lowered: LoweredKernel) -> list[str]:
    """Lines after a panel: other warps have read the factors that the next one overwrites."""
    if any(output.quantization.along == "rows" for output in measured(lowered)):
        return [f"{meet(lowered)}  # the factors have been read"]
    return []


def _by_row(lowered: LoweredKernel, output: EpilogueOutput) -> Fragment:
    """A thread has the lines of its row: it measures the row's blocks one after the other."""
    name, lines = output.arg, _lines(output)
    columns = lines * LINE
    blocks = lowered.epilogue.panel // columns
    first = "0" if blocks == 1 else "i" if lines == 1 else f"{lines} * i"
    joined = _joined(output, _of_thread(output, first), 4 * CTA_ROWS)
    start = "panel0" if blocks == 1 else f"panel0 + {columns} * i"
    tallest = _tallest(lowered, output, f"{name}_amax", "row_valid")
    body = fragment(
        f"{name}_amax = {joined}",
        *([f"{name}_amax = {tallest}"] if tallest != f"{name}_amax" else []),
        f"{name}_scale_stored, {name}_factor = {_scale_call(output, f'{name}_amax')}",
        store_scales(lowered, output, ("row", "m_size", start, "n_size"), f"[{name}_scale_stored]"),
        f"shared_store_f32({_of_thread(output, first)}, {name}_factor)",
    )
    return body if blocks == 1 else (Block(f"for i in cutlass.range_constexpr({blocks}):", body),)


def _by_column(lowered: LoweredKernel, output: EpilogueOutput) -> Fragment:
    """Thread t has column t of the panel: it joins what the warps measured of the blocks on it."""
    name, lines, panel = output.arg, _lines(output), lowered.epilogue.panel
    blocks, column = CTA_ROWS // (lines * LINE), f"{name}_column"
    first = "0" if blocks == 1 else "i" if lines == 1 else f"{lines} * i"
    joined = _joined(output, _of_rows(lowered, output, first, column), 4 * panel)
    start = "m0" if blocks == 1 else f"m0 + {lines * LINE} * i"
    extent = (f"panel0 + {column}", "n_size", start, "m_size")
    tallest = _tallest(lowered, output, "amax", f"panel0 + {column} < n_size")
    each_block = f"for i in cutlass.range_constexpr({blocks}):"
    halves = panel // CTA_ROWS
    barrier = meet(lowered)
    own = "thread" if halves == 1 else f"thread + {CTA_ROWS} * half" if halves > 1 else f"thread & {panel - 1}"
    body = fragment(
        f"{column} = {own}",
        f"{barrier}  # all rows have been measured",
        Listed(f"{name}_amaxes", joined, f"i in range({blocks})"),
        *([Listed(f"{name}_amaxes", tallest, f"amax in {name}_amaxes")] if tallest != "amax" else []),
        Listed(f"{name}_scaled", _scale_call(output, "amax"), f"amax in {name}_amaxes"),
        Block(each_block, (store_scales(lowered, output, extent, f"[{name}_scaled[i][0]]"),)),
        f"{barrier}  # all has been read that the factors overwrite",
        Block(
            each_block,
            fragment(f"shared_store_f32({_of_rows(lowered, output, 'i', column)}, {name}_scaled[i][1])"),
        ),
        barrier,
    )
    return body if halves <= 1 else (Block(f"for half in cutlass.range_constexpr({halves}):", body),)


def _joined(output: EpilogueOutput, place: str, pitch: int) -> str:
    """What was measured of the lines of a block, joined; `place` is the first one's, others lie `pitch` bytes apart."""
    lines = _lines(output)
    if lines == 1:
        return f"shared_load_f32({place})"
    statistic, _ = statistic_helper(output.format)
    return f"{statistic}(shared_floats({place}, {pitch}, {lines}))"


def _tallest(lowered: LoweredKernel, output: EpilogueOutput, amax: str, valid: str) -> str:
    """The largest of the lines that a block of several rows has, each a thread's."""
    rows = output.format.block[0]
    if not isinstance(rows, int) or rows == 1:
        return amax
    amax = f"where({valid}, {amax}, 0.0)"
    if rows <= LINE:
        return f"largest_of_lanes({amax}, {rows})"
    slots = f"{output.arg}_measured + {16 * lowered.epilogue.panel}"
    return f"largest_of_warps({slots}, warp, {amax}, {rows // LINE}, {barrier_number(lowered)})"


def _scale_call(output: EpilogueOutput, amax: str) -> str:
    return f"{output.arg}_scale({', '.join([amax, *factor_names(output)])})"


def _lines(output: EpilogueOutput) -> int:
    """Lines of a row (or column) of a block."""
    columns = output.format.block[1]
    if not isinstance(columns, int):
        raise TypeError(f"{output.arg} has one scale a row")
    return columns // LINE


def _of_thread(output: EpilogueOutput, line: str) -> str:
    """The float of a line of this thread's row."""
    place = "thread" if line == "0" else f"({CTA_ROWS} * {line} + thread)"
    return f"{output.arg}_measured + 4 * {place}"


def _of_rows(lowered: LoweredKernel, output: EpilogueOutput, rows: str, column: str) -> str:
    """The float of 32 rows (or of a block of them) of a column."""
    place = column if rows == "0" else f"{lowered.epilogue.panel} * {rows} + {column}"
    return f"{output.arg}_measured + 4 * {place if place.isidentifier() else f'({place})'}"
