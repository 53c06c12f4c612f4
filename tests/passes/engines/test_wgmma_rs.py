"""What is decided for weights in registers: which kernels, how scales come, who stores, and what holds of a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import LoweredKernel, WgmmaRS
from fp4cc.ir.verify_lowered import problems
from fp4cc.passes import lower
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.sema import analyze
from fp4cc.source import Source

FORMATS = """
format lines   extends nvfp4 { layout linear }
format squares extends nvfp4 { scale e4m3 per 16 x 16 }
format wide    extends mxfp4 { scale e8m0 per 1 x 96 }
"""
TWO = "in a : bf16[M, K]; in b : {}[N, K]; in d : {}[N, K]; out c : f32[M, N]; c = (a @ b.T) * (a @ d.T)"


def lowered(body: str, schedule: str = "", dims: str = "M, N, K") -> LoweredKernel:
    tail = f"schedule k on sm_90a {{ {schedule} }}" if schedule else ""
    text = f"{FORMATS}kernel k({dims}) {{ {body} }}\n{tail}"
    return lower(analyze(Source("k.fp4", text), None).raise_errors().kernels[0], "sm_90a")


def product(a: str, b: str, out: str = "bf16", schedule: str = "", dims: str = "M, N, K") -> LoweredKernel:
    return lowered(f"in a : {a}[M, K]; in b : {b}[N, K]; out c : {out}[M, N]; c = a @ b.T", schedule, dims)


@pytest.mark.parametrize(
    ("a", "b", "taken"),
    [("bf16", "nvfp4", True), ("f16", "nvfp4", True), ("bf16", "mxfp6", True), ("f16", "e5m2", True),
     ("bf16", "fp8_token", True), ("nvfp4", "nvfp4", False), ("nvfp4", "bf16", False), ("bf16", "bf16", False),
     ("e4m3", "mxfp4", False), ("ds_act", "ds_weight", False)],
)  # fmt: skip
def test_what_it_takes(a: str, b: str, taken: bool) -> None:
    assert isinstance(product(a, b).engine, WgmmaRS) == taken


@pytest.mark.parametrize(
    ("body", "schedule"),
    [
        (TWO.format("nvfp4", "mxfp4"), ""),
        ("in a : bf16[M, K]; in x : bf16[M, K]; in b : nvfp4[N, K]; out c : f32[M, N]; c = (a @ b.T) * (x @ b.T)", ""),
        ("in a : bf16[M, K]; in b : nvfp4[N, K]; out c : f32[M, N]; c = a @ b.T", "cluster 2 x 1"),
    ],
)
def test_what_it_leaves_to_others(body: str, schedule: str) -> None:
    engine = lowered(body, schedule).engine
    assert engine is not None and engine.name == "wgmma"


@pytest.mark.parametrize(
    ("a", "b", "schedule", "code"),
    [
        ("nvfp4", "nvfp4", "tile 256 x 128 x 64", "FP4290"),
        ("bf16", "bf16", "tile 256 x 128 x 64", "FP4291"),
        ("f16", "mxfp4", "tile 256 x 128 x 64", "FP4292"),
        ("bf16", "mxfp8", "tile 256 x 128 x 64", "FP4292"),
        ("bf16", "wide", "tile 256 x 128 x 64", "FP4293"),
        ("bf16", "nvfp4", "tile 256 x 64 x 64", "FP5010"),
        ("bf16", "nvfp4", "tile 256 x 128 x 64; cluster 2 x 1", "FP5090"),
        ("bf16", "nvfp4", "tile 256 x 128 x 64; stages 9", "FP5012"),
        ("bf16", "nvfp4", "tile 64 x 64 x 64; stages 3", "FP5012"),
        ("bf16", "nvfp4", "tile 256 x 128 x 64; swap_ab yes", "FP5013"),
    ],
)
def test_refusals(a: str, b: str, schedule: str, code: str) -> None:
    with pytest.raises(DiagnosticError) as refused:
        product(a, b, schedule=schedule)
    assert {d.code for d in refused.value.diagnostics} == {code}


@pytest.mark.parametrize(("b", "layout"), [("nvfp4", None), ("lines", "linear"), ("squares", "blocked_128x4")])
def test_scales(b: str, layout: str | None) -> None:
    """In TMA's atoms, or words by their layout."""
    plan = product("bf16", b)
    (weights,) = plan.engine_as(WgmmaRS).weights
    assert weights.scales is not None and (weights.scales.reader is None) == (layout is None)
    assert ("b_scales" in [load.tensor_map for load in plan.loads]) == (layout is None)


