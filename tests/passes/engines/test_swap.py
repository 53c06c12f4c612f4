"""Swapped operands: what a schedule block asks for, what the compiler chooses, and that the spec stays what it was."""

from __future__ import annotations

import pytest

from fp4cc.codegen.manifest import manifest
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import Decision, LoweredKernel
from fp4cc.passes import lower
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.passes.rewrites.swap import can_swap, swap_operands
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt.sizes import evaluate

GEMM = "kernel k(M{m}, N{n}, K{k}) {{ in x : nvfp4[M, K]; in w : nvfp4[N, K]; out y : bf16[M, N]; y = x @ w.T }}\n"
BATCHED = (
    "kernel k(L{l}, M{m}, N = 7168, K = 7168) {{ in x : nvfp4[L, M, K]; in w : nvfp4[N, K]; out y : bf16[L, M, N]; "
    "y = x @ w.T }}\n"
)
SUMS = """kernel k(M, N, K, R) {
    in x : bf16[M, K]; in w : bf16[N, K]; in xr : bf16[M, R]; in up : bf16[N, R]; out y : bf16[M, N]
    y = x @ w.T + xr @ up.T
}
"""


def kernel(text: str) -> Kernel:
    return analyze(Source("k.fp4", text)).raise_errors().kernels[0]


def gemm(schedule: str = "", **sizes: int) -> Kernel:
    text = GEMM.format(**{name.lower(): f" = {sizes[name]}" if name in sizes else "" for name in ("M", "N", "K")})
    return kernel(text + (f"schedule k on sm_100a {{ {schedule} }}" if schedule else ""))


def operands(lowered: LoweredKernel) -> Decision | None:
    return next((decision for decision in lowered.decisions if decision.what == "operands"), None)


def test_weights_become_a() -> None:
    plan = lower(gemm("tile 128 x 64 x 256; swap_ab yes"), "sm_100a")
    assert (plan.products.a.arg, plan.products.b.arg) == ("w", "x")
    assert (plan.products.m_axis, plan.products.n_axis) == ("N", "M")
    found = operands(plan)
    assert found is not None
    assert (found.chosen_by, found.chosen[:8]) == ("schedule", "swapped:")


def test_the_manifest_has_the_kernel_of_the_spec() -> None:
    asked, plain = (manifest(lower(gemm(s), "sm_100a"), {}, {}) for s in ("swap_ab yes", "swap_ab no"))
    assert asked.kernel == plain.kernel
    assert asked.constraints == plain.constraints


def test_a_block_that_does_not_ask_has_them_as_written() -> None:
    plans = [lower(gemm(s, M=16, N=28672, K=7168), "sm_100a") for s in ("swap_ab no", "stages 3")]
    assert {plan.products.a.arg for plan in plans} == {"x"}
    assert [operands(plan) for plan in plans] == [None, None]


@pytest.mark.parametrize(("rows", "batches", "a"), [(16, 64, "w"), (1, 64, "w"), (16, 1, "x"), (4096, 64, "x")])
def test_auto_is_what_the_model_finds_faster(rows: int, batches: int, a: str) -> None:
    """Where DRAM bounds a call, or narrow tiles of weights fill the SMs, nothing is gained."""
    of = BATCHED.format(l=f" = {batches}", m=f" = {rows}")
    asked = lower(kernel(of + "schedule k on sm_100a { swap_ab auto }"), "sm_100a")
    assert asked.products.a.arg == a
    assert operands(asked) is not None
    assert lower(kernel(of), "sm_100a").products.a.arg == a


def test_the_table_has_swapped_plans_for_few_rows() -> None:
    """Of weights that batches share, a swapped tile is the fastest in the model at some sizes, and gets its plan."""
    of, sizes = kernel(BATCHED.format(l="", m="")), {"M": 16, "L": 64}
    tcgen05 = next(engine for engine in ENGINES.known if engine.name == "tcgen05")
    times = {c.label: int(evaluate(c.clocks, sizes)) for c in tcgen05.candidates(of, "sm_100a")}
    swapped = min(time for label, time in times.items() if label.startswith("swapped"))
    assert swapped < min(time for label, time in times.items() if not label.startswith("swapped"))
    whole = lower(of, "sm_100a", 6)
    plans = (*whole.variants, whole)
    assert len(plans) <= 6
    taken = next(plan for plan in plans if plan.when is None or evaluate(plan.when, sizes))
    assert taken.products.a.arg == "w"
    assert all(
        not evaluate(p.when, {"M": 33, "L": 64}) for p in plans if p.products.a.arg == "w" and p.when is not None
    )
    assert whole.products.a.arg == "x"


def test_a_sum_of_products_stays_one_accumulator() -> None:
    plan = lower(kernel(SUMS + "schedule k on sm_100a { swap_ab yes }"), "sm_100a")
    assert len(plan.products.accumulators) == 1
    assert [product.a.arg for product in plan.products.products] == ["w", "up"]


def test_swapping_twice_is_nothing_to_the_products() -> None:
    once = swap_operands(gemm())
    twice = swap_operands(once)
    (product,) = (value for value in twice.values if value.op == "matmul")
    assert product.axes == ("M", "N")
    assert can_swap(once)


def test_scales_of_a_tile_of_32_rows_come_by_tma_where_it_is_alone() -> None:
    several = lower(gemm("tile 128 x 32 x 256; swap_ab yes"), "sm_100a")
    alone = lower(gemm("tile 128 x 32 x 256; swap_ab yes", M=32), "sm_100a")
    assert (several.converters is None, alone.converters is None) == (False, True)
