"""Products that say `accumulate = fast`, on Hopper: which are multiplied as FP8, and which are not and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import LoweredKernel, Wgmma
from fp4cc.ir.verify_wgmma import wgmma_problems
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

FAST = "y = matmul(x, w.T, accumulate = fast)"


def kernel(x: str, w: str, body: str = FAST, more: str = "", out: str = "f32[M, N]") -> Kernel:
    text = f"kernel k(M, N, K, F = N / 2) {{ in x : {x}[M, K]; in w : {w}[N, K]; {more}out y : {out}; {body} }}"
    return analyze(Source("k.fp4", text), None).raise_errors().kernels[0]


def lowered(*args: str, **more: str) -> LoweredKernel:
    return lower(kernel(*args, **more), "sm_90a")


@pytest.mark.parametrize(("x", "w", "elements", "promoted"), [
    ("e4m3", "e4m3", "e4m3.e4m3", False),
    ("e5m2", "e4m3", "e5m2.e4m3", False),
    ("fp8_token", "fp8_token", "e4m3.e4m3", False),
    ("e4m3", "fp8_token", "e4m3.e4m3", False),
    ("ds_act", "ds_weight", "e4m3.e4m3", True),
    ("fp8_token", "ds_weight", "e4m3.e4m3", True),
])  # fmt: skip
def test_multiplied_as_fp8(x: str, w: str, elements: str, promoted: bool) -> None:
    plan = lowered(x, w)
    assert plan.engine_as(Wgmma).fp8
    assert plan.tile.k == 128
    assert (plan.promotion is not None) == promoted
    assert f'"{elements}"' in emit(plan)
    assert list(wgmma_problems(plan)) == []


@pytest.mark.parametrize(("x", "w", "body", "why"), [
    ("mxfp8", "mxfp8", FAST, "block scales"),
    ("ds_act", "ds_act", FAST, "each column and step"),
    ("e4m3", "e4m3", "y = matmul(x, w.T, accumulate = fast) * (x @ w.T)", "f32"),
    ("e4m3", "e4m3", f"{FAST} * matmul(v, w.T, accumulate = fast)", "several products"),
])  # fmt: skip
def test_sums_of_f32_and_why(x: str, w: str, body: str, why: str) -> None:
    plan = lowered(x, w, body, more="in v : e4m3[M, K]; " if "v" in body else "")
    assert not plan.engine_as(Wgmma).fp8
    (decision,) = [each for each in plan.decisions if each.what == "accumulate"]
    assert why in decision.why


def test_only_where_the_kernel_says_so() -> None:
    for body in ("y = x @ w.T", "y = matmul(x, w.T)", "y = matmul(x, w.T, accumulate = f32)"):
        assert not lowered("e4m3", "e4m3", body).engine_as(Wgmma).fp8


def test_matmul_is_the_product() -> None:
    written, named = (kernel("nvfp4", "nvfp4", body) for body in ("y = x @ w.T", "y = matmul(x, w.T)"))
    assert [replace(v, span=None) for v in written.values] == [replace(v, span=None) for v in named.values]  # type: ignore[arg-type]


def test_blackwell_takes_it_as_it_is() -> None:
    plain, fast = (emit(lower(kernel("e4m3", "e4m3", body), "sm_100a")) for body in ("y = x @ w.T", FAST))
    assert plain.replace("x @ w.T", "matmul(x, w.T, accumulate = fast)") == fast


def test_broken_plans_are_named() -> None:
    plan = lowered("e4m3", "e4m3")
    (loop,) = plan.mainloops
    shallow = replace(plan, mainloops=(replace(loop, tile_k=64),))
    assert any("every 128" in problem for problem in wgmma_problems(shallow))
    product = loop.products[0]
    wide = replace(product, b=replace(product.b, dtype="bf16"))
    assert any("bf16" in p for p in wgmma_problems(replace(plan, mainloops=(replace(loop, products=(wide,)),))))
