"""Plans for an argument that is prepared: what is launched once for it, and who reads what that leaves.

They stand beside a kernel's other plans, which take the argument as it is: a call on a prepared one takes them where
the model finds them faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.kernel import Expr, Kernel
from fp4cc.ir.lowered import Decision, LoweredKernel, Preparation
from fp4cc.ir.sizes import Sizes, ceildiv, fold, mul
from fp4cc.passes.choice.cases import Candidate, Case
from fp4cc.passes.choice.table import served, table
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.passes.engines.rows.lower import Places, lower_rows
from fp4cc.passes.epilogue.blocks import TooNarrow
from fp4cc.passes.rewrites.launches import moved
from fp4cc.passes.rewrites.rows import Rows, in_rows, why_no_rows
from fp4cc.targets import CHIPS
from fp4cc.targets.sm90 import SM90A
from fp4rt.plan import prepared_buffer
from fp4rt.sizes import text

#: What reads rows that were made ready.
_READER = "wgmma_fp8"
#: Plans of it at most: others are near enough to one of them.
_PLANS = 2
#: The most rows that tiles of few rows have.
_FEW = 64
#: Bytes of weights by 32 numbers, as they are and made ready.
_WEIGHTS, _ROWS = 17, 32


def prepared_plans(kernel: Kernel, target: str, others: Sequence[Candidate]) -> tuple[LoweredKernel, ...]:
    """The plans; none for a kernel whose weights cannot be made ready. `others`: those for weights as they are."""
    if target != SM90A.name or why_no_rows(kernel) is not None:
        return ()
    made = in_rows(replace(kernel, schedules=()))
    engine = next(each for each in ENGINES.known if each.name == _READER)
    try:
        found = [each for each in engine.candidates(made.second, target) if each.within is None]
        if not found:
            return ()
        cases: list[Case] = []
        for chosen in table(made.second, CHIPS[target], found, _PLANS):
            faster = _faster(kernel, made, found[chosen.number], others)
            when = faster if chosen.case.when is None else fold("and", chosen.case.when, faster)
            if when is not False and when != 0:
                cases.append(replace(chosen.case, when=None if when is True else when))
        plans = engine.plan(made.second, target, cases)
    except (DiagnosticError, TooNarrow):  # one that takes the weights as they are says what is wrong, if anything is
        return ()
    return tuple(_with_preparation(kernel, made, plan) for plan in plans)


def _faster(kernel: Kernel, made: Rows, candidate: Candidate, others: Sequence[Candidate]) -> Expr:
    """Where the model finds it no slower than all others, reading the weights from DRAM counted.

    Not for rows that fit in a tile of few: there weights as they are were faster (benchmarks/hopper.md).
    """
    sizes, rates = Sizes.of(kernel.dims), SM90A.rates
    numbers = mul(*(sizes(axis.extent) for axis in made.arg.axes))
    clock = int(rates.choice_dram_bytes_per_s / (rates.clock_ghz * 1e9))
    times = [served(each) for each in others]
    natural = times[0] if len(times) == 1 else fold("min", *times)
    faster = fold(
        "le",
        fold("max", candidate.clocks, ceildiv(numbers, clock)),
        fold("max", natural, ceildiv(mul(numbers, _WEIGHTS), _ROWS * clock)),
    )
    product = next(value for value in made.second.values if value.op == "matmul")
    rows = next(axis.extent for arg in made.second.args for axis in arg.axes if axis.name == product.axes[-2])
    return fold("and", fold("gt", sizes(rows), _FEW), faster)


def _with_preparation(kernel: Kernel, made: Rows, plan: LoweredKernel) -> LoweredKernel:
    """The plan reading rows and factors from the buffer of the prepared argument, and what fills that."""
    sizes, buffer = Sizes.of(kernel.dims), prepared_buffer(made.arg.name)
    places = Places.of(made, sizes)
    at = {
        name: (buffer, place)
        for name, place in (
            (made.rows.name, places.rows),
            (made.factors.name, places.factors),
            (buffer, places.unfit),
        )
    }
    launch = moved(lower_rows(made, buffer), at)
    preparation = Preparation(made.arg.name, places.end, places.unfit, launch)
    plan = moved(plan, {name: place for name, place in at.items() if name != buffer})
    why = (
        f"made once by `kernel.prepare({made.arg.name}=...)`: {text(places.end)} bytes beside the natural ones, "
        f"which this plan does not read; a call on {made.arg.name} as it is takes another plan"
    )
    decision = Decision(
        f"operand {made.arg.name}", "prepared: rows of e5m2 with a factor each", why,
        ("as it is: e2m1 becomes e5m2 or bf16 in registers, in each tile again",),
    )  # fmt: skip
    return replace(
        plan,
        decisions=(*plan.decisions, decision),
        preparation=preparation,
        role=f"For {made.arg.name} that is prepared.",
    )