def test_scales_of_a_stage_in_one_load() -> None:
    """Where a row's scales are known to be whole words a lane loads four at once."""
    widths = []
    for dims in ("M, N, K", "M, N, K = 512"):
        scales = product("bf16", "lines", dims=dims).engine_as(WgmmaRS).like.scales
        assert scales is not None and scales.reader is not None
        widths.append(scales.reader.width)
    assert widths == [1, 4]


@pytest.mark.parametrize(
    ("body", "stores"),
    [
        ("out c : bf16[M, N]; c = a @ b.T", True),
        ("in s : f32[]; out c : f16[M, N]; c = relu(a @ b.T * s)", True),
        ("out c : f32[M, N]; c = a @ b.T", False),
        ("in v : bf16[N]; out c : bf16[M, N]; c = a @ b.T + v", False),
        ("out c : bf16[N, M]; c = (a @ b.T).T", False),
        ("out c : bf16[M, N]; out t : f32[]; c = a @ b.T; t = max(abs(a @ b.T), over = (M, N))", False),
        ("in s : f32[]; out c : nvfp4[M, N]; c = quantize(a @ b.T, tensor_scale = s)", False),
    ],
)
def test_who_stores(body: str, stores: bool) -> None:
    """The warps that multiply, from their registers; or those of the epilogue, under the next tile's mainloop."""
    plan = lowered(f"in a : bf16[M, K]; in b : nvfp4[N, K]; {body}")
    assert plan.engine_as(WgmmaRS).stores == stores == (plan.exchange is None)
    assert [role.name for role in plan.roles] == [*([] if stores else ["epilogue"]), "mma", "load"]
    assert sum(count for _, count in plan.launch.registers) == (504 if stores else 512)
    assert plan.rings.stages >= 3


@pytest.mark.parametrize(
    ("m", "n", "k", "tile"),
    [
        ("M", "N", "K", (256, 128)),
        (64, 8192, 8192, (64, 64)),
        (64, 28672, 4096, (64, 64)),
        (64, 4096, 14336, (64, 64)),
        (64, 7168, 2048, (64, 64)),
        (128, 8192, 8192, (128, 64)),
        (256, 8192, 8192, (128, 128)),
        (1024, 8192, 8192, (256, 128)),
        (128, 28672, 4096, (128, 128)),
        (256, 28672, 4096, (256, 128)),
        (256, 4096, 14336, (128, 64)),
        (1024, 4096, 14336, (256, 128)),
        (128, 7168, 2048, (128, 64)),
        (256, 7168, 2048, (128, 128)),
        (4096, 7168, 2048, (256, 128)),
    ],
)
def test_the_tile_is_the_fastest_measured(
    monkeypatch: pytest.MonkeyPatch, m: int | str, n: int | str, k: int | str, tile: tuple[int, int]
) -> None:
    """Those of benchmarks/hopper.md."""
    monkeypatch.setattr("fp4cc.passes.choice.split.PARTS", (1, 1))  # what was measured is without a split
    sizes = zip("MNK", (m, n, k), strict=True)
    dims = ", ".join(name if name == size else f"{name} = {size}" for name, size in sizes)
    plan = product("bf16", "nvfp4", dims=dims)
    assert (plan.tile.m, plan.tile.n) == tile


@pytest.mark.parametrize(("count", "columns"), [(1, 128), (2, 64), (3, 32), (4, 32)])
def test_accumulators_share_the_weight_rows(count: int, columns: int) -> None:
    names = [f"b{i}" for i in range(count)]
    args = "; ".join(f"in {name} : nvfp4[N, K]" for name in names)
    value = " * ".join(f"(a @ {name}.T)" for name in names)
    plan = lowered(f"in a : bf16[M, K]; {args}; out c : f32[M, N]; c = {value}")
    weights = plan.engine_as(WgmmaRS).weights
    assert [(each.first, each.rows) for each in weights] == [(columns * i, columns) for i in range(count)]
    assert plan.tile.n == columns


