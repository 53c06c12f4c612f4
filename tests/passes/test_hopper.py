"""What is decided for Hopper: how operands and scales come, which products share loads, and what is said of it."""

from __future__ import annotations

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.ir.lowered_wgmma import LoweredWgmma
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

FORMATS = """
format lines   extends nvfp4 { layout linear }
format squares extends nvfp4 { scale e4m3 per 16 x 16 }
format steps   extends mxfp8 { scale e8m0 per 1 x 64 }
"""


def lowered(body: str, dims: str = "M, N, K") -> LoweredWgmma:
    text = f"{FORMATS}kernel k({dims}) {{ {body} }}"
    kernel = analyze(Source("k.fp4", text), None).raise_errors().kernels[0]
    plan = lower(kernel, "sm_90a")
    assert isinstance(plan, LoweredWgmma)
    assert plan.smem.total <= plan.smem.limit
    return plan


def product(a: str, b: str) -> LoweredWgmma:
    return lowered(f"in a : {a}[M, K]; in b : {b}[N, K]; out c : bf16[M, N]; c = a @ b.T")


def decisions(plan: LoweredWgmma) -> dict[str, str]:
    return {decision.what: decision.chosen for decision in plan.decisions}


@pytest.mark.parametrize(
    ("a", "b", "wide", "ways"),
    [
        ("bf16", "nvfp4", "bf16", ("read by wgmma where TMA puts it", "dequantized to bf16 by the threads")),
        ("f16", "e4m3", "f16", ("read by wgmma where TMA puts it", "converted to f16 by the threads")),
        ("e5m2", "mxfp6", "bf16", ("converted to bf16 by the threads", "dequantized to bf16 by the threads")),
    ],
)
def test_operands(a: str, b: str, wide: str, ways: tuple[str, str]) -> None:
    plan = product(a, b)
    said = decisions(plan)
    assert (said["operand a"], said["operand b"]) == ways
    assert said["instruction"] == f"wgmma.mma_async m64n128k16, {wide}"
    assert f'TILE_N, "{wide}", a_part, b_part' in emit(plan)


@pytest.mark.parametrize(
    ("name", "via"), [("nvfp4", "atoms"), ("lines", "layout"), ("squares", "layout"), ("steps", "layout")]
)
def test_scales(name: str, via: str) -> None:
    plan = product("bf16", name)
    (loop,) = plan.loops
    scales = loop.bs[0].scales
    assert scales is not None and scales.via == via
    loaded = [load.tensor_map for load in loop.loads]
    assert ("b_scales" in loaded) == (via == "atoms")
    assert (f"by layout {scales.layout.name}, a step ahead" in plan.decisions[3].why) == (via == "layout")


@pytest.mark.parametrize(
    ("value", "columns", "mainloops"),
    [
        ("a @ b.T", 128, None),
        ("(a @ b.T) * (a @ d.T)", 64, "a by b and d"),
        ("(a @ b.T) * (x @ d.T)", 64, "a by b; then x by d"),
        ("x @ b.T + x @ d.T", 128, "x by b; then x by d"),  # a slot has room for one B of 128 rows
        ("(a @ b.T) * (a @ d.T) * (x @ b.T)", 32, "a by b and d; then x by b"),
    ],
)
def test_products(value: str, columns: int, mainloops: str | None) -> None:
    formats = {"a": "nvfp4[M, K]", "x": "mxfp4[M, K]", "b": "mxfp4[N, K]", "d": "mxfp4[N, K]"}
    used = [name for name in formats if f"{name} @" in value or f"{name}.T" in value]
    plan = lowered("; ".join(f"in {name} : {formats[name]}" for name in used) + f"; out c : f32[M, N]; c = {value}")
    assert plan.columns == columns
    assert decisions(plan)["tile"] == f"128 x {columns} x 64"
    assert decisions(plan).get("mainloops") == mainloops


def test_halves_that_are_loaded_apart() -> None:
    """Of groups of 128 a tile has 64 columns of each half: two Bs of one argument, whose map is shared."""
    body = (
        "in a : bf16[M, K]; in b : nvfp4[N, K]; out c : f32[M, F]; g, u = unzip(a @ b.T, N -> F, group = {}); c = g * u"
    )
    narrow, wide = (lowered(body.format(group), "M, N, K, F = N / 2") for group in (64, 128))
    assert (len(narrow.loops[0].bs), narrow.columns, narrow.tile.n) == (1, 128, 128)
    assert (len(wide.loops[0].bs), wide.columns, wide.tile.n) == (2, 64, 128)
    assert [m.name for m in wide.tensor_maps if m.source == "b.codes"] == ["b_codes"]


def test_f32_scales_are_promoted() -> None:
    plan = product("ds_act", "ds_weight")
    assert decisions(plan)["promotion"] == "every 128 along K"
    assert plan.loops[0].tile_k == 128
    assert product("mxfp8", "mxfp8").promoted is None
