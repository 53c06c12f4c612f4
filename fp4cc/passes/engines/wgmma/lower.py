"""Lowering products to Hopper: TMA brings operands, warps convert them to what wgmma multiplies, and it does.

With f32 scales of FP8 operands (`fp4cc.passes.feeds.promoted_scales`) the sums are of products without scales, a step
of K at a time; so operands are still converted to bf16: Hopper's fp8 wgmma keeps fewer bits of a sum than f32 has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Constraint, Expr, Kernel, Schedule
from fp4cc.ir.lowered import (
    CONSUMERS,
    TILE_K,
    Cluster,
    Launch,
    LoweredKernel,
    Mainloop,
    Problem,
    Promotion,
    SmemBuffer,
    Tile,
    WarpRole,
    Wgmma,
)
from fp4cc.ir.lowered.wgmma import slotted
from fp4cc.ir.sizes import Sizes, ceildiv, mul
from fp4cc.passes.choice.cases import Candidate, Case, Fields
from fp4cc.passes.choice.refused import alone, left_to_hopper
from fp4cc.passes.choice.schedule import ORDERS, asked_band, problem_sizes
from fp4cc.passes.choice.split import (
    Parts,
    Picked,
    in_parts,
    least_clocks,
    parts_asked,
    parts_of,
    split_blocks,
    split_refusals,
)
from fp4cc.passes.choice.stages import choose_stages, fewer_stages
from fp4cc.passes.engines.wgmma.decisions import explain_choices
from fp4cc.passes.engines.wgmma.estimate import clocks
from fp4cc.passes.engines.wgmma.memory import (
    OPERAND_BARRIER,
    PROMOTED_SLOTS,
    SLOT_BYTES,
    SLOTS,
    exchange,
    factors_buffer,
    plan_mainloops,
    plan_pipeline,
    plan_smem,
)
from fp4cc.passes.engines.wgmma.operands import Steps, plan_steps, promoted_steps
from fp4cc.passes.epilogue.adding import adds_atomically
from fp4cc.passes.epilogue.blocks import TooNarrow, whole_panels
from fp4cc.passes.epilogue.memory import STAGING_LIMIT
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.feeds.promoted_scales import STEP, is_promoted, promoted_product, promoted_scales
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.passes.problem.emptiness import not_empty
from fp4cc.passes.problem.groups import check_groups
from fp4cc.passes.problem.halves import refusal
from fp4cc.passes.problem.roles import multiplies
from fp4cc.passes.problem.unzip import Frame, find_products, tile_widths
from fp4cc.passes.problem.whole_loads import rows_across, whole_loads
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

THREADS = (CONSUMERS + 1) * 32
#: What a thread of the epilogue takes at a time.
LEAST_COLUMNS = 32
_WIDTHS = (SM90A.tile_n, 64, LEAST_COLUMNS)
#: Bytes that may be lost before the epilogue's buffers.
ALIGNMENT = 1024
#: CTAs along M and N.
CLUSTERS = ((1, 1), (2, 1))
#: What a block may choose.
OWN_FIELDS = ("tile", "cluster", "stages", "split_k", "raster", "store", "reduce")


@dataclass(frozen=True, slots=True)
class _Work:
    """What is decided before the schedule: the epilogue's frame, the mainloops, the columns of an accumulator."""

    kernel: Kernel
    sizes: Sizes
    problem: Problem
    frame: Frame
    steps: tuple[Steps, ...]
    needs: Needs
    columns: int
    promotion: Promotion | None = None

    @property
    def tile(self) -> Tile:
        """A tile."""
        return Tile(SM90A.tile_m, self.columns, TILE_K, SM90A.tile_m)

    @property
    def slots(self) -> int:
        """Converted operands in shared memory."""
        return SLOTS if self.promotion is None else PROMOTED_SLOTS

    def clocks(self, parts: int) -> Expr:
        """The time with K in so many parts, but for DRAM."""
        return clocks(self.problem, self.steps, self.columns, parts, promoted=self.promotion is not None)


def lower_wgmma(kernel: Kernel, cases: Sequence[Case]) -> list[LoweredKernel]:
    """A plan for each case. Raises DiagnosticError for what cannot be built on sm_90a."""
    work = _work_on(kernel)
    required = (
        *whole_loads(work.kernel, [steps.products for steps in work.steps]),
        *rows_across(work.kernel, work.problem),
    )
    return [replace(_lower_with(work, case, required), kernel=kernel) for case in cases]