def test_broken_plans_are_found() -> None:
    plan = lowered(TWO.format("nvfp4", "nvfp4"))
    assert list(problems(plan)) == []
    engine = plan.engine_as(WgmmaRS)
    first, second = engine.weights
    rings = {ring.name: ring for ring in plan.rings.barriers}
    early = replace(rings["acc_full"], arrivals=4)
    broken = {
        "weight rows": replace(plan, engine=replace(engine, weights=(first, replace(second, first=32)))),
        "the engine stores results": replace(plan, engine=replace(engine, stores=True)),
        "acc_full waits for 4 arrivals": replace(
            plan, pipeline=replace(plan.rings, barriers=(*(r for n, r in rings.items() if n != "acc_full"), early))
        ),
        "setmaxnreg": replace(plan, roles=(*plan.roles[:-1], replace(plan.roles[-1], warps=1))),
    }
    for what, each in broken.items():
        assert any(what in text for text in problems(each)), what


FAST = "c = matmul(a, b.T, accumulate = fast)"


def fast(a: str, b: str, schedule: str = "", when: str = "", out: str = "f32[M, N]", c: str = FAST) -> LoweredKernel:
    lines = "format nines extends mxfp4 { scale e8m0 per 1 x 16 }\n"
    text = f"{FORMATS}{lines}kernel k(M, N, K) {{ in a : {a}[M, K]; in b : {b}[N, K]; out c : {out}; {c} }}\n"
    text += f"schedule k on sm_90a{when} {{ {schedule} }}" if schedule else ""
    return lower(analyze(Source("k.fp4", text), None).raise_errors().kernels[0], "sm_90a")


@pytest.mark.parametrize(("a", "b", "c", "taken"), [
    ("e4m3", "mxfp4", FAST, True), ("fp8_token", "mxfp4", FAST, True), ("e5m2", "mxfp4", FAST, True),
    ("e4m3", "nines", FAST, False), ("mxfp8", "mxfp4", FAST, False),
    ("fp8_token", "mxfp4", "c = a @ b.T", False),
])  # fmt: skip
def test_weights_that_become_fp8(a: str, b: str, c: str, taken: bool) -> None:
    plan = fast(a, b, c=c)
    assert isinstance(plan.engine, WgmmaRS) == taken
    if taken:
        assert plan.engine_as(WgmmaRS).fast
        assert not plan.engine_as(WgmmaRS).stores
        assert list(problems(plan)) == []
        assert any(each.what == "scales" and "27 powers" in each.why for each in plan.decisions)


def test_tiles_of_fp8() -> None:
    few = fast("fp8_token", "mxfp4", "tile 64 x 64 x 128", " when M <= 64").variants
    plans = [*few, fast("e4m3", "mxfp4"), fast("e4m3", "mxfp4", "tile 128 x 64 x 128")]
    engines = [plan.engine_as(WgmmaRS) for plan in plans]
    assert [(engine.rows, engine.turns, engine.ordered, engine.step_stages) for engine in engines] == [
        (64, True, False, 2), (128, False, True, 1), (128, True, False, 2)
    ]  # fmt: skip
    assert all(plan.tile.m == 128 for plan in plans)
    with pytest.raises(DiagnosticError, match="FP5010.* at most 64 rows"):
        fast("e4m3", "mxfp4", "tile 64 x 64 x 128")
    with pytest.raises(DiagnosticError, match="FP5010"):
        fast("e4m3", "mxfp4", "tile 256 x 128 x 64")


def test_broken_plans_of_fp8_are_found() -> None:
    plan = fast("e4m3", "mxfp4")
    engine, (loop,) = plan.engine_as(WgmmaRS), plan.mainloops
    (weights,) = engine.weights
    assert weights.scales is not None
    broken = {
        "multiplied as FP8": replace(engine, weights=(replace(weights, scales=replace(weights.scales, block=64)),)),
        "is not 1 stages": engine,
        "are multiplied": replace(engine, rows=256),
    }
    for what, each in broken.items():
        loops = (replace(loop, tile_k=64),) if each is engine else (loop,)
        assert any(what in text for text in problems(replace(plan, engine=each, mainloops=loops))), what


def test_an_engine_fewer() -> None:
    with ENGINES.without("wgmma_rs"):
        engine = product("bf16", "nvfp4").engine
        assert engine is not None and engine.name == "wgmma"
    assert isinstance(product("bf16", "nvfp4").engine, WgmmaRS)
    with pytest.raises(LookupError, match="no engine"), ENGINES.without("another"):
        pass
