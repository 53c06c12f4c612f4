"""Lowering products of a plain operand by weights to Hopper: the weights become wgmma's A in registers.

The product is made transposed, D^T = W x^T, because wgmma takes only its A from registers: what is converted need then
not pass through shared memory again, of which wgmma reads x alone. Two warpgroups have 64 weight rows each; they make
the fragments of one stage while the stage before is multiplied. Sums cross shared memory to a warpgroup that runs the
epilogue under the next tile's mainloop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Constraint, Expr, Kernel
from fp4cc.ir.lowered import (
    Cluster,
    Exchange,
    Launch,
    LoweredKernel,
    Mainloop,
    NamedBarrier,
    Problem,
    SmemBuffer,
    Tile,
    WarpRole,
    WgmmaRS,
)
from fp4cc.ir.lowered.split import Split
from fp4cc.ir.lowered.wgmma_rs import FAST_STAGE_K, MMA_WARPS, STAGE_K, WARPGROUP_WARPS, WEIGHT_ROWS
from fp4cc.ir.lowered_epilogue import CTA_ROWS
from fp4cc.ir.sizes import Sizes, ceildiv
from fp4cc.passes.choice.cases import Bounds, Candidate, Case, Fields
from fp4cc.passes.choice.schedule import ORDERS, asked_band, assumed_shape, problem_sizes
from fp4cc.passes.choice.split import Parts, Picked, in_parts, least_clocks, parts_asked, parts_of, split_blocks
from fp4cc.passes.choice.stages import asked_stages, choose_stages, fewer_stages
from fp4cc.passes.engines.wgmma_rs.decisions import explain_choices
from fp4cc.passes.engines.wgmma_rs.estimate import clocks
from fp4cc.passes.engines.wgmma_rs.memory import (
    EXCHANGE,
    fitting,
    least_stages,
    partial_sums,
    plan_mainloop,
    plan_pipeline,
    plan_smem,
    staging_limit,
)
from fp4cc.passes.engines.wgmma_rs.operands import columns_of, is_fast, plan_weights, refusals, wide_of
from fp4cc.passes.engines.wgmma_rs.schedule import (
    ORDER_BARRIERS,
    SPAN_BARRIERS,
    asked_wrongly,
    asks_for_it,
    too_few_rows,
)
from fp4cc.passes.engines.wgmma_rs.stores import PARTIAL_BARRIER, STORE_BARRIERS, WARPGROUPS, stored_by_engine
from fp4cc.passes.epilogue.blocks import whole_panels
from fp4cc.passes.epilogue.memory import STAGING_LIMIT
from fp4cc.passes.epilogue.plan import EpiloguePlan, plan_epilogue
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.passes.problem.emptiness import not_empty
from fp4cc.passes.problem.groups import check_groups
from fp4cc.passes.problem.unzip import Frame, find_products, tile_widths
from fp4cc.passes.problem.whole_loads import whole_loads
from fp4cc.passes.resources.params import group_params, plan_params, product_sizes
from fp4cc.passes.resources.split import (
    over_parts,
    plan_split,
    split_barriers,
    split_sizes,
    split_words,
    with_parts,
)
from fp4cc.passes.resources.walk import plan_walk
from fp4cc.passes.rewrites.row_scales import split_row_scales
from fp4cc.targets.sm90 import SM90A
from fp4rt.manifest import TensorMap
from fp4rt.sizes import evaluate

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
    have the 128 rows of an epilogue. `fast`: x is FP8 and so become the weights; there is room for 128 rows then, and
    a plan for few has no more. `room`: the tiles that fit in shared memory; None: all, as far as is known.
    """

    kernel: Kernel
    sizes: Sizes
    problem: Problem
    frame: Frame
    columns: int
    turns: bool
    stored: bool
    fast: bool = False
    room: frozenset[tuple[int, int, int]] | None = None

    @property
    def tiles(self) -> dict[tuple[int, int, int], tuple[int, bool]]:
        """The tiles there are, with the rows of x and whether warpgroups take turns."""
        stage_k = FAST_STAGE_K if self.fast else STAGE_K
        found = {(rows, self.columns, stage_k): (rows, False) for rows in (ROWS[1:] if self.fast else ROWS)}
        if self.turns:
            rows = (CTA_ROWS, FEW_ROWS) if self.stored or self.fast else (CTA_ROWS,)
            found |= {(each, self.columns // 2, stage_k): (each, True) for each in rows}
        return found if self.room is None else {tile: found[tile] for tile in found if tile in self.room}

    def most_rows(self, tile: tuple[int, ...]) -> int | None:
        """The most rows of x that a plan with one of the tiles serves; None: any number."""
        return tile[0] if self.fast and tile[0] < CTA_ROWS else None

    def whole(self, tile: tuple[int, int, int]) -> Tile:
        """A tile as the epilogue sees it, which has 128 rows or more of what crosses to it."""
        rows = max(tile[0], CTA_ROWS) if self.fast else tile[0]
        return Tile(rows, tile[1], tile[2], rows)

    def possible(self, tile: tuple[int, ...], bounds: Bounds) -> bool:
        """Whether a tile has room for all rows that there can be."""
        room, most = self.most_rows(tile), bounds.most(self.problem.m)
        return room is None or (most is not None and most <= room)

    def clocks(self, tile: tuple[int, int, int], parts: int = 1) -> Expr:
        """The time with one of the tiles and K in so many parts, but for DRAM."""
        return clocks(self.problem, tile[1], self.tiles[tile], parts, fast=self.fast)


def work_of(kernel: Kernel) -> Work | list[Diagnostic]:
    """What this engine has to do, or why it does not take a kernel."""
    check_groups(kernel)
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
    if problem.contracted is not None:
        refused.append(
            error("FP4300", "weights in registers do not serve products that contract rows in groups",
                  kernel.arg(problem.a.arg).span, problem.a.name, help="ask for no tile of 256 rows"),
        )  # fmt: skip
    if refused or columns is None:
        return refused
    half = WEIGHT_ROWS // 2
    turns = columns == WEIGHT_ROWS and half in tile_widths(frame, problem, [half]) and bool(whole_panels(frame, [half]))
    fast = is_fast(kernel, problem)
    # A store by TMA would reach over the end of a group (docs/decisions/0005-stores-at-the-end-of-a-group.md).
    able = turns and not fast and problem.groups is None
    stored = able and stored_by_engine(plan_epilogue(frame, sizes, half), FEW_ROWS, 1) is not None
    work = Work(kernel, sizes, problem, frame, columns, turns, stored, fast)
    room = frozenset(tile for tile in work.tiles if _has_room(work, tile))
    if not room:
        return [
            error("FP5012", "with weights in registers the stages do not fit beside what the epilogue needs",
                  kernel.span, help="store fewer outputs"),
        ]  # fmt: skip
    return replace(work, room=room)


def _has_room(work: Work, tile: tuple[int, int, int]) -> bool:
    """Whether as many stages as a tile needs fit beside its epilogue."""
    layout = _layout(work, tile, Needs(work.kernel.args))
    return layout.fits >= least_stages(layout.engine)


def takes_weights(kernel: Kernel, target: str, bounds: Bounds) -> bool:
    """Whether its operands are for this engine; one that asks for tiles of 256 rows is, to be told why not."""
    del bounds
    if target != SM90A.name:
        return False
    if any(asks_for_it(schedule) for schedule in kernel.schedules if schedule.target == target):
        return True
    return _work_if_any(kernel) is not None


def _work_if_any(kernel: Kernel) -> Work | None:
    """What there is to do; None of what this engine does not take, and of what none takes, which the others tell."""
    if not any(value.op == "matmul" for value in kernel.values):
        return None
    try:
        work = work_of(kernel)
    except DiagnosticError:
        return None
    return work if isinstance(work, Work) else None


def wgmma_rs_candidates(kernel: Kernel, target: str) -> list[Candidate]:
    """A plan for each number of rows of a tile."""
    work = _work_if_any(kernel) if target == SM90A.name else None
    if work is None:
        return []
    found: list[Candidate] = []
    for tile in work.tiles:
        most = work.most_rows(tile)
        if most is not None and not isinstance(work.problem.m, str):
            continue
        label = f"weights in registers, {tile[0]} x {tile[1]} x {tile[2]}"
        within = None if most is None else ("le", work.problem.m, most)
        plain = Candidate(label, work.clocks(tile), Picked(tile), within)
        whole = work.problem.groups is not None  # K is not split then
        found.append(plain if whole else in_parts(plain, partial(work.clocks, tile), Picked(tile, "auto")))
    return found


def wgmma_rs_blocks(kernel: Kernel, target: str) -> list[Fields]:
    """Blocks for each tile with K in one and in several parts."""
    work = _work_if_any(kernel) if target == SM90A.name else None
    if work is None:
        return []
    splits = split_blocks() if work.problem.groups is None else split_blocks()[:1]
    return [{"tile": tile, **parts} for tile in work.tiles for parts in splits]


def wgmma_rs_variations(plan: LoweredKernel) -> list[Fields]:
    """Orders of tiles, and fewer stages."""
    return [*ORDERS, *fewer_stages(plan)]


def lower_wgmma_rs(kernel: Kernel, cases: Sequence[Case]) -> list[LoweredKernel]:
    """A plan for each case. Raises DiagnosticError for what cannot be built."""
    work = work_of(kernel)
    if not isinstance(work, Work):
        raise DiagnosticError(work)
    blocks = [case.schedule for case in cases if case.schedule is not None]
    wrong = [each for schedule in blocks for each in asked_wrongly(schedule, list(work.tiles), work.problem)]
    if not wrong:
        wrong = [
            too_few_rows(case.schedule)
            for case in cases
            for tile in work.tiles
            if case.schedule is not None and tile == case.schedule.fields.get("tile")
            if not work.possible(tile, Bounds.of(kernel, case.when))
        ]
    if wrong:
        raise DiagnosticError(wrong)
    required = whole_loads(work.kernel, [work.problem.products])
    return [replace(_lower_with(work, case, required), kernel=kernel) for case in cases]


def _tile(work: Work, case: Case) -> tuple[int, int, int]:
    """The tile: as asked for, as chosen by the table over sizes, or the fastest."""
    asked = case.schedule.fields.get("tile") if case.schedule is not None else None
    for tile in work.tiles:
        if tile == asked or (isinstance(case.pick, Picked) and tile == case.pick.tile):
            return tile
    odd = (asked_stages(case.schedule) or 0) % 2 > 0
    bounds = Bounds.of(work.kernel, case.when)
    tiles = [tile for tile, (_, turns) in work.tiles.items() if not (turns and odd) and work.possible(tile, bounds)]
    _, values = assumed_shape(work.problem, case.when, case.at)

    def rank(tile: tuple[int, int, int]) -> tuple[float, int, bool]:
        clocks = least_clocks(_parts(work, case), partial(work.clocks, tile))
        return evaluate(clocks, values), -tile[0], work.tiles[tile][1]

    return min(tiles, key=rank)


def _parts(work: Work, case: Case) -> Parts:
    """Into how many parts K is to be split."""
    return parts_asked(case, problem_sizes(work.problem).values(), splittable=work.problem.groups is None)


def _lower_with(work: Work, case: Case, required: tuple[Constraint, ...]) -> LoweredKernel:
    kernel, problem, schedule = work.kernel, work.problem, case.schedule
    chosen = rows, _, _ = _tile(work, case)
    tile, cluster = work.whole(chosen), Cluster(1, 1)
    needs = Needs(kernel.args)
    layout = _layout(work, chosen, needs, case)
    engine, mainloop, split, epilogue = layout.engine, layout.mainloop, layout.split, layout.epilogue
    if rows > CTA_ROWS and problem.groups is None:
        needs.size("rows_of_x", problem.m, f"rows of {problem.a.arg}")
    least = least_stages(engine)
    stages = choose_stages(kernel, schedule, lambda _: layout.fits, SM90A.stages_max, least=least, even=engine.turns)
    walk = plan_walk(problem, tile, cluster, _BAND if (band := asked_band(schedule)) is None else band)
    program, split_params = with_parts(epilogue.program, walk.tiles, split)
    walk = over_parts(walk, split)
    maps, groups = (*layout.maps, *epilogue.tensor_maps), group_params(walk, problem)
    lengths = [*product_sizes(problem, walk, program, (mainloop,)), *split_sizes(split)]
    lowered = LoweredKernel(
        name=kernel.name,
        target=SM90A.name,
        kernel=kernel,
        schedule=schedule,
        cluster=cluster,
        walk=walk,
        roles=_roles(engine),
        named_barriers=_barriers(engine, epilogue, split),
        smem=plan_smem(mainloop, stages, layout.others, layout.exchange),
        tensor_maps=maps,
        epilogue=program,
        launch=Launch(
            f"{kernel.name}_0",
            _WARP * sum(role.warps for role in _roles(engine)),
            plan_params(maps, lengths, (*groups, *epilogue.params, *split_params, *needs.params())),
            (*lengths, *needs.lengths()),
            STORING_REGISTERS if engine.stores else REGISTERS,
        ),
        constraints=(*required, *not_empty(kernel, epilogue.program, work.sizes)),
        decisions=(),
        when=case.when,
        clocks=least_clocks(_parts(work, case), partial(work.clocks, chosen)),
        problem=problem,
        mainloops=(mainloop,),
        engine=engine,
        split=split,
        tile=tile,
        pipeline=plan_pipeline(mainloop, stages, layout.exchange, engine.multiplying),
        exchange=layout.exchange,
    )
    return replace(lowered, decisions=explain_choices(lowered))


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a tile needs of shared memory: `others` beside the ring, of which `fits` stages fit."""

    engine: WgmmaRS
    mainloop: Mainloop
    maps: tuple[TensorMap, ...]
    split: Split | None
    epilogue: EpiloguePlan
    exchange: Exchange | None
    others: tuple[SmemBuffer, ...]
    fits: int


def _layout(work: Work, chosen: tuple[int, int, int], needs: Needs, case: Case | None = None) -> _Layout:
    """The layout of one of the tiles; without a case, with all of K in one part."""
    readers = Readers(work.kernel, work.sizes, work.problem, work.kernel.constraints, needs)
    engine = _engine(work, chosen, readers)
    mainloop, maps = plan_mainloop(work.problem, engine)
    split = None if case is None else _split(work, case, chosen, mainloop, engine)
    others = (*partial_sums(engine), *split_words(split))
    stages = range(_WANTED_STAGES, least_stages(engine) - 1, -1)
    limits = [staging_limit(mainloop, each, others) for each in stages]
    limit = next((limit for limit in limits if limit >= _LEAST_STAGING), limits[-1])
    epilogue = plan_epilogue(work.frame, work.sizes, work.whole(chosen).n, min(STAGING_LIMIT, limit))
    by_epilogue = work.fast or work.problem.groups is not None
    own = None if by_epilogue else stored_by_engine(epilogue, chosen[0], 1 if engine.turns else WARPGROUPS)
    epilogue, exchange = (epilogue, EXCHANGE) if own is None else (own, None)
    engine = replace(engine, stores=own is not None)
    others = (*others, *epilogue.staging)
    fits = fitting(mainloop, others, exchange)
    return _Layout(engine, mainloop, maps, split, epilogue, exchange, others, fits)


def _engine(work: Work, tile: tuple[int, int, int], readers: Readers) -> WgmmaRS:
    rows, columns, _ = tile
    weights = plan_weights(work.problem, columns, readers, fast=work.fast)
    return WgmmaRS(wide_of(work.problem), rows, weights, turns=work.tiles[tile][1])


def _split(work: Work, case: Case, tile: tuple[int, int, int], mainloop: Mainloop, engine: WgmmaRS) -> Split | None:
    parts = parts_of(_parts(work, case), partial(work.clocks, tile))
    k_tiles = ceildiv(work.problem.products[0].k, mainloop.tile_k)
    return plan_split(parts, k_tiles, _WARP * engine.multiplying, engine.rows // 2)


def _barriers(engine: WgmmaRS, epilogue: EpiloguePlan, split: Split | None) -> tuple[NamedBarrier, ...]:
    own = STORE_BARRIERS if engine.stores else epilogue.barriers
    turns = (PARTIAL_BARRIER,) if engine.turns else ()
    fast = (*(ORDER_BARRIERS if engine.ordered else ()), *(SPAN_BARRIERS if engine.fast else ()))
    return (*own, *turns, *split_barriers(split, "mma"), *fast)


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
