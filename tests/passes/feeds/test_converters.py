"""How operands arrive: what `explain` says of each, how converter warps share the work, and what that may cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fp4cc.ir.lowered import Decision, LoweredKernel, Tcgen05
from fp4cc.ir.lowered_converters import Dequantized
from fp4cc.passes.feeds.converters import stage_clocks

Lower = Callable[..., LoweredKernel]

LINEAR = "format linear extends nvfp4 { layout linear }\nformat tall extends nvfp4 { scale e4m3 per 16 x 16 }\n"
LINEAR += "format fine8 { element e4m3; scale e4m3 per 1 x 32; layout linear; quantizer nvfp4_ct }\n"


def gemm(x: str, w: str, fields: str = "", where: str = "") -> str:
    args = f"in x : {x}[M, K]; in w : {w}[N, K]; out y : bf16[M, N]"
    tail = f"schedule k on sm_100a {{ {fields} }}\n" if fields else ""
    return f"{LINEAR}kernel k(M, N, K) {where} {{ {args}; y = x @ w.T }}\n{tail}"


def arrival(lowered: LoweredKernel, arg: str) -> Decision:
    return next(decision for decision in lowered.decisions if decision.what == f"operand {arg}")


def test_native_scales_come_by_tma(lower_text: Lower) -> None:
    lowered = lower_text(gemm("nvfp4", "nvfp4"))
    assert lowered.converters is None
    assert {arrival(lowered, arg).chosen for arg in "xw"} == {"codes and scales by TMA"}


def test_scales_of_another_layout_are_relaid(lower_text: Lower) -> None:
    decision = arrival(lower_text(gemm("nvfp4", "linear", "tile 128 x 128 x 256")), "w")
    assert decision.chosen == "codes by TMA, scales re-laid by 4 warps"
    assert "layout linear" in decision.why
    assert "2048 bytes a stage come by loads of 2 bytes" in decision.why  # K % 32 == 0 is required anyway
    assert "codes and scales by TMA, shared in a cluster: with `layout blocked_128x4`" in decision.alternatives
    assert "loads of 16 bytes: `where K % 256 == 0`" in decision.alternatives
    static = lower_text(gemm("nvfp4", "linear", "tile 128 x 128 x 256"), K=512)
    assert "loads of 16 bytes" in arrival(static, "w").why
    assert "one a row" in arrival(lower_text(gemm("nvfp4", "tall")), "w").why


@pytest.mark.parametrize(
    ("x", "w", "to", "rate"),
    [
        ("bf16", "nvfp4", "bf16", "a quarter of the rate of kind::mxf4nvf4"),
        ("f16", "linear", "f16", "a quarter of the rate of kind::mxf4nvf4"),
        ("e4m3", "nvfp4", "f16", "a quarter of the rate of kind::mxf4nvf4"),
        ("e4m3", "mxfp4", "bf16", "a quarter of the rate of kind::mxf4"),
        ("bf16", "mxfp6_e3m2", "bf16", "half the rate of kind::mxf8f6f4"),
    ],
)
def test_what_is_dequantized_says_what_that_costs(lower_text: Lower, x: str, w: str, to: str, rate: str) -> None:
    lowered = lower_text(gemm(x, w))
    decision = arrival(lowered, "w")
    assert decision.chosen.startswith(f"dequantized to {to} by ")
    assert rate in decision.why
    assert decision.alternatives == (f"{rate.split()[-1]}: with `x` in {w} too",)
    assert lowered.engine_as(Tcgen05).mma.kind == "f16"
    assert (lowered.engine_as(Tcgen05).mma.a, lowered.engine_as(Tcgen05).mma.b) == (to, to)
    assert arrival(lowered, "x").chosen.startswith("converted" if x == "e4m3" else "by TMA")


@pytest.mark.parametrize("columns", [64, 128, 192, 256])
@pytest.mark.parametrize("rows", [128, 256])
@pytest.mark.parametrize(("x", "w"), [("bf16", "nvfp4"), ("e4m3", "fine8"), ("bf16", "mxfp6")])
def test_warps_share_the_work(lower_text: Lower, x: str, w: str, rows: int, columns: int) -> None:
    """Whole units for each warp of a team, few words for each lane, and no more teams than slots."""
    lowered = lower_text(gemm(x, w, f"tile {rows} x {columns} x 64; cluster 2 x 1"))
    converters, (mainloop,) = lowered.converters, lowered.mainloops
    assert converters is not None
    assert 1 <= converters.teams <= lowered.rings.stages
    assert converters.warps <= 8
    words = 0
    for conversion in mainloop.conversions:
        assert isinstance(conversion, Dequantized)
        assert conversion.units % converters.members == 0
        words += conversion.units // converters.members * (conversion.unit_words + 1)
    assert words <= 80
    buffers = {load.buffer for load in mainloop.loads} | {conversion.buffer for conversion in mainloop.conversions}
    assert buffers == {"a_smem", "b_smem"}


def test_each_k_has_the_multiple_that_loads_need(lower_text: Lower) -> None:
    wanted = {
        ("bf16", "nvfp4"): 32,
        ("e4m3", "e4m3"): 16,
        ("bf16", "e5m2"): 16,
        ("bf16", "bf16"): 8,
        ("bf16", "mxfp6"): 16,
    }
    for (x, w), multiple in wanted.items():
        assert f"K % {multiple} == 0" in {c.text for c in lower_text(gemm(x, w)).constraints}


def test_wider_loads_and_f16_are_cheaper(lower_text: Lower) -> None:
    def clocks(x: str, w: str, where: str = "") -> float:
        (mainloop,) = lower_text(gemm(x, w, "tile 128 x 128 x " + ("256" if x == "nvfp4" else "64"), where)).mainloops
        return sum(map(stage_clocks, mainloop.conversions))

    assert clocks("nvfp4", "linear", "where K % 256 == 0") < clocks("nvfp4", "linear") / 4
    assert clocks("f16", "nvfp4") < clocks("bf16", "nvfp4")