def wgmma_candidates(kernel: Kernel) -> list[Candidate]:
    """The one tile there is, of any number of rows. Raises what `lower_wgmma` does."""
    work = _work_on(kernel)
    if work.problem.groups is not None or work.problem.contracted is not None:
        return []  # how many rows a group has is not known when a plan is taken
    tile = work.tile
    plain = Candidate(f"{tile.m} x {tile.n} x {tile.k}", work.clocks(1), Picked())
    return [in_parts(plain, work.clocks, Picked(parts="auto")) if len(work.steps) == 1 else plain]


def wgmma_blocks(kernel: Kernel, target: str) -> list[Fields]:
    """Blocks for the tile with K in one and in several parts."""
    if target != SM90A.name or not multiplies(kernel):
        return []
    tile = _work_on(kernel).tile
    return [{"tile": (tile.m, tile.n, tile.k), **parts} for parts in split_blocks()]


def wgmma_variations(plan: LoweredKernel) -> list[Fields]:
    """Clusters, whose CTAs share B, orders of tiles, and fewer stages."""
    return [*({"cluster": cluster} for cluster in CLUSTERS), *ORDERS, *fewer_stages(plan)]


def _work_on(kernel: Kernel) -> _Work:
    check_groups(kernel)
    sizes = Sizes.of(kernel.dims)
    return _promoted(kernel, sizes) if is_promoted(kernel) else _work(split_row_scales(kernel), sizes)


def _work(kernel: Kernel, sizes: Sizes) -> _Work:
    problem, frame = find_products(kernel, sizes, SM90A.tile_n)
    columns = _columns(kernel, frame, problem)
    needs = Needs(kernel.args)
    steps = plan_steps(kernel, problem, columns, Readers(kernel, sizes, problem, kernel.constraints, needs))
    return _Work(kernel, sizes, problem, frame, steps, needs, columns)


def _promoted(kernel: Kernel, sizes: Sizes) -> _Work:
    """A product with f32 scales: one accumulator, and beside it partial sums of a quarter of the tile."""
    problem, frame = promoted_product(kernel, sizes, SM90A.elements)
    needs = Needs(kernel.args)
    readers = Readers(kernel, sizes, problem, kernel.constraints, needs)
    a, b = promoted_scales(problem, readers)
    steps = promoted_steps(problem, readers)
    return _Work(kernel, sizes, problem, frame, steps, needs, SM90A.tile_n, Promotion(a, b, STEP))


def _parts(work: _Work, case: Case) -> Parts:
    """Into how many parts K is to be split."""
    problem = work.problem
    splittable = problem.groups is None and problem.contracted is None and len(work.steps) == 1
    return parts_asked(case, problem_sizes(problem).values(), splittable=splittable)


def _lower_with(work: _Work, case: Case, required: tuple[Constraint, ...]) -> LoweredKernel:
    kernel, problem, tile, schedule = work.kernel, work.problem, work.tile, case.schedule
    cluster = Cluster(_cluster_m(work, schedule), 1)
    mainloops, maps = plan_mainloops(problem, work.steps, tile, cluster)
    engine = Wgmma(tuple(steps.wide for steps in work.steps), work.slots, SLOT_BYTES)
    factors = () if work.promotion is None else factors_buffer(work.promotion)
    left = SM90A.smem_bytes - plan_smem(mainloops, engine, _least_stages(mainloops), factors).total
    epilogue = plan_epilogue(work.frame, work.sizes, tile.n, min(STAGING_LIMIT, left - ALIGNMENT), schedule)
    asked = _parts(work, case)
    parts = parts_of(asked, work.clocks)
    k_tiles = ceildiv(mainloops[0].products[0].k, mainloops[0].tile_k)
    adds = adds_atomically(schedule)
    split = plan_split(parts, k_tiles, 32 * CONSUMERS, len(problem.accumulators) * tile.n, adds=adds)
    buffers = (*factors, *split_words(split), *epilogue.staging)
    stages = _stages(work, schedule, mainloops, engine, buffers)
    walk = plan_walk(problem, tile, cluster, asked_band(schedule))
    program, split_params = with_parts(epilogue.program, mul(walk.tiles, cluster.size), split)
    walk = over_parts(walk, split)
    maps, groups = (*maps, *epilogue.tensor_maps), group_params(walk, problem)
    lengths = [*product_sizes(problem, walk, program, mainloops), *split_sizes(split)]
    lowered = LoweredKernel(
        name=kernel.name,
        target=SM90A.name,
        kernel=kernel,
        schedule=schedule,
        cluster=cluster,
        walk=walk,
        roles=_roles(mainloops),
        named_barriers=(*epilogue.barriers, OPERAND_BARRIER, *split_barriers(split, "epilogue")),
        smem=plan_smem(mainloops, engine, stages, buffers),
        tensor_maps=maps,
        epilogue=program,
        launch=Launch(
            f"{kernel.name}_0",
            THREADS,
            plan_params(maps, lengths, (*groups, *epilogue.params, *split_params, *work.needs.params())),
            (*lengths, *work.needs.lengths()),
        ),
        constraints=(*required, *not_empty(kernel, epilogue.program, work.sizes)),
        decisions=(),
        when=case.when,
        problem=problem,
        mainloops=mainloops,
        engine=engine,
        promotion=work.promotion,
        clocks=least_clocks(asked, work.clocks),
        split=split,
        tile=tile,
        pipeline=plan_pipeline(mainloops, cluster, stages),
        exchange=exchange(mainloops),
    )
    return replace(lowered, decisions=explain_choices(lowered))


