"""When few rows have a plan of their own on Hopper, what it is like, and how its shape is chosen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import manifest
from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import Decode, LoweredKernel, OneEach
from fp4cc.passes import lower
from fp4cc.passes.engines.decode.lower import decode_candidates
from fp4cc.passes.engines.decode.shape import Shape, choose, clocks
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt.sizes import evaluate

FORMATS = "format lines extends nvfp4 { layout linear }\n"
PRODUCT = "in x : bf16[M, K]; in w : nvfp4[N, K]; out y : bf16[M, N]; y = x @ w.T"


def lowered(body: str = PRODUCT, dims: str = "M, N, K", where: str = "", schedules: str = "") -> LoweredKernel:
    text = f"{FORMATS}kernel k({dims}) {where} {{ {body} }}\n{schedules}"
    return lower(analyze(Source("k.fp4", text), None).raise_errors().kernels[0], "sm_90a")


def engines(plan: LoweredKernel) -> list[str]:
    return [each.engine.name for each in (*plan.variants, plan) if each.engine is not None]


def block(when: str = "", fields: str = "") -> str:
    return f"schedule k on sm_90a {f'when {when} ' if when else ''}{{ {fields} }}\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dims": "M = 16, N, K"}, ["decode"]),
        ({"dims": "M = 17, N, K"}, ["wgmma_rs"]),
        ({}, ["wgmma_rs"]),
        ({"where": "where M <= 16"}, ["decode"]),
        ({"schedules": block("M <= 16")}, ["decode", "wgmma_rs"]),
        ({"schedules": block("M < 17 and N >= 64")}, ["decode", "wgmma_rs"]),
        ({"schedules": block("M <= 8") + block("M <= 16", "stages auto")}, ["decode", "decode", "wgmma_rs"]),
        ({"schedules": block("M <= 17")}, ["wgmma_rs", "wgmma_rs"]),
        ({"schedules": block("N <= 16")}, ["wgmma_rs", "wgmma_rs"]),
        ({"schedules": block("M >= 1")}, ["wgmma_rs", "wgmma_rs"]),
    ],
)
def test_it_is_used_where_rows_are_bounded(options: dict[str, str], expected: list[str]) -> None:
    assert engines(lowered(**options)) == expected


@pytest.mark.parametrize(
    ("fields", "engine"), [("stages 3", "wgmma_rs"), ("cluster 2 x 1", "wgmma"), ("tile 128 x 128 x 64", "wgmma_rs")]
)
def test_what_a_block_asks_for_is_done(fields: str, engine: str) -> None:
    """By the engine that has such things."""
    assert engines(lowered(dims="M = 4, N, K", schedules=block(fields=fields))) == [engine]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("in x : ds_act[M, K]; in w : ds_weight[N, K]; out y : bf16[M, N]; y = x @ w.T", "wgmma"),
        ("in x : fp8_token[M, K]; in w : fp8_token[N, K]; out y : bf16[M, N]; y = x @ w.T", "wgmma"),
        ("in x : bf16[M, K]; in w : fp8_token[N, K]; out y : bf16[M, N]; y = x @ w.T", "decode"),
        ("in x : bf16[M, K]; in w : lines[N, K]; out y : f32[M]; y = sum(x @ w.T, over = N)", "decode"),
        ("in x : bf16[M, K]; out y : bf16[M, K]; y = relu(x)", "none"),
    ],
)
def test_what_is_multiplied(body: str, expected: str) -> None:
    plan = lowered(body, "M = 8, N, K" if "N" in body else "M = 8, K")
    assert (plan.engine.name if plan.engine is not None else "none") == expected


@pytest.mark.parametrize(("rows", "groups"), [(1, 1), (8, 1), (9, 2), (16, 2)])
def test_groups_of_rows(rows: int, groups: int) -> None:
    plan = lowered(dims=f"M = {rows}, N, K")
    engine = plan.engine_as(Decode)
    assert (engine.groups, engine.rows, plan.crossing.buffer) == (groups, 8 * groups, "sums")
    assert f"GROUPS = {groups}" in emit(plan)


def test_a_tile_a_cta() -> None:
    plan = lowered(dims="M = 4, N = 100, K, L", body=PRODUCT.replace("[", "[L, "))
    assert isinstance(plan.walk, OneEach)
    (launch,) = manifest(plan, {}, {}).plan.launches
    assert isinstance(launch.grid, tuple)
    assert [evaluate(size, {"L": 3}) for size in launch.grid] == [12, 1, 1]


def test_static_sizes_that_rows_of_codes_do_not_fit() -> None:
    """Refused as they are for any number of rows."""
    with pytest.raises(DiagnosticError, match="FP4011"):
        lowered(dims="M = 4, N, K = 48")


def test_explain_says_which_engine_and_why() -> None:
    plan = lowered(schedules=block("M <= 16")).variants[0]
    said = {decision.what: decision for decision in plan.decisions}
    assert said["engine"].chosen == "decode"
    assert said["engine"].why.startswith("M <= 16: few rows")
    assert said["operand w"].chosen == "dequantized to bf16 in registers"
    assert said["operand x"].chosen == "loaded into fragments"
    assert lowered(dims="M = 3, N, K").decisions[1].why.startswith("M = 3: few rows")


def problem(n: int, k: int) -> Any:
    return cast("Any", SimpleNamespace(n=n, batch=1, groups=None, accumulators=(0,), products=[SimpleNamespace(k=k)]))


#: Microseconds on an H100 with 4, 8 and 16 warps a CTA, nvfp4 weights and one row (benchmarks/hopper.md).
MEASURED = {
    (8192, 8192): (19.0, 15.5, 19.3),
    (28672, 4096): (27.2, 30.3, 37.4),
    (4096, 14336): (27.8, 17.4, 15.3),
    (7168, 2048): (6.8, 6.2, 9.0),
}


@pytest.mark.parametrize("shape", MEASURED, ids=str)
def test_the_model_of_time_is_the_measured_one(shape: tuple[int, int]) -> None:
    """Within a seventh, and the fastest number of warps is chosen."""
    times = MEASURED[shape]
    for warps, time in zip((4, 8, 16), times, strict=True):
        assert clocks(problem(*shape), Shape(32, 1, warps), 32) / 1755 == pytest.approx(time, rel=1 / 7)
    assert choose(problem(*shape), (32, 64), 32).warps == (4, 8, 16)[times.index(min(times))]


def test_candidates_say_which_calls_they_serve() -> None:
    text = f"{FORMATS}kernel k(M, N, K) {{ {PRODUCT} }}"
    kernel = analyze(Source("k.fp4", text), None).raise_errors().kernels[0]
    found = decode_candidates(kernel, "sm_90a")
    assert [each.within for each in found] == [("le", "M", 8), ("le", "M", 16)]
    assert evaluate(found[0].clocks, {"N": 8192, "K": 8192}) == pytest.approx(15.5 * 1755, rel=1 / 7)
    assert decode_candidates(kernel, "sm_100a") == []


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("dims", ["M, N, K", "M = 4, N, K", "M = 12, N = 96, K = 512"])
def test_any_number_of_accumulators(count: int, dims: str) -> None:
    """Each has 32 columns of a tile, made by warps of their own; K is shared by a power of two of them."""
    args = "; ".join(f"in w{i} : nvfp4[N, K]" for i in range(count))
    value = " * ".join(f"silu(x @ w{i}.T)" for i in range(count))
    text = f"kernel k({dims}) {{ in x : bf16[M, K]; {args}; out y : bf16[M, N]; y = {value} }}"
    plan = lower(analyze(Source("k.fp4", text), None).raise_errors().kernels[0], "sm_90a", 6)
    few = [each for each in (*plan.variants, plan) if each.engine is not None and each.engine.name == "decode"]
    assert few
    for each in few:
        shares = each.engine_as(Decode).shares
        assert shares.bit_count() == 1
        assert each.launch.threads == 32 * count * shares
