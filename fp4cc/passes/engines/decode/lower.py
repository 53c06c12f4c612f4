"""Lowering products of at most 16 rows for sm_90a: as many CTAs as the columns give, whose warps share K.

Time is that of reading the weights once. So nothing is between memory and registers: a lane loads 16 bytes of a row of
weights, which are its part of the left operand of several `mma.sync`, and the same elements of x. All warps add up
their sums in shared memory in their order, so that the bits never change, and four of them run the epilogue.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.kernel import Constraint, Kernel, Schedule
from fp4cc.ir.lowered import (
    Cluster,
    Decode,
    FewRows,
    Grouped,
    Launch,
    LoweredKernel,
    Mainloop,
    OneEach,
    Problem,
    SmemBuffer,
    Strip,
    Tile,
    Walk,
    WarpRole,
)
from fp4cc.ir.lowered.decode import LANES, ROWS
from fp4cc.ir.sizes import Sizes, ceildiv, mul
from fp4cc.passes.choice.cases import Bounds, Candidate, Case
from fp4cc.passes.choice.refused import is_harmless
from fp4cc.passes.engines.decode.decisions import explain_choices
from fp4cc.passes.engines.decode.operands import constraints, plan_strips, run_of
from fp4cc.passes.engines.decode.shape import AHEAD, EPILOGUE_WARPS, WARP_COLUMNS, Shape, choose, clocks_of
from fp4cc.passes.epilogue.blocks import whole_panels
from fp4cc.passes.epilogue.memory import STAGING_LIMIT
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.feeds.promoted_scales import is_promoted
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.passes.problem.emptiness import not_empty
from fp4cc.passes.problem.groups import check_groups, most_tiles
from fp4cc.passes.problem.unzip import Frame, find_products, tile_widths
from fp4cc.passes.resources.params import group_params, plan_params, product_sizes
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
class Few:
    """What a candidate for rows in groups stands for: tiles of so many rows of a group."""

    rows: int


@dataclass(frozen=True, slots=True)
class _Work:
    """What is decided before the tile, for products of at most so many `rows`."""

    kernel: Kernel
    sizes: Sizes
    problem: Problem
    frame: Frame
    pairs: tuple[tuple[Strip, Strip], ...]
    run: int
    widths: tuple[int, ...]
    required: tuple[Constraint, ...]
    needs: Needs


def takes_few_rows(kernel: Kernel, target: str, bounds: Bounds) -> bool:
    """Whether this engine makes the kernel's products, of at most 16 rows within bounds.

    What cannot be made by any engine is left to be refused by the one that takes every number of rows.
    """
    work = _work_if_any(kernel) if target == SM90A.name else None
    return work is not None and 0 < (bounds.most(work.problem.m) or 0) <= MOST_ROWS


def only_auto(schedule: Schedule | None) -> bool:
    """Whether a block asks for nothing: tiles, stages and clusters are those of the other engine."""
    if schedule is None:
        return True
    return all(values == ("auto",) or is_harmless(field, values) for field, values in schedule.fields.items())


def decode_candidates(kernel: Kernel, target: str) -> list[Candidate]:
    """A plan for each number of right operands of an instruction.

    Of rows in groups each group has as many tiles as it needs, so that such a plan serves any number of rows; each
    reads the group's weights, so few rows a group are what it is for.
    """
    work = _work_if_any(kernel) if target == SM90A.name else None
    if work is None:
        return []
    shape = choose(work.problem, work.widths, work.run)
    if work.problem.groups is not None:
        return [
            Candidate(f"decode, {ROWS * groups} rows of a group", clocks_of(work.problem, shape, work.run, groups),
                      Few(ROWS * groups))
            for groups in range(1, MOST_ROWS // ROWS + 1)
        ]  # fmt: skip
    if not isinstance(work.problem.m, str):
        return []
    return [
        Candidate(
            f"decode, at most {ROWS * groups} rows",
            clocks_of(work.problem, shape, work.run, groups),
            within=("le", work.problem.m, ROWS * groups),
        )
        for groups in range(1, MOST_ROWS // ROWS + 1)
    ]


def lower_decode(kernel: Kernel, case: Case) -> LoweredKernel:
    """The plan for a case. ValueError for one that `takes_few_rows` does not take."""
    work = _work(kernel)
    rows = None if work is None else Bounds.of(kernel, case.when).most(work.problem.m)
    rows = case.pick.rows if isinstance(case.pick, Few) else rows
    if work is None or rows is None:
        raise ValueError(f"`{kernel.name}` is not for few rows")
    lowered = replace(_lower(work, rows, case), kernel=kernel)
    return replace(lowered, decisions=explain_choices(lowered))


def _work_if_any(kernel: Kernel) -> _Work | None:
    """The same; None too of a kernel without products, or with what no engine makes."""
    if is_promoted(kernel) or not any(value.op == "matmul" for value in kernel.values):
        return None
    try:
        return _work(kernel)
    except DiagnosticError:
        return None


def _work(kernel: Kernel) -> _Work | None:
    """None where an operand, a size or the width of the epilogue's panels is not for this engine."""
    check_groups(kernel)
    kernel, sizes = split_row_scales(kernel), Sizes.of(kernel.dims)
    problem, frame = find_products(kernel, sizes, SM90A.tile_n)
    required = constraints(kernel, problem.products)
    slots = len(problem.accumulators)
    widths = tile_widths(frame, problem, [n for n in _WIDTHS if slots * n <= _MOST_COLUMNS])
    widths = whole_panels(frame, widths)
    if required is None or not widths or problem.contracted is not None or not _by_few_rows(kernel, problem):
        return None
    needs, run = Needs(kernel.args), run_of(problem)
    readers = Readers(kernel, sizes, problem, (*kernel.constraints, *required), needs)
    pairs = plan_strips(problem, run, readers)
    return None if pairs is None else _Work(kernel, sizes, problem, frame, pairs, run, widths, required, needs)


