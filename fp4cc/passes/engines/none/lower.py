"""Kernels without a product: elementwise functions, quantizers and reductions, as an epilogue over tiles of a tensor.

The tensor with the most axes says what the rows and columns are: its last two axes, the others are batches. A kernel
on vectors works on one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Axis, Expr, Kernel, Schedule, Value
from fp4cc.ir.lowered import (
    Cluster,
    Decision,
    Launch,
    LoweredKernel,
    OneEach,
    Persistent,
    Size,
    Tile,
    WarpRole,
)
from fp4cc.ir.lowered_epilogue import EpilogueProgram, Space
from fp4cc.ir.sizes import Sizes, ceildiv, mul
from fp4cc.passes.choice.cases import Case
from fp4cc.passes.choice.decisions import explain_schedule, explain_stores
from fp4cc.passes.engines.none.decoded import decoded_inputs
from fp4cc.passes.epilogue.blocks import panel
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.feeds.scale_reading import Needs
from fp4cc.passes.problem.emptiness import not_empty
from fp4cc.passes.problem.groups import without_groups
from fp4cc.passes.problem.halves import halved, sink, unzipped
from fp4cc.passes.problem.unzip import Frame
from fp4cc.passes.resources.params import batches, plan_params
from fp4cc.passes.resources.smem import place_buffers
from fp4cc.targets import Chip

#: Threads of a CTA: four warps of 32 rows each.
THREADS = 128
TILE_M = 128
#: Columns of a tile, at least: whole scale atoms in every format and direction, so that tiles write their padding.
TILE_N = 128
#: The name of the axis that a kernel on vectors gains.
ONE_ROW = "1"


def lower_elementwise(kernel: Kernel, target: Chip, cases: Sequence[Case]) -> list[LoweredKernel]:
    """A plan for each case. Raises DiagnosticError for what cannot be built yet."""
    without_groups(kernel, "in a kernel without a product")
    _refuse_fields([case.schedule for case in cases if case.schedule is not None])
    sizes = Sizes.of(kernel.dims)
    frame = _frame(kernel, sizes)
    return [_lower(kernel, frame, sizes, target, case.when, case.schedule) for case in cases]


def _lower(
    kernel: Kernel, frame: Frame, sizes: Sizes, target: Chip, when: Expr | None, schedule: Schedule | None
) -> LoweredKernel:
    space = frame.problem
    epilogue = plan_epilogue(frame, sizes, max(TILE_N, panel(frame)))
    steps = epilogue.program.steps
    rows = TILE_M if steps is None else 32 * steps
    tiles_m, tiles_n = ceildiv(space.m, rows), ceildiv(space.n, epilogue.program.tile_n)
    # A CTA has little to set up: with one for each tile, none waits for a last wave. Where CTAs meet in the workspace,
    # all are resident.
    kind = OneEach if epilogue.program.workspace == 0 else Persistent
    walk = kind(0, tiles_m, tiles_n, mul(tiles_m, tiles_n, space.batch))
    needs = Needs(kernel.args)
    decoded = decoded_inputs(epilogue.program, frame.kernel, sizes, needs)
    program = replace(epilogue.program, parts=(*epilogue.program.parts, *decoded))
    lengths = (*_sizes(program, walk), *needs.lengths())
    params = plan_params(epilogue.tensor_maps, lengths, (*epilogue.params, *needs.addresses()))
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


def _sizes(epilogue: EpilogueProgram, walk: Persistent) -> tuple[Size, ...]:
    """The sizes the kernel uses."""
    space = epilogue.problem
    found = [
        Size("m_size", space.m, _meaning(space.m_axis, "rows")),
        Size("n_size", space.n, _meaning(space.n_axis, "columns")),
        *batches(epilogue),
    ]
    if space.batch_axes:
        found.append(Size("tiles_m", walk.tiles_m, f"tiles along {space.m_axis}"))
    found.append(Size("tiles_n", walk.tiles_n, f"tiles along {space.n_axis}"))
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
    errors = [_ragged(arg, axis) for arg in kernel.args for axis in arg.axes if axis.by or axis.upto]
    if errors:
        raise DiagnosticError(errors)
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
    if all(len(arg.axes) == 1 for arg in tensors):
        kernel = _with_row(kernel)
    kernel = sink(kernel, sizes).kernel if unzipped(kernel) else kernel
    # Of those with the most axes an input's order: what it reads is then adjacent in memory.
    seen = [arg for arg in halved(kernel) if all(axis.name is not None for axis in arg.axes)]
    chosen = max(seen, key=lambda arg: (len(arg.axes), arg.direction in ("in", "inout")))
    *batch, m, n = chosen.axes
    if any(value.op == "unzip" and value.attrs["into"] == m.name for value in kernel.values):
        m, n = n, m  # halves lie along the columns
    space = Space(
        m=sizes(m.extent),
        n=sizes(n.extent),
        batch=mul(*(sizes(axis.extent) for axis in batch)),
        m_axis=str(m.name),
        n_axis=str(n.name),
        batch_axes=tuple(str(axis.name) for axis in batch),
    )
    return Frame(kernel, space, ())


def _ragged(arg: Arg, axis: Axis) -> Diagnostic:
    what = f"{axis.name} by {axis.by}" if axis.by is not None else f"{axis.name} upto {axis.upto}"
    return error("FP4006", f"ragged and masked axes cannot be compiled yet: `{what}`", arg.span, "declared here",
                 help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip


def _with_row(kernel: Kernel) -> Kernel:
    """The kernel with its vectors as matrices of one row."""
    row = Axis(ONE_ROW, 1)
    args = tuple(
        replace(arg, axes=(row, *arg.axes)) if arg.axes and arg.axes[0].name is not None else arg for arg in kernel.args
    )
    return replace(kernel, args=args, values=tuple(_value_with_row(value) for value in kernel.values))


def _value_with_row(value: Value) -> Value:
    if value.op == "reduce":
        over = value.attrs["over"]
        names = over if isinstance(over, tuple) else (over,)
        return replace(value, attrs={**value.attrs, "over": (ONE_ROW, *names)})
    return replace(value, axes=(ONE_ROW, *value.axes)) if value.axes else value


def _decisions(lowered: LoweredKernel) -> tuple[Decision, ...]:
    space = lowered.epilogue.problem
    rows = f"a thread takes a row of {space.m_axis}, 32 columns of {space.n_axis}"
    if lowered.epilogue.by_lanes:
        rows = f"four lanes take a row of {space.m_axis}, 32 columns of {space.n_axis} each"
    return (
        explain_schedule(lowered),
        Decision("tile", f"{lowered.tile.m} x {lowered.epilogue.tile_n}",
                 rows if lowered.tile.m < TILE_M else f"{rows}; whole scale atoms in every format"),
        *explain_stores(lowered),
    )  # fmt: skip
