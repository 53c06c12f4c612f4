"""Lowering products of at most 16 rows for sm_90a: as many CTAs as the columns give, whose warps share K.

Time is that of reading the weights once. So nothing is between memory and registers: a lane loads 16 bytes of a row of
weights, which are its part of the left operand of several `mma.sync`, and the same elements of x. All warps add up
their sums in shared memory in their order, so that the bits never change, and four of them run the epilogue.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp4cc.ir.kernel import Constraint, Expr, Kernel, Schedule
from fp4cc.ir.lowered import (
    EPILOGUE_BARRIER,
    Cluster,
    Decode,
    FewRows,
    Launch,
    LoweredKernel,
    Mainloop,
    OneEach,
    Problem,
    SmemBuffer,
    Tile,
    WarpRole,
)
from fp4cc.ir.lowered.decode import ROWS
from fp4cc.ir.sizes import Sizes, ceildiv, mul
from fp4cc.passes.choice.bounds import upper_bound
from fp4cc.passes.engines.decode.decisions import explain_choices
from fp4cc.passes.engines.decode.operands import constraints, plan_strips, run_of
from fp4cc.passes.engines.decode.shape import AHEAD, EPILOGUE_WARPS, WARP_COLUMNS, Shape, choose
from fp4cc.passes.epilogue.blocks import whole_panels
from fp4cc.passes.epilogue.memory import STAGING_LIMIT
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.feeds.promoted_scales import is_promoted
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.passes.problem.emptiness import not_empty
from fp4cc.passes.problem.unzip import Frame, find_products, tile_widths
from fp4cc.passes.resources.params import plan_params, product_sizes
from fp4cc.passes.resources.smem import place_buffers
from fp4cc.passes.rewrites.row_scales import split_row_scales
from fp4cc.targets.sm90 import SM90A

#: The most rows of the product: two instructions' right operands.
MOST_ROWS = 2 * ROWS
#: What a tile is to the epilogue: a thread for each of its rows, most of which are past the end.
TILE_ROWS = 128
#: Columns of an accumulator in a tile, and of all of them together.
_WIDTHS = (32, 64, 128)
_MOST_COLUMNS = 128


@dataclass(frozen=True, slots=True)
class _Work:
    """What is decided before the tile."""

    kernel: Kernel
    sizes: Sizes
    problem: Problem
    frame: Frame
    rows: int
    required: tuple[Constraint, ...]


def lower_decode(kernel: Kernel, when: Expr | None, schedule: Schedule | None) -> LoweredKernel | None:
    """The plan for calls where `when` holds; None where M may be more than 16, or something is not for this engine.

    What is refused in any case is refused by the engine that takes every M; it also takes what a schedule asks for.
    """
    asked = () if schedule is None else tuple(schedule.fields.values())
    if is_promoted(kernel) or any(values != ("auto",) for values in asked):
        return None
    sizes = Sizes.of(kernel.dims)
    split = split_row_scales(kernel)
    problem, frame = find_products(split, sizes, SM90A.tile_n)
    rows = upper_bound(problem.m, when)
    required = constraints(split, problem.products)
    if rows is None or not 0 < rows <= MOST_ROWS or required is None:
        return None
    lowered = _lower(_Work(split, sizes, problem, frame, rows, required), when, schedule)
    return None if lowered is None else replace(lowered, kernel=kernel)


def _lower(work: _Work, when: Expr | None, schedule: Schedule | None) -> LoweredKernel | None:
    kernel, problem, needs, run = work.kernel, work.problem, Needs(work.kernel.args), run_of(work.problem)
    facts = (*kernel.constraints, *work.required)
    pairs = plan_strips(problem, run, Readers(kernel, work.sizes, problem, facts, needs))
    slots = len(problem.accumulators)
    widths = tile_widths(work.frame, problem, [n for n in _WIDTHS if slots * n <= _MOST_COLUMNS])
    widths = whole_panels(work.frame, widths)
    if pairs is None or not widths:
        return None
    shape = choose(problem, widths, run)
    groups = -(-work.rows // ROWS)
    tile = Tile(TILE_ROWS, shape.columns, 4 * run, TILE_ROWS)
    engine = Decode(pairs, groups, WARP_COLUMNS, shape.shares, run, AHEAD, shape.ctas)
    exchange = FewRows("sums", 4 * (slots * tile.n + 4), between=False, rows=engine.shares * engine.rows + 1)
    sums = SmemBuffer(exchange.buffer, 0, exchange.rows * exchange.pitch, 1, 16, "each warp's sums, and zeros")
    epilogue = plan_epilogue(work.frame, work.sizes, tile.n, min(STAGING_LIMIT, SM90A.smem_bytes - sums.total))
    mainloops = tuple(Mainloop((product,), engine.step, (), 0) for product in problem.products)
    walk = _walk(problem, tile)
    lengths = (*product_sizes(problem, walk, epilogue.program, mainloops), *needs.lengths())
    lowered = LoweredKernel(
        name=kernel.name,
        target=SM90A.name,
        kernel=kernel,
        schedule=schedule,
        tile=tile,
        cluster=Cluster(1, 1),
        walk=walk,
        roles=_roles(shape),
        named_barriers=(EPILOGUE_BARRIER,),
        smem=place_buffers((sums, *epilogue.staging), SM90A.smem_bytes),
        tensor_maps=epilogue.tensor_maps,
        epilogue=epilogue.program,
        launch=Launch(
            f"{kernel.name}_0",
            32 * shape.warps,
            plan_params(epilogue.tensor_maps, lengths, (*needs.addresses(), *epilogue.params)),
            lengths,
        ),
        constraints=(*work.required, *not_empty(kernel, epilogue.program, work.sizes)),
        decisions=(),
        when=when,
        problem=problem,
        mainloops=mainloops,
        engine=engine,
        exchange=exchange,
    )
    return replace(lowered, decisions=explain_choices(lowered))


def _walk(problem: Problem, tile: Tile) -> OneEach:
    tiles_m, tiles_n = ceildiv(problem.m, tile.cta_m), ceildiv(problem.n, tile.n)
    return OneEach(0, tiles_m, tiles_n, mul(tiles_m, tiles_n, problem.batch))


def _roles(shape: Shape) -> tuple[WarpRole, ...]:
    epilogue = WarpRole("epilogue", 0, EPILOGUE_WARPS, "that multiply and run the epilogue")
    others = shape.warps - EPILOGUE_WARPS
    return (epilogue, WarpRole("mma", EPILOGUE_WARPS, others, "that multiply")) if others else (epilogue,)