def _by_few_rows(kernel: Kernel, problem: Problem) -> bool:
    """Whether tiles may have fewer rows than an epilogue: of rows in groups other tiles then have the next ones.

    An output's scales lie in atoms of 128 rows, whose padding the tile with a group's last rows writes; and scales of
    the left operand start anew with each group, which only the walk over whole atoms counts.
    """
    if problem.groups is None:
        return True
    outputs = [arg for arg in kernel.args if arg.direction != "in" and arg.direction != "param"]
    rows = all(arg.format is None and len(arg.axes) > 1 and arg.axes[-2].name == problem.m_axis for arg in outputs)
    return (
        rows
        and not any(store.at is not None for store in kernel.stores)
        and not any(product.a.scaled or product.a.gather is not None for product in problem.products)
    )


def _lower(work: _Work, rows: int, case: Case) -> LoweredKernel:
    kernel, problem, needs = work.kernel, work.problem, work.needs
    shape = choose(problem, work.widths, work.run)
    tile = Tile(TILE_ROWS, shape.columns, LANES * work.run, TILE_ROWS)
    engine = Decode(work.pairs, -(-rows // ROWS), WARP_COLUMNS, shape.shares, work.run, AHEAD, shape.ctas)
    pitch = 4 * (len(problem.accumulators) * tile.n + 4)  # without the four, lanes of a warp would meet in banks
    exchange = FewRows("sums", pitch, between=False, rows=engine.shares * engine.rows + 1)
    sums = SmemBuffer(exchange.buffer, 0, exchange.rows * pitch, 1, 16, "each warp's sums, and zeros")
    epilogue = plan_epilogue(work.frame, work.sizes, tile.n, min(STAGING_LIMIT, SM90A.smem_bytes - sums.total))
    mainloops = tuple(Mainloop((product,), engine.step, (), 0) for product in problem.products)
    walk = _walk(problem, tile, engine.rows)
    lengths = (*product_sizes(problem, walk, epilogue.program, mainloops), *needs.lengths())
    groups = group_params(walk, problem)
    params = plan_params(epilogue.tensor_maps, lengths, (*groups, *needs.addresses(), *epilogue.params))
    return LoweredKernel(
        name=kernel.name,
        target=SM90A.name,
        kernel=kernel,
        schedule=case.schedule,
        tile=tile,
        cluster=Cluster(1, 1),
        walk=walk,
        roles=_roles(shape),
        named_barriers=epilogue.barriers,
        smem=place_buffers((sums, *epilogue.staging), SM90A.smem_bytes),
        tensor_maps=epilogue.tensor_maps,
        epilogue=epilogue.program,
        launch=Launch(f"{kernel.name}_0", 32 * shape.warps, params, lengths),
        constraints=(*work.required, *not_empty(kernel, epilogue.program, work.sizes)),
        decisions=(),
        when=case.when,
        problem=problem,
        mainloops=mainloops,
        engine=engine,
        clocks=clocks_of(problem, shape, work.run, engine.groups),
        exchange=exchange,
    )


def _walk(problem: Problem, tile: Tile, rows: int) -> Walk:
    tiles_n = ceildiv(problem.n, tile.n)
    if problem.groups is not None:  # tiles with the same weights side by side: they share them in L2
        tiles_m = most_tiles(problem.m, rows, problem.groups)
        return Grouped(1, tiles_m, tiles_n, mul(tiles_m, tiles_n), rows, problem.groups)
    tiles_m = ceildiv(problem.m, tile.cta_m)
    return OneEach(0, tiles_m, tiles_n, mul(tiles_m, tiles_n, problem.batch))


def _roles(shape: Shape) -> tuple[WarpRole, ...]:
    epilogue = WarpRole("epilogue", 0, EPILOGUE_WARPS, "that multiply and run the epilogue")
    others = shape.warps - EPILOGUE_WARPS
    return (epilogue, WarpRole("mma", EPILOGUE_WARPS, others, "that multiply")) if others else (epilogue,)
