"""Lowering products of a plain operand by weights to Hopper: the weights become wgmma's A in registers.

The product is made transposed, D^T = W x^T, because wgmma takes only its A from registers: what is converted need then
not pass through shared memory again, of which wgmma reads x alone. Two warpgroups have 64 weight rows each; they make
the fragments of one stage while the stage before is multiplied. Sums cross shared memory to a warpgroup that runs the
epilogue under the next tile's mainloop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Constraint, Expr, Kernel, Schedule
from fp4cc.ir.lowered import (
    EPILOGUE_BARRIER,
    Cluster,
    Launch,
    LoweredKernel,
    NamedBarrier,
    Problem,
    Tile,
    WarpRole,
    WgmmaRS,
)
from fp4cc.ir.lowered.wgmma_rs import MMA_WARPS, STAGE_K, WARPGROUP_WARPS, WEIGHT_ROWS
from fp4cc.ir.lowered_epilogue import CTA_ROWS
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.choice.schedule import applicable, assumed_shape
from fp4cc.passes.choice.stages import choose_stages
from fp4cc.passes.engines.wgmma_rs.decisions import explain_choices
from fp4cc.passes.engines.wgmma_rs.estimate import Clocks, estimate
from fp4cc.passes.engines.wgmma_rs.memory import (
    EXCHANGE,
    fitting,
    partial_sums,
    plan_mainloop,
    plan_pipeline,
    plan_smem,
    staging_limit,
)
from fp4cc.passes.engines.wgmma_rs.operands import columns_of, constraints, plan_weights, refusals, wide_of
from fp4cc.passes.engines.wgmma_rs.stores import PARTIAL_BARRIER, STORE_BARRIERS, WARPGROUPS, stored_by_engine
from fp4cc.passes.epilogue.blocks import whole_panels
from fp4cc.passes.epilogue.memory import STAGING_LIMIT
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.passes.problem.emptiness import not_empty
from fp4cc.passes.problem.unzip import Frame, find_products, tile_widths
from fp4cc.passes.resources.params import plan_params, product_sizes
from fp4cc.passes.resources.walk import plan_walk
from fp4cc.passes.rewrites.row_scales import split_row_scales
from fp4cc.targets.sm90 import SM90A

#: Rows of x of a tile: 128 sums a thread, or 64.
ROWS = (256, CTA_ROWS)
#: The same where there are no more and nobody needs more.
FEW_ROWS = 64
_WARP = 32
#: Registers of a thread, by the warpgroups in their order: together what four warpgroups start with.
REGISTERS = (("epilogue", 104), ("mma", 192), ("mma", 192), ("load", 24))
#: The same of three, where those that multiply store as well.
STORING_REGISTERS = (("mma", 240), ("mma", 240), ("load", 24))
#: Weight tiles side by side before the next rows of x: a tile of x has seven times the bytes of one of weights.
_BAND = 32
_WANTED_STAGES = 4
_LEAST_STAGING = 8 * 1024


@dataclass(frozen=True, slots=True)
class Work:
    """What is decided before the schedule; `columns` are those of each accumulator.

    `turns`: tiles of half as many are possible. `stored`: the engine stores the result itself, so that a tile need not
    have the 128 rows of an epilogue.
    """

    kernel: Kernel
    sizes: Sizes
    problem: Problem
    frame: Frame
    columns: int
    turns: bool
    stored: bool

    @property
    def tiles(self) -> dict[tuple[int, int, int], tuple[int, bool]]:
        """The tiles there are, with the rows of x and whether warpgroups take turns."""
        found = {(rows, self.columns, STAGE_K): (rows, False) for rows in ROWS}
        if self.turns:
            rows = (CTA_ROWS, FEW_ROWS) if self.stored else (CTA_ROWS,)
            found |= {(each, self.columns // 2, STAGE_K): (each, True) for each in rows}
        return found


def work_of(kernel: Kernel) -> Work | list[Diagnostic]:
    """What this engine has to do, or why it does not take a kernel."""
    sizes = Sizes.of(kernel.dims)
    kernel = split_row_scales(kernel)
    problem, frame = find_products(kernel, sizes, SM90A.tile_n)
    refused = refusals(kernel, problem)
    columns = columns_of(len(problem.accumulators))
    if columns is None or columns not in tile_widths(frame, problem, [columns]) or not whole_panels(frame, [columns]):
        first = problem.a
        refused.append(
            error("FP4296", "weights in registers do not serve this product: its accumulators, or blocks of its "
                  "outputs, do not share 128 columns", kernel.arg(first.arg).span, first.name,
                  help="write several kernels"),
        )  # fmt: skip
    if refused or columns is None:
        return refused
    half = WEIGHT_ROWS // 2
    turns = columns == WEIGHT_ROWS and half in tile_widths(frame, problem, [half]) and bool(whole_panels(frame, [half]))
    stored = turns and stored_by_engine(plan_epilogue(frame, sizes, half), FEW_ROWS, 1) is not None
    return Work(kernel, sizes, problem, frame, columns, turns, stored)


def accepts(kernel: Kernel, target: str) -> bool:
    """Whether its operands and its schedules are for this engine; of one that asks for tiles of 256 rows, always."""
    if target != SM90A.name:
        return False
    schedules = [schedule for schedule in kernel.schedules if schedule.target == target]
    if any(schedule.fields.get("tile", (0,))[0] == ROWS[0] for schedule in schedules):
        return True
    try:
        work = work_of(kernel)
    except DiagnosticError:  # what no engine takes is told by the one that takes everything
        return False
    if not isinstance(work, Work) or any(_asked_wrongly(schedule, work) for schedule in schedules):
        return False
    if any("tile" in schedule.fields for schedule in schedules):  # it is one of ours
        return True
    clocks = [_estimate(work, when, schedule) for when, schedule in applicable(kernel, work.sizes, target)]
    return any(each.ours <= each.shared for each in clocks)


def _asked_wrongly(schedule: Schedule, work: Work) -> list[Diagnostic]:
    """What a schedule asks for that this engine does not have."""
    found: list[Diagnostic] = []
    tiles = list(work.tiles)
    legal = " or ".join(" x ".join(map(str, tile)) for tile in tiles)
    for field, values in schedule.fields.items():
        span = schedule.field_spans[field]
        if field == "tile" and values not in tiles:
            found.append(
                error("FP5010", f"with weights in registers tiles are {legal} here", span, "another tile",
                      help=f"write `tile {' x '.join(map(str, tiles[0]))}`"),
            )  # fmt: skip
        elif field == "cluster" and values != (1, 1):
            found.append(
                error("FP5090", "with weights in registers each CTA is a cluster of its own", span, "another cluster",
                      notes=["tiles of 256 rows are made with weights in registers"],
                      help="write `cluster 1 x 1`, or a tile of 128 rows"),
            )  # fmt: skip
        elif field not in ("tile", "cluster", "stages"):
            found.append(
                error("FP5013", f"`{field}` cannot be chosen on sm_90a yet", span, "asked for here",
                      help="leave it out"),
            )  # fmt: skip
    return found


def lower_wgmma_rs(kernel: Kernel) -> list[LoweredKernel]:
    """A plan for each schedule that can apply. Raises DiagnosticError for what cannot be built."""
    work = work_of(kernel)
    if not isinstance(work, Work):
        raise DiagnosticError(work)
    wrong = [d for each in kernel.schedules if each.target == SM90A.name for d in _asked_wrongly(each, work)]
    if wrong:
        raise DiagnosticError(wrong)
    required = constraints(work.kernel, work.problem)
    return [
        replace(_lower_with(work, when, schedule, required), kernel=kernel)
        for when, schedule in applicable(kernel, work.sizes, SM90A.name)
    ]


def _estimate(work: Work, when: Expr | None, schedule: Schedule | None) -> Clocks:
    """The rows of x of a tile, as asked for or the fastest, with what they cost."""
    shape, _ = assumed_shape(work.problem, when)
    asked = schedule.fields.get("tile") if schedule is not None else None
    return estimate(shape, work.columns, [kind for tile, kind in work.tiles.items() if asked in (None, tile)])


def _lower_with(
    work: Work, when: Expr | None, schedule: Schedule | None, required: tuple[Constraint, ...]
) -> LoweredKernel:
    kernel, problem = work.kernel, work.problem
    clocks = _estimate(work, when, schedule)
    rows, columns = clocks.rows, work.columns // 2 if clocks.turns else work.columns
    tile, cluster = Tile(rows, columns, STAGE_K, rows), Cluster(1, 1)
    needs = Needs(kernel.args)
    readers = Readers(kernel, work.sizes, problem, kernel.constraints, needs)
    engine = WgmmaRS(wide_of(problem), rows, plan_weights(problem, columns, readers), turns=clocks.turns)
    if rows > CTA_ROWS:
        needs.size("rows_of_x", problem.m, f"rows of {problem.a.arg}")
    mainloop, maps = plan_mainloop(problem, engine)
    limits = [staging_limit(mainloop, stages) for stages in (_WANTED_STAGES, _WANTED_STAGES - 1, 2)]
    limit = next((limit for limit in limits if limit >= _LEAST_STAGING), limits[-1])
    epilogue = plan_epilogue(work.frame, work.sizes, tile.n, min(STAGING_LIMIT, limit))
    most = SM90A.stages_max
    own = stored_by_engine(epilogue, rows, 1 if engine.turns else WARPGROUPS)
    epilogue, exchange = (epilogue, EXCHANGE) if own is None else (own, None)
    engine = replace(engine, stores=own is not None)
    others = (*partial_sums(engine), *epilogue.staging)
    stages = choose_stages(kernel, schedule, lambda _: fitting(mainloop, others, exchange), most, least=2)
    stages -= stages % 2 if engine.turns else 0
    walk = plan_walk(problem, tile, cluster, _BAND)
    maps = (*maps, *epilogue.tensor_maps)
    lengths = product_sizes(problem, walk, epilogue.program, (mainloop,))
    lowered = LoweredKernel(
        name=kernel.name,
        target=SM90A.name,
        kernel=kernel,
        schedule=schedule,
        cluster=cluster,
        walk=walk,
        roles=_roles(engine),
        named_barriers=_barriers(engine),
        smem=plan_smem(mainloop, stages, others, exchange),
        tensor_maps=maps,
        epilogue=epilogue.program,
        launch=Launch(
            f"{kernel.name}_0",
            _WARP * sum(role.warps for role in _roles(engine)),
            plan_params(maps, lengths, (*epilogue.params, *needs.params())),
            (*lengths, *needs.lengths()),
            STORING_REGISTERS if engine.stores else REGISTERS,
        ),
        constraints=(*required, *not_empty(kernel, epilogue.program, work.sizes)),
        decisions=(),
        when=when,
        problem=problem,
        mainloops=(mainloop,),
        engine=engine,
        tile=tile,
        pipeline=plan_pipeline(mainloop, stages, exchange, engine.multiplying),
        exchange=exchange,
    )
    return replace(lowered, decisions=explain_choices(lowered, clocks))


def _barriers(engine: WgmmaRS) -> tuple[NamedBarrier, ...]:
    own = STORE_BARRIERS if engine.stores else (EPILOGUE_BARRIER,)
    return (*own, PARTIAL_BARRIER) if engine.turns else own


def _roles(engine: WgmmaRS) -> tuple[WarpRole, ...]:
    """Whole warpgroups, each with registers of its own."""
    if engine.stores:
        return (
            WarpRole("mma", 0, MMA_WARPS, "that convert weights, multiply and store"),
            WarpRole("load", MMA_WARPS, WARPGROUP_WARPS, "of which one is for TMA"),
        )
    return (
        WarpRole("epilogue", 0, WARPGROUP_WARPS, "that run the epilogue"),
        WarpRole("mma", WARPGROUP_WARPS, MMA_WARPS, "that convert weights and multiply"),
        WarpRole("load", WARPGROUP_WARPS + MMA_WARPS, WARPGROUP_WARPS, "of which one is for TMA"),
    )
