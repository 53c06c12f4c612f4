"""What is decided for Hopper: how operands and scales come, which products share loads, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.ir.lowered import Converted, LoweredKernel, Wgmma
from fp4cc.passes import lower
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.sema import analyze
from fp4cc.source import Source

FORMATS = """
format lines   extends nvfp4 { layout linear }
format squares extends nvfp4 { scale e4m3 per 16 x 16 }
format steps   extends mxfp6 { scale e8m0 per 1 x 64 }
"""


@pytest.fixture(autouse=True)
def _one_engine() -> Iterator[None]:
    """Products of plain operands by weights too, which are another engine's else."""
    with ENGINES.without("wgmma_rs"):
        yield


def lowered(body: str, dims: str = "M, N, K", where: str = "") -> LoweredKernel:
    text = f"{FORMATS}kernel k({dims}) {where} {{ {body} }}"
    kernel = analyze(Source("k.fp4", text), None).raise_errors().kernels[0]
    plan = lower(kernel, "sm_90a")
    assert plan.smem.total <= plan.smem.limit
    return plan


def product(a: str, b: str) -> LoweredKernel:
    return lowered(f"in a : {a}[M, K]; in b : {b}[N, K]; out c : bf16[M, N]; c = a @ b.T")


def converted(plan: LoweredKernel) -> list[Converted]:
    """What threads convert in the first mainloop."""
    feeds = plan.mainloops[0].slotted
    assert all(isinstance(feed, Converted) for feed in feeds)
    return [feed for feed in feeds if isinstance(feed, Converted)]


def decisions(plan: LoweredKernel) -> dict[str, str]:
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
    ("a", "b", "names", "direct"),
    [
        ("bf16", "nvfp4", ["b"], True),
        ("mxfp8", "nvfp4", ["a", "b"], False),
        ("bf16", "bf16", [], True),
        ("ds_act", "ds_weight", ["a", "b"], False),
    ],
)
def test_conversions_are_feeds_of_a_mainloop(a: str, b: str, names: list[str], direct: bool) -> None:
    """From a stage, which TMA fills, to a slot; the engine says only which type it multiplies."""
    plan = product(a, b)
    (mainloop,) = plan.mainloops
    feeds = converted(plan)
    assert [feed.part.name for feed in feeds] == names
    assert {(feed.by, feed.into, feed.to) for feed in feeds} <= {("epilogue", "slot", "bf16")}
    assert {feed.part for feed in feeds} <= {load.part for load in mainloop.loads}
    assert (mainloop.direct, plan.engine_as(Wgmma).wides) == (direct, ("bf16",))


@pytest.mark.parametrize(
    ("name", "layout"),
    [("nvfp4", None), ("lines", "linear"), ("squares", "blocked_128x4"), ("steps", "blocked_128x4")],
)
def test_scales(name: str, layout: str | None) -> None:
    """In TMA's atoms, or each by its layout."""
    plan = product("bf16", name)
    (feed,) = converted(plan)
    scales = feed.scales
    assert scales is not None and (scales.reader is None) == (layout is None)
    loaded = [load.tensor_map for load in plan.mainloops[0].loads]
    assert ("b_scales" in loaded) == (layout is None)
    assert (f"by layout {layout}, a step ahead" in plan.decisions[3].why) == (layout is not None)


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
    assert plan.tile.n == columns
    assert decisions(plan)["tile"] == f"128 x {columns} x 64"
    assert decisions(plan).get("mainloops") == mainloops


@pytest.mark.parametrize(
    ("group", "columns", "bs"),
    [("32", 128, 1), ("64", 128, 1), ("128", 64, 2), ("64 * 3", 64, 2), ("F", 64, 2)],
)
def test_halves(group: str, columns: int, bs: int) -> None:
    """Interleaved in a tile's columns; of wider groups a tile has 64 columns of each half, whose map is shared."""
    body = f"in a : bf16[M, K]; in b : nvfp4[N, K]; out c : f32[M, F]; g, u = unzip(a @ b.T, N -> F, group = {group})"
    plan = lowered(f"{body}; c = g * u", "M, N, K, F = N / 2")
    assert (len(plan.mainloops[0].products), plan.tile.n) == (bs, columns)
    assert [m.name for m in plan.tensor_maps if m.source == "b.codes"] == ["b_codes"]


def test_halves_that_may_start_in_the_middle_of_an_atom() -> None:
    """Where nothing says that the second half starts on an atom of 128 rows, threads read its scales."""
    body = "in a : bf16[M, K]; in b : nvfp4[N, K]; out c : f32[M, F]; g, u = unzip(a @ b.T, N -> F, group = F)"
    body = f"{body}; c = g * u"
    anywhere = lowered(body, "M, N, K, F = N / 2")
    aligned = lowered(body, "M, N, K, F = N / 2", "where F % 64 == 0")
    for plan, expected in ((anywhere, [False, True]), (aligned, [False, False])):
        assert [feed.scale_reader is not None for feed in converted(plan)] == expected


def test_halves_of_several_accumulators() -> None:
    body = "in a : bf16[M, K]; in b : nvfp4[N, K]; in d : nvfp4[N, K]; out c : f32[M, F]"
    dims = "M, N, K, F = N / 2"
    value = "g, u = unzip((a @ b.T) * (a @ d.T), N -> F, group = {}); c = g * u"
    narrow, wide = (lowered(f"{body}; {value.format(group)}", dims) for group in (32, 64))
    assert (narrow.tile.n, len(narrow.products.accumulators), narrow.epilogue.group) == (64, 2, 32)
    assert (wide.tile.n, len(wide.products.accumulators), wide.epilogue.group) == (32, 4, None)


def test_f32_scales_are_promoted() -> None:
    plan = product("ds_act", "ds_weight")
    assert decisions(plan)["promotion"] == "every 128 along K"
    assert plan.mainloops[0].tile_k == 128
    assert product("mxfp8", "mxfp8").promotion is None
