"""Reduced outputs: what a thread keeps over a tile, and the atomics that join threads and tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fp4cc.codegen.epilogue.construct import Construct, Epilogue
from fp4cc.codegen.fragments import Block, Fragment, fragment
from fp4cc.codegen.placing import rows_end
from fp4cc.codegen.strides import offset
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered_epilogue import EpilogueOutput, ReducePlan

_FOLD = {"max": "maximum", "min": "minimum"}
#: What quantizers measure: of a list, and of two measurements.
_MAGNITUDES = {
    "amax": ("largest_magnitude", "maximum"),
    "amax_nan": ("largest_magnitude_or_nan", "at_least"),
}
_BLOCK = 32  # rows and columns of a partial sum


@dataclass(frozen=True, slots=True)
class ReduceText:
    """Lines for the hooks of the same names."""

    kernel: list[str] = field(default_factory=list[str])
    tile: list[str] = field(default_factory=list[str])
    subtile: list[str] = field(default_factory=list[str])
    tile_end: list[str | Block] = field(default_factory=list["str | Block"])


class Reduce(Construct):
    """The reduced outputs of an epilogue."""

    name = "reduce"

    def __init__(self, epilogue: Epilogue) -> None:
        super().__init__(epilogue)
        self._text = reductions(self.lowered, epilogue.results)

    def setup(self) -> Fragment:
        return fragment(*self._text.kernel)

    def per_tile(self) -> Fragment:
        return fragment(*self._text.tile)

    def per_subtile(self) -> Fragment:
        return fragment(*self._text.subtile)

    def tile_end(self) -> Fragment:
        return fragment(*self._text.tile_end)


def reductions(lowered: LoweredKernel, results: Mapping[int, str]) -> ReduceText:
    """The reductions of all outputs. `results` has the name of the list of 32 values of each reduced value."""
    text = ReduceText()
    for output in lowered.epilogue.outputs:
        plan = output.reduce
        if plan is None:
            continue
        if plan.kind in _MAGNITUDES:
            _magnitude(lowered, output, plan, results[output.value], text)
            continue
        if plan.partials_param is not None:
            _in_parts(lowered, output, plan, results[output.value], text)
            continue
        if plan.over == "rows":
            text.subtile.extend(_over_rows(lowered, output, plan, results[output.value]))
            continue
        part, values = f"{output.arg}_part", results[output.value]
        text.tile.append(f"{part} = from_bits(-1)  # a NaN: no number yet")
        text.subtile.append(f"{part} = fold({_FOLD[plan.kind]}, {part}, {values}, n_size - column)")
        address, valid = _address(lowered, output), "row_valid"
        if plan.over == "all":
            text.tile_end.append(f"{part} = fold_lanes({_FOLD[plan.kind]}, where(row_valid, {part}, from_bits(-1)))")
            valid = "lane == 0"
        text.tile_end.append(f"reduce_{plan.kind}({address}, {part}, {valid})")
    return text


def _magnitude(lowered: LoweredKernel, output: EpilogueOutput, plan: ReducePlan, values: str, text: ReduceText) -> None:
    """The largest magnitude: bits of floats that are not negative order as integers, those of a NaN last."""
    statistic, join = _MAGNITUDES[plan.kind]
    part, address = f"{output.arg}_part", _address(lowered, output)
    if plan.over == "rows":
        text.subtile.extend(
            [
                f"{output.arg}_line = transpose_in_warp(slab_to_transpose, lane, {values})",
                f"{part} = {statistic}(within({output.arg}_line, {rows_end(lowered)} - m0 - 32 * warp))",
                f"reduce_magnitude({address}, {part}, column + lane < n_size)",
            ]
        )
        return
    text.tile.append(f"{part} = Float32(0.0)")
    text.subtile.append(f"{part} = {join}({part}, {statistic}(within({values}, n_size - column)))")
    valid = "row_valid"
    if plan.over == "all":
        text.tile_end.append(f"{part} = largest_of_lanes(where(row_valid, {part}, 0.0), 32)")
        valid = "lane == 0"
    text.tile_end.append(f"reduce_magnitude({address}, {part}, {valid})")


def _over_rows(lowered: LoweredKernel, output: EpilogueOutput, plan: ReducePlan, values: str) -> list[str]:
    line, part = f"{output.arg}_line", f"{output.arg}_part"
    return [
        f"{line} = transpose_in_warp(slab_to_transpose, lane, {values})",
        f"{part} = fold({_FOLD[plan.kind]}, from_bits(-1), {line}, {rows_end(lowered)} - m0 - 32 * warp)",
        f"reduce_{plan.kind}({_address(lowered, output)}, {part}, column + lane < n_size)",
    ]


def _in_parts(lowered: LoweredKernel, output: EpilogueOutput, plan: ReducePlan, values: str, text: ReduceText) -> None:
    """What is known of blocks goes to the workspace; the warp that arrives last joins it in order."""
    name, tile_n = output.arg, lowered.epilogue.tile_n
    tiles = _rounded_up("n_size", tile_n)
    blocks = {"m": f"{name}_row_blocks", "n": f"{name}_column_blocks"}
    squared = ", square=True" if plan.kind == "mean_square" else ""
    grouped = lowered.epilogue.problem.groups is not None
    if not grouped:
        text.kernel.append(f"{name}_row_blocks = {_rounded_up('m_size', _BLOCK)}  # partial sums along the rows")
    text.kernel.append(f"{name}_column_blocks = {_rounded_up('n_size', _BLOCK)}")
    block_row, block_column = "(m0 >> 5) + warp", "column >> 5"
    batch = "batch" if lowered.epilogue.problem.batch_axes else "0"
    inside = "both(m0 + 32 * warp < m_size, column < n_size)"
    if plan.over == "columns":
        part = f"halved(within({values}, n_size - column{squared}))"
        if plan.kind in _FOLD:
            part = f"fold({_FOLD[plan.kind]}, from_bits(-1), {values}, n_size - column)"
        place = f"(Int64({batch}) * {blocks['n']} + ({block_column})) * m_size + row"
        ticket = f"{batch} * m_size + m0 + 32 * warp" if grouped else f"{batch} * {blocks['m']} + {block_row}"
        valid, wanted = "both(row_valid, column < n_size)", tiles
    elif plan.over == "rows":
        text.subtile.append(f"{name}_line = transpose_in_warp(slab_to_transpose, lane, {values})")
        part = f"halved(within({name}_line, m_size - m0 - 32 * warp{squared}))"
        place = f"(Int64({batch}) * {blocks['m']} + ({block_row})) * n_size + column + lane"
        valid = "both(m0 + 32 * warp < m_size, column + lane < n_size)"
        ticket, wanted = f"{batch} * ({tiles}) + n0 // {tile_n}", blocks["m"]
    else:
        part = f"sum_of_lanes(where(row_valid, halved(within({values}, n_size - column{squared})), 0.0))"
        place = f"(Int64({batch}) * {blocks['m']} + ({block_row})) * {blocks['n']} + ({block_column})"
        valid, ticket, wanted = f"both(lane == 0, {inside})", batch, f"{blocks['m']} * ({tiles})"
    address = f"global_address({plan.partials_param}, {place}, 4)"
    what = "# A block's partial sum." if plan.kind not in _FOLD else f"# The {plan.kind} of a block's row."
    text.subtile.extend([what, f'store_word("b32", {address}, bits({part}), {valid})'])
    arrived = f"arrive_last(global_address({plan.tickets_param}, {ticket}, 4), {wanted}, lane, {name}_arrives)"
    text.tile_end.extend(
        [
            f"{name}_arrives = both(m0 + 32 * warp < {rows_end(lowered)}, n0 < n_size)",
            Block(f"if {arrived}:", _finish(lowered, output, plan, batch)),
        ]
    )


def _finish(lowered: LoweredKernel, output: EpilogueOutput, plan: ReducePlan, batch: str) -> Fragment:
    """What the last warp does: the sums of its lanes' rows or columns, or the one of all."""
    name, rows, columns = output.arg, f"{output.arg}_row_blocks", f"{output.arg}_column_blocks"
    count = {"columns": "n_size", "rows": "m_size", "all": "m_size * n_size"}[plan.over]
    mean = plan.kind in ("mean", "mean_square")

    def stored(total: str, where: str, valid: str) -> str:
        value = f"div({total}, Float32({count}))" if mean else total
        return f'store_word("b32", global_address({output.param_name}, {where}, 4), bits({value}), {valid})'

    first = f"Int64({batch}) * {{}} * {{}}"
    if plan.over == "columns":
        address = f"global_address({plan.partials_param}, {first.format(columns, 'm_size')} + row, 4)"
        joined = "sum_in_order" if plan.kind not in _FOLD else "fold_in_order"
        join = f"{_FOLD[plan.kind]}, " if plan.kind in _FOLD else ""
        total = f"{name}_total = {joined}({join}{address}, 4 * m_size, {columns}, row_valid)"
        return fragment(total, stored(f"{name}_total", _offset(lowered, output, "row"), "row_valid"))
    if plan.over == "rows":
        steps = lowered.epilogue.tile_n // _BLOCK
        address = f"global_address({plan.partials_param}, {first.format(rows, 'n_size')} + {name}_column, 4)"
        valid = f"{name}_column < n_size"
        each = fragment(
            f"{name}_column = n0 + 32 * i + lane",
            f"{name}_total = sum_in_order({address}, 4 * n_size, {rows}, {valid})",
            stored(f"{name}_total", _offset(lowered, output, f"{name}_column"), valid),
        )
        return (Block(f"for i in cutlass.range({steps}, unroll=1):", each),)
    address = f"global_address({plan.partials_param}, {first.format(rows, columns)}, 4)"
    total = f"{name}_total = sum_of_blocks({address}, {rows}, {columns}, lane)"
    return fragment(total, stored(f"{name}_total", _offset(lowered, output, ""), "lane == 0"))


def _rounded_up(count: str, divisor: int) -> str:
    if divisor & (divisor - 1) == 0:
        return f"({count} + {divisor - 1}) >> {divisor.bit_length() - 1}"
    return f"({count} + {divisor - 1}) // {divisor}"


def _offset(lowered: LoweredKernel, output: EpilogueOutput, index: str) -> str:
    return offset(
        lowered.epilogue.problem,
        batch=(output.batch_stride, "batch"),
        row=(output.row_stride, index),
        column=(output.column_stride, index),
    )


def _address(lowered: LoweredKernel, output: EpilogueOutput) -> str:
    where = offset(
        lowered.epilogue.problem,
        batch=(output.batch_stride, "batch"),
        row=(output.row_stride, "row"),
        column=(output.column_stride, "column + lane"),
    )
    return f"global_address({output.param_name}, {where}, 4)"
