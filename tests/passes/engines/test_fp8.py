"""Products that say `accumulate = fast`, on Hopper: which are multiplied as FP8, and which are not and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import LoweredKernel, WgmmaFp8
from fp4cc.ir.verify_wgmma_fp8 import wgmma_fp8_problems
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4cc.targets import SM90A
from fp4rt.sizes import evaluate

FAST = "y = matmul(x, w.T, accumulate = fast)"


def kernel(x: str, w: str, body: str = FAST, more: str = "", out: str = "f32[M, N]", dims: str = "M, N, K") -> Kernel:
    text = f"kernel k({dims}, F = N / 2) {{ in x : {x}[M, K]; in w : {w}[N, K]; {more}out y : {out}; {body} }}"
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
    assert isinstance(plan.engine, WgmmaFp8)
    assert plan.tile.k == 128
    assert (plan.promotion is not None) == promoted
    assert f'"{elements}"' in emit(plan)
    assert list(wgmma_fp8_problems(plan)) == []


@pytest.mark.parametrize(("x", "w", "body", "why"), [
    ("mxfp8", "mxfp8", FAST, "block scales"),
    ("ds_act", "ds_act", FAST, "each column and step"),
    ("e4m3", "e4m3", "y = matmul(x, w.T, accumulate = fast) * (x @ w.T)", "f32"),
    ("e4m3", "e4m3", f"{FAST} * matmul(v, w.T, accumulate = fast)", "several products"),
])  # fmt: skip
def test_sums_of_f32_and_why(x: str, w: str, body: str, why: str) -> None:
    plan = lowered(x, w, body, more="in v : e4m3[M, K]; " if "v" in body else "")
    assert plan.engine is not None and plan.engine.name == "wgmma"
    (decision,) = [each for each in plan.decisions if each.what == "accumulate"]
    assert why in decision.why


def test_only_where_the_kernel_says_so() -> None:
    for body in ("y = x @ w.T", "y = matmul(x, w.T)", "y = matmul(x, w.T, accumulate = f32)"):
        assert not isinstance(lowered("e4m3", "e4m3", body).engine, WgmmaFp8)


def test_matmul_is_the_product() -> None:
    written, named = (kernel("nvfp4", "nvfp4", body) for body in ("y = x @ w.T", "y = matmul(x, w.T)"))
    assert [replace(v, span=None) for v in written.values] == [replace(v, span=None) for v in named.values]  # type: ignore[arg-type]


def test_blackwell_takes_it_as_it_is() -> None:
    plain, fast = (emit(lower(kernel("e4m3", "e4m3", body), "sm_100a")) for body in ("y = x @ w.T", FAST))
    assert plain.replace("x @ w.T", "matmul(x, w.T, accumulate = fast)") == fast


def test_broken_plans_are_named() -> None:
    plan = lowered("e4m3", "e4m3")
    (loop,) = plan.mainloops
    product = loop.products[0]
    wide = replace(product, b=replace(product.b, dtype="bf16"))
    ring = plan.rings.barriers[0]
    for broken, word in (
        (replace(plan, mainloops=(replace(loop, tile_k=64),)), "every 128"),
        (replace(plan, mainloops=(replace(loop, products=(wide,)),)), "bf16"),
        (replace(plan, engine=WgmmaFp8(16)), "rows of A are read"),
        (replace(plan, engine=WgmmaFp8(64), cluster=replace(plan.cluster, m=2)), "more than 64 rows"),
        (replace(plan, tile=replace(plan.tile, n=12)), "12 columns"),
        (replace(plan, roles=(replace(plan.roles[0], warps=3), *plan.roles[1:])), "part of one"),
        (replace(plan, pipeline=replace(plan.rings, barriers=(replace(ring, arrivals=2), *plan.rings.barriers[1:]))),
         "2 arrivals"),
    ):  # fmt: skip
        assert any(word in problem for problem in wgmma_fp8_problems(broken)), word


def test_warpgroups_take_turns_where_they_only_add() -> None:
    """With factors they are faster without turns (benchmarks/hopper.md), and few rows wait for memory."""
    assert lowered("e4m3", "e4m3").engine_as(WgmmaFp8).ordered
    assert not lowered("ds_act", "ds_weight").engine_as(WgmmaFp8).ordered
    few = lowered("ds_act", "ds_weight", dims="M = 16, N, K")
    assert few.engine_as(WgmmaFp8) == WgmmaFp8(16)
    assert not [barrier for barrier in few.named_barriers if barrier.name.startswith("ORDER")]


# Tiles.


def plans(dims: str, schedules: str = "", x: str = "e4m3", w: str = "e4m3") -> list[LoweredKernel]:
    text = f"kernel k({dims}) {{ in x : {x}[M, K]; in w : {w}[N, K]; out y : f32[M, N]; {FAST} }}\n{schedules}"
    found = lower(analyze(Source("k.fp4", text), None).raise_errors().kernels[0], "sm_90a", 6)
    return [*found.variants, found]


def tile_for(found: list[LoweredKernel], **dims: int) -> tuple[int, int]:
    """Rows and columns of the tile that a call takes."""
    plan = next(each for each in found if each.when is None or evaluate(each.when, dims))
    return plan.engine_as(WgmmaFp8).rows, plan.tile.n


@pytest.mark.parametrize(("n", "k", "few", "middle"), [
    (8192, 8192, (64, 64), (128, 64)),
    (28672, 4096, (64, 64), (128, 128)),
    (4096, 14336, (64, 32), (128, 64)),
    (7168, 2048, (64, 64), (128, 64)),
])  # fmt: skip
def test_few_rows_have_tiles_of_their_own(
    monkeypatch: pytest.MonkeyPatch, n: int, k: int, few: tuple[int, int], middle: tuple[int, int]
) -> None:
    """What was the fastest of all tiles on an H100 (benchmarks/hopper.md), and nobody has written down."""
    monkeypatch.setattr("fp4cc.passes.choice.split.PARTS", (1, 1))  # what was measured is without a split
    found = plans(f"M, N = {n}, K = {k}", x="ds_act", w="ds_weight")
    assert tile_for(found, M=16)[0] == 16
    assert tile_for(found, M=64) == few
    assert tile_for(found, M=128) == middle
    assert tile_for(found, M=1024) == tile_for(found, M=8192) == (128, 128)
    assert all(plan.cluster.size == 1 for plan in found)


def test_a_tile_of_few_rows_is_only_for_so_few() -> None:
    """Whatever the other dims are: where three are open, plans are told apart by their times."""
    found = plans("M, N, K", x="ds_act", w="ds_weight")
    for m in (1, 15, 16, 17, 63, 64, 65, 4096):
        for n, k in ((64, 128), (8192, 8192), (132 * 64, 128), (28672, 4096)):
            assert tile_for(found, M=m, N=n, K=k)[0] >= min(m, 128)


@pytest.mark.parametrize(("block", "rows", "columns", "cluster"), [
    ("tile 128 x 64 x 128", 128, 64, 1),
    ("tile 128 x 128 x 128; cluster 2 x 1", 128, 128, 2),
    ("cluster 2 x 1", 128, 128, 2),
    ("tile 128 x 128 x 128; stages 3", 128, 128, 1),
])  # fmt: skip
def test_what_a_block_asks_for(block: str, rows: int, columns: int, cluster: int) -> None:
    (plan,) = plans("M, N = 256, K", f"schedule k on sm_90a {{ {block} }}")
    assert (plan.engine_as(WgmmaFp8).rows, plan.tile.n, plan.cluster.m) == (rows, columns, cluster)
    assert plan.rings.stages == (3 if "stages" in block else plan.rings.stages)


@pytest.mark.parametrize(("when", "tile"), [(16, "16 x 64"), (16, "16 x 32"), (64, "64 x 64"), (64, "64 x 32")])
def test_tiles_of_few_rows_where_a_condition_bounds_them(when: int, tile: str) -> None:
    plan = plans("M, N, K", f"schedule k on sm_90a when M <= {when} {{ tile {tile} x 128 }}")[0]
    rows, columns = (int(side) for side in tile.split(" x "))
    assert (plan.engine_as(WgmmaFp8).rows, plan.tile.n, plan.tile.m) == (rows, columns, 128)
    assert list(wgmma_fp8_problems(plan)) == []
    assert f"m64n{columns // 2}k32" in next(each.chosen for each in plan.decisions if each.what == "instruction")


@pytest.mark.parametrize(("block", "code", "said"), [
    ("{ tile 128 x 96 x 128 }", "FP5010", "128 x 128 x 128"),
    ("{ tile 16 x 64 x 128 }", "FP5010", "at most 16 rows"),
    ("when M <= 17 { tile 16 x 64 x 128 }", "FP5010", "at most 16 rows"),
    ("when M <= 64 { tile 64 x 64 x 128; cluster 2 x 1 }", "FP5011", "tiles of 128 rows"),
    ("{ cluster 1 x 2 }", "FP5011", "1 x 1 or 2 x 1"),
    ("{ accumulators 2 }", "FP5013", "`accumulators`"),
    ("{ stages 9 }", "FP5012", "9 stages"),
    ("{ split_k 17 }", "FP4030", "17 parts"),
])  # fmt: skip
def test_what_a_block_may_not_ask_for(block: str, code: str, said: str) -> None:
    with pytest.raises(DiagnosticError) as raised:
        plans("M, N, K", f"schedule k on sm_90a {block}")
    (found,) = raised.value.diagnostics
    assert found.code == code
    assert said in found.title


MEASURED = [
    (4096, 14336, 128, 64, 30.2),
    (4096, 14336, 64, 32, 26.4),
    (8192, 8192, 1024, 128, 112.4),
    (7168, 2048, 4096, 128, 107.0),
    (28672, 4096, 1024, 128, 214.0),
]


@pytest.mark.parametrize(("n", "k", "m", "columns", "microseconds"), MEASURED)
def test_measured_times_are_near_the_model(
    monkeypatch: pytest.MonkeyPatch, n: int, k: int, m: int, columns: int, microseconds: float
) -> None:
    """Times of benchmarks/hopper.md where memory is not the limit."""
    monkeypatch.setattr("fp4cc.passes.choice.split.PARTS", (1, 1))  # what was measured is without a split
    found = plans(f"M, N = {n}, K = {k}")
    plan = next(each for each in found if each.when is None or evaluate(each.when, {"M": m}))
    assert plan.clocks is not None
    assert plan.tile.n == columns
    assert int(evaluate(plan.clocks, {"M": m})) / (SM90A.rates.clock_ghz * 1e3) == pytest.approx(microseconds, rel=0.2)
