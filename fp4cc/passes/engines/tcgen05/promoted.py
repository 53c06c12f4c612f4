"""FP8 products with f32 scales on tcgen05: every 128 along K the partial sum is scaled and added in f32.

The tensor core's kind::f8f6f4 has no scales, so each partial product of 128 stays in tensor memory only until the
epilogue warps have read it, multiplied it by the product of its two scales and added it to their registers: what
DeepSeek-V3 does (DeepSeek-AI 2024, section 3.3.2), and exactly the meaning of the formats.
"""

from __future__ import annotations

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Expr, Kernel, Schedule
from fp4cc.ir.lowered import Decision, Exchange, LoweredKernel, NamedBarrier, Promotion, SmemBuffer
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.choice.estimate import Option, Stream, Traffic, clocks_by_parts
from fp4cc.passes.choice.schedule import Request, problem_sizes
from fp4cc.passes.choice.split import asked_split, parts_of
from fp4cc.passes.choice.stages import asked_stages
from fp4cc.passes.engines.tcgen05.legality import Pair
from fp4cc.passes.engines.tcgen05.mainloops import Fit, Shared
from fp4cc.passes.engines.tcgen05.work import Choice, Work
from fp4cc.passes.feeds.promoted_scales import (
    COLUMNS,
    STEP,
    promoted_constraints,
    promoted_product,
    promoted_scales,
)
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.passes.resources.split import explain_split
from fp4cc.targets import Target

ROWS = 128
OPTION = Option(1, COLUMNS, 1, 1)
#: Bytes between rows of sums: 4 floats of padding keep them off each other's banks.
EXCHANGE = Exchange("exchange_smem", 4 * (COLUMNS + 4), between=False)
PARTIAL_SUMS = 2  # in tensor memory
FACTOR_BARRIER = NamedBarrier("FACTOR_BARRIER", 2, "epilogue", "the named barrier of the epilogue warps at each step")


def promoted_work(kernel: Kernel, target: Target) -> Work:
    """The one product, its scales, and the epilogue's frame. Raises DiagnosticError for what cannot be built."""
    sizes, kind = Sizes.of(kernel.dims), target.kind("f8f6f4")
    problem, frame = promoted_product(kernel, sizes, tuple(kind.formats))
    needs = Needs(kernel.args)
    a, b = promoted_scales(problem, Readers(kernel, sizes, problem, kernel.constraints, needs))
    pair = Pair(kind, 0, None, problem.a.format.element, problem.b.format.element)
    required = promoted_constraints(kernel, problem)
    shared = (Shared(problem.products, (pair,)),)
    return Work(kernel, kernel, sizes, problem, frame, shared, required, Promotion(a, b, STEP), needs)


def _clocks(work: Work, parts: int, target: Target) -> Expr:
    """The time with K in so many parts, for `split_k auto`: of loads and MMAs, though the epilogue warps are slower."""
    traffic = Traffic(STEP, Stream(rows=STEP), (Stream(rows=STEP),), STEP // work.shared[0].pair.kind.k, 0.0)
    return clocks_by_parts(OPTION, problem_sizes(work.problem), traffic, target)(parts)


def promoted_choice(work: Work, schedule: Schedule | None, target: Target) -> Choice:
    """A thread keeps 128 sums of a row, so there is one tile. Raises DiagnosticError where another is asked for."""
    _check_schedule(schedule)
    memory = Fit(work.problem, work.shared, target).memory(1, COLUMNS, PARTIAL_SUMS)
    if memory is None:
        raise RuntimeError("two partial sums do not fit in tensor memory")
    request, asked = Request(schedule, stages=asked_stages(schedule)), asked_split(schedule)
    return Choice(request, OPTION, memory, parts=parts_of(asked, lambda parts: _clocks(work, parts, target)))


def promoted_barriers(promotion: Promotion | None) -> tuple[NamedBarrier, ...]:
    """Where the epilogue warps meet for the f32 scales of B's columns, if each has its own."""
    return () if promotion is None or not promotion.b.each_row else (FACTOR_BARRIER,)


def promoted_buffers(promotion: Promotion | None) -> tuple[SmemBuffer, ...]:
    """Where sums cross to the epilogue, and where the f32 scales of B's columns lie for a step, if each has its own."""
    if promotion is None:
        return ()
    exchange = SmemBuffer(
        EXCHANGE.buffer, 0, ROWS * EXCHANGE.pitch, 1, 16, "a tile's sums on their way to the epilogue"
    )
    if not promotion.b.each_row:
        return (exchange,)
    return (exchange, SmemBuffer("b_factors", 0, 4 * COLUMNS, 2, 16, "B's scales of a step, one a column"))


def _check_schedule(schedule: Schedule | None) -> None:
    errors: list[Diagnostic] = []
    for field, values in schedule.fields.items() if schedule else ():
        span = schedule.field_spans[field] if schedule else None
        legal = {"tile": (ROWS, COLUMNS, STEP), "cluster": (1, 1), "cta_group": (1,)}.get(field)
        if span is None or field in ("stages", "swap_ab", "split_k", "reduce") or values == legal:
            continue
        wanted = "leave it out" if legal is None else f"write `{field} {' x '.join(map(str, legal))}`"
        errors.append(
            error("FP5013", f"`{field}` cannot be chosen for FP8 products with f32 scales", span, "asked for here",
                  notes=["the epilogue warps keep 128 sums of a row in registers"], help=wanted),
        )  # fmt: skip
    if errors:
        raise DiagnosticError(errors)


def promoted_decisions(lowered: LoweredKernel) -> tuple[Decision, ...]:
    """The decisions in the order in which they were made."""
    written = lowered.schedule is not None
    tile, smem = lowered.tile, lowered.smem
    return (
        Decision("schedule", "written" if written else "the compiler's own",
                 "its condition holds" if written else "this kernel has no schedule block"),
        Decision("instruction", "tcgen05.mma kind::f8f6f4", "f32 scales are not for block-scaled instructions",
                 ("kind::mxf8f6f4: its scales are e8m0 per 32",), "target"),
        Decision("promotion", f"every {STEP} along K",
                 "what one pair of scales covers: the epilogue warps scale the partial sum and add it in f32"),
        Decision("tile", f"{tile.m} x {tile.n} x {tile.k}", "a thread keeps its row's sums in registers",
                 ("128 x 256 x 128: 256 sums do not fit in a thread's registers",)),
        Decision("stages", str(lowered.rings.stages), f"{smem.total} of {smem.limit} bytes used"),
        *explain_split(lowered),
    )  # fmt: skip