def _roles(mainloops: Sequence[Mainloop]) -> tuple[WarpRole, ...]:
    work = "convert, multiply" if slotted(mainloops) else "multiply"
    epilogue = WarpRole("epilogue", 0, CONSUMERS, f"that {work} and run the epilogue")
    return (epilogue, WarpRole("load", CONSUMERS, 1, "for TMA"))


def _columns(kernel: Kernel, frame: Frame, problem: Problem) -> int:
    """Columns of each accumulator: those of all are at most the tile's, so that a thread has 128 sums.

    Raises DiagnosticError for too many accumulators, and for halves of them that do not take turns within so few.
    """
    slots = len(problem.accumulators)
    most = SM90A.tile_n // LEAST_COLUMNS
    if slots > most:
        raise DiagnosticError([
            error("FP4002", f"{slots} accumulators do not fit in a thread's registers",
                  frame.kernel.values[frame.accumulators[-1]].span, f"accumulator {slots}",
                  notes=[f"on sm_90a a tile has at most {most}, of {LEAST_COLUMNS} columns"],
                  help="write several kernels"),
        ])  # fmt: skip
    found = tile_widths(frame, problem, [n for n in _WIDTHS if slots * n <= SM90A.tile_n])
    if not found:
        unzipped = next(value for value in kernel.values if value.op == "unzip")
        raise refusal(
            unzipped, f"groups of {frame.group} columns, of {slots} accumulators, on {SM90A.name}",
            "use groups of a multiple of 64, or all of a half",
        )  # fmt: skip
    if not whole_panels(frame, found[:1]):
        raise TooNarrow(frame, found[0], "a thread has no registers for wider ones")
    return found[0]


def _cluster_m(work: _Work, schedule: Schedule | None) -> int:
    """CTAs along M that share B: what the block asks for, else one (benchmarks/hopper.md says why)."""
    if schedule is None:
        return 1
    errors, tile = split_refusals(schedule, work.problem, len(work.steps)), work.tile
    cluster = (1, 1)
    for field, values in schedule.fields.items():
        span = schedule.field_spans[field]
        if field == "tile" and values != (tile.m, tile.n, tile.k):
            made = f"{tile.m} x {tile.n} x {tile.k}"
            errors.append(
                error("FP5010", f"sm_90a makes tiles of {made}", span, "another tile", help=f"write `tile {made}`"),
            )  # fmt: skip
        elif field == "cluster":
            cluster = values
            if values not in CLUSTERS:
                errors.append(
                    error("FP5011", "sm_90a takes clusters of 1 x 1 or 2 x 1", span, "another cluster",
                          help="write `cluster 2 x 1`"),
                )  # fmt: skip
    if work.problem.contracted is not None:
        errors += alone(schedule)
    errors += left_to_hopper(schedule, OWN_FIELDS)
    if errors:
        raise DiagnosticError(errors)
    return cast("int", cluster[0])


def _least_stages(mainloops: Sequence[Mainloop]) -> int:
    """Where wgmma reads what TMA has put there, a stage is free only when the next one is being multiplied."""
    return 2 if any(mainloop.direct for mainloop in mainloops) else 1


def _stages(
    work: _Work,
    schedule: Schedule | None,
    mainloops: Sequence[Mainloop],
    engine: Wgmma,
    buffers: Sequence[SmemBuffer],
) -> int:
    """Stages of the ring: those asked for, or as many as fit."""

    def fitting(_: int) -> int:
        fits = SM90A.stages_max
        while fits and plan_smem(mainloops, engine, fits, buffers).total > SM90A.smem_bytes:
            fits -= 1
        return fits

    return choose_stages(work.kernel, schedule, fitting, SM90A.stages_max, least=_least_stages(mainloops))
