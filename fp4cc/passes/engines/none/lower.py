"""Kernels without a product: elementwise functions, quantizers and reductions, as an epilogue over tiles of a tensor.

The tensor with the most axes says what the rows and columns are: its last two axes, the others are batches. A kernel
on vectors works on one row. Where rows are in groups, the rows are those, and tiles are found as in a GEMM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Axis, Expr, Kernel, Schedule, Value
from fp4cc.ir.lowered import (
    Cluster,
    Decision,
    Grouped,
    Launch,
    LoweredKernel,
    OneEach,
    Persistent,
    Size,
    Tile,
    Walk,
    WarpRole,
)
from fp4cc.ir.lowered_epilogue import EpilogueProgram, Space
from fp4cc.ir.sizes import Sizes, ceildiv, mul
from fp4cc.passes.choice.cases import Case
from fp4cc.passes.choice.decisions import explain_groups, explain_schedule, explain_stores
from fp4cc.passes.engines.none.decoded import decoded_inputs
from fp4cc.passes.epilogue.blocks import panel
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.feeds.scale_reading import Needs
from fp4cc.passes.problem.emptiness import not_empty
from fp4cc.passes.problem.gathered import as_read
from fp4cc.passes.problem.groups import groups_of, in_groups, most_tiles, refused
from fp4cc.passes.problem.halves import halved, sink, unzipped
from fp4cc.passes.problem.unzip import Frame
from fp4cc.passes.resources.params import batches, group_params, plan_params
from fp4cc.passes.resources.smem import place_buffers
from fp4cc.targets import Chip

#: Threads of a CTA: four warps of 32 rows each.
THREADS = 128
TILE_M = 128
#: Columns of a tile, at least: whole scale atoms in every format and direction, so that tiles write their padding.
TILE_N = 128
#: The name of the axis that a kernel on vectors gains: one row, or one column of rows in groups.
ONE_ROW = "1"


def lower_elementwise(kernel: Kernel, target: Chip, cases: Sequence[Case]) -> list[LoweredKernel]:
    """A plan for each case. Raises DiagnosticError for what cannot be built yet."""
    _refuse_fields([case.schedule for case in cases if case.schedule is not None])
    sizes = Sizes.of(kernel.dims)
    frame = _frame(kernel, sizes)
    return [_lower(kernel, frame, sizes, target, case.when, case.schedule) for case in cases]


def _lower(
    kernel: Kernel, frame: Frame, sizes: Sizes, target: Chip, when: Expr | None, schedule: Schedule | None
) -> LoweredKernel:
    epilogue = plan_epilogue(frame, sizes, max(TILE_N, panel(frame)))
    rows = _rows(epilogue.program)
    walk = _walk(epilogue.program)
    needs = Needs(kernel.args)
    decoded = decoded_inputs(epilogue.program, frame.kernel, sizes, needs)
    program = replace(epilogue.program, parts=(*epilogue.program.parts, *decoded))
    lengths = (*_sizes(program, walk), *needs.lengths())
    params = plan_params(epilogue.tensor_maps, lengths, (*epilogue.params, *group_params(walk), *needs.addresses()))
    lowered = LoweredKernel(
        name=kernel.name,
        target=target.name,
        kernel=kernel,
        schedule=schedule,
        tile=Tile(rows, epilogue.program.tile_n, 0, rows),
        cluster=Cluster(1, 1),
        walk=walk,
        roles=(WarpRole("epilogue", 0, THREADS // 32, "for the epilogue"),),
        named_barriers=epilogue.barriers,
        smem=place_buffers(epilogue.staging, target.smem_bytes),
        tensor_maps=epilogue.tensor_maps,
        epilogue=program,
        launch=Launch(f"{kernel.name}_0", THREADS, params, lengths),
        constraints=not_empty(kernel, epilogue.program, sizes),
        decisions=(),
        when=when,
    )
    return replace(lowered, decisions=_decisions(lowered))


def _rows(epilogue: EpilogueProgram) -> int:
    """Rows of a tile."""
    return TILE_M if epilogue.steps is None else 32 * epilogue.steps


def _walk(epilogue: EpilogueProgram) -> Walk:
    """A CTA has little to set up: with one for each tile, none waits for a last wave.

    Where CTAs meet in the workspace, all are resident. They are few, too, where each counts the tiles of all groups.
    """
    space = epilogue.problem
    tiles_n = ceildiv(space.n, epilogue.tile_n)
    if space.groups is not None:
        tiles_m = most_tiles(space.m, TILE_M, space.groups)
        return Grouped(0, tiles_m, tiles_n, mul(tiles_m, tiles_n), TILE_M, space.groups)
    tiles_m = ceildiv(space.m, _rows(epilogue))
    kind = OneEach if epilogue.workspace == 0 else Persistent
    return kind(0, tiles_m, tiles_n, mul(tiles_m, tiles_n, space.batch))


def _sizes(epilogue: EpilogueProgram, walk: Walk) -> tuple[Size, ...]:
    """The sizes the kernel uses."""
    space = epilogue.problem
    found = [
        Size("m_size", space.m, _meaning(space.m_axis, "rows")),
        Size("n_size", space.n, _meaning(space.n_axis, "columns")),
        *batches(epilogue),
    ]
    tiles_n = Size("tiles_n", walk.tiles_n, f"tiles along {space.n_axis}")
    if isinstance(walk, Grouped):  # how many tiles there are along M, and in all, is found on the device
        return (*found, Size("groups", walk.groups.count, f"groups of {space.m_axis}"), tiles_n)
    if space.batch_axes:
        found.append(Size("tiles_m", walk.tiles_m, f"tiles along {space.m_axis}"))
    found.append(tiles_n)
    found.append(Size("tiles", walk.tiles, "tiles in all"))
    return tuple(found)


def _meaning(axis: str, otherwise: str) -> str:
    return otherwise if axis == ONE_ROW else axis


def _refuse_fields(schedules: list[Schedule]) -> None:
    errors = [
        error("FP5013", f"`{field}` means nothing for a kernel without a product", schedule.field_spans[field],
              help="leave it out: the compiler tiles such a kernel itself")
        for schedule in schedules for field in schedule.fields
    ]  # fmt: skip
    if errors:
        raise DiagnosticError(errors)


# The rows and columns.


def _frame(kernel: Kernel, sizes: Sizes) -> Frame:
    tensors = [arg for arg in kernel.args if arg.axes and all(axis.name is not None for axis in arg.axes)]
    if not tensors and (unnamed := next((arg for arg in kernel.args if arg.axes), None)) is not None:
        raise DiagnosticError([
            error("FP4001", "a kernel of scalars only cannot be compiled yet", unnamed.span, "this axis has no name",
                  help=f"name its size in the head: `kernel {kernel.name}(N = ...)`, with `{unnamed.name} : ...[N]`"),
        ])  # fmt: skip
    if not tensors:
        raise DiagnosticError([
            error("FP4001", "a kernel of scalars only cannot be compiled yet", kernel.span, "there is no tensor in it",
                  help="it runs on the reference: `fp4cc run --device reference`"),
        ])  # fmt: skip
    in_rows = [arg for arg in tensors if any(map(in_groups, arg.axes))]
    if in_rows and all(in_groups(arg.axes[-1]) for arg in in_rows):
        kernel = _with_column(kernel, str(in_rows[0].axes[-1].name))
    elif all(len(arg.axes) == 1 for arg in tensors):
        kernel = _with_row(kernel)
    kernel = sink(kernel, sizes).kernel if unzipped(kernel) else kernel
    # Of those with the most axes an input's order: what it reads is then adjacent in memory.
    seen = [arg for arg in as_read(kernel, halved(kernel)) if all(axis.name is not None for axis in arg.axes)]
    grouped = [arg for arg in seen if any(map(in_groups, arg.axes))]
    chosen = max(grouped or seen, key=lambda arg: (len(arg.axes), arg.direction in ("in", "inout")))
    *batch, m, n = chosen.axes
    if in_groups(n):  # what is in groups are rows
        m, n = n, m
    others = [(arg, axis) for arg in grouped for axis in arg.axes if in_groups(axis) and axis.name != m.name]
    if others:
        raise DiagnosticError([refused(arg, axis) for arg, axis in others])
    if any(value.op == "unzip" and value.attrs["into"] == m.name for value in kernel.values):
        m, n = n, m  # halves lie along the columns
    batch_axes = tuple(str(axis.name) for axis in batch)
    space = Space(
        m=sizes(m.extent),
        n=sizes(n.extent),
        batch=mul(*(sizes(axis.extent) for axis in batch)),
        m_axis=str(m.name),
        n_axis=str(n.name),
        batch_axes=batch_axes,
        groups=groups_of(kernel, sizes, str(m.name), batch_axes),
    )
    return Frame(kernel, space, ())


def _with_row(kernel: Kernel) -> Kernel:
    """The kernel with its vectors as matrices of one row."""
    row = Axis(ONE_ROW, 1)
    args = tuple(
        replace(arg, axes=(row, *arg.axes)) if arg.axes and arg.axes[0].name is not None else arg for arg in kernel.args
    )
    return replace(kernel, args=args, values=tuple(_value_with_row(value) for value in kernel.values))


def _with_column(kernel: Kernel, rows: str) -> Kernel:
    """The kernel with vectors along `rows`, which are in groups, as matrices of one column."""
    column = Axis(ONE_ROW, 1)
    args = tuple(
        replace(arg, axes=(*arg.axes, column)) if rows in [axis.name for axis in arg.axes] else arg
        for arg in kernel.args
    )
    values = (
        _reduced_with_row(value) if value.op == "reduce" and rows not in value.axes
        else replace(value, axes=(*value.axes, ONE_ROW)) if rows in value.axes
        else value
        for value in kernel.values
    )  # fmt: skip
    return replace(kernel, args=args, values=tuple(values))


def _value_with_row(value: Value) -> Value:
    if value.op == "reduce":
        return _reduced_with_row(value)
    return replace(value, axes=(ONE_ROW, *value.axes)) if value.axes else value


def _reduced_with_row(value: Value) -> Value:
    """A reduction of what has gained an axis, over that one too."""
    over = value.attrs["over"]
    names = over if isinstance(over, tuple) else (over,)
    return replace(value, attrs={**value.attrs, "over": (ONE_ROW, *names)})


def _decisions(lowered: LoweredKernel) -> tuple[Decision, ...]:
    space = lowered.epilogue.problem
    rows = f"a thread takes a row of {space.m_axis}, 32 columns of {space.n_axis}"
    if lowered.epilogue.by_lanes:
        rows = f"four lanes take a row of {space.m_axis}, 32 columns of {space.n_axis} each"
    return (
        explain_schedule(lowered),
        Decision("tile", f"{lowered.tile.m} x {lowered.epilogue.tile_n}",
                 rows if lowered.tile.m < TILE_M else f"{rows}; whole scale atoms in every format"),
        *explain_groups(lowered),
        *explain_stores(lowered),
    )  # fmt: skip
