"""Gated activations: the product's columns unzipped into two halves."""

from __future__ import annotations

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.passes import lower

from .pipeline import build, parse, run

SWIGLU = """
kernel swiglu_up(M, N, K, F = N / 2) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in b : f32[F]; in r : bf16[M, F]; in ts : f32[]; in rows : f32[M]
    out y : bf16[M, F]; out q : nvfp4[M, F]; out qt : mxfp8[F, M]
    g, u = unzip(rows * (x @ w.T), N -> F, group = GROUP)
    h = silu(g) * u + b
    y = h + r
    q = quantize(h, tensor_scale = ts)
    qt = quantize(h.T)
}
"""


@pytest.mark.parametrize("group", [1, 16, 64])
def test_swiglu(group: int) -> None:
    built = build(SWIGLU.replace("GROUP", str(group)))
    assert "silu(mul(rows, mul(product1, scale)))" in built.python
    for dims in ({"M": 160, "N": 384, "K": 64}, {"M": 32, "N": 1152, "K": 32}):
        for comparison in run(built, dims):
            assert comparison.equal, f"{dims}: {comparison}"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("GROUP", "F"), "halves that lie apart"),
        (("GROUP", "48"), "groups of 48"),
        (("rows * (x @ w.T), N -> F, group = GROUP)", "x @ w.T + c, N -> F)"), "of c, which is no product"),
    ],
)
def test_refusals(change: tuple[str, str], reason: str) -> None:
    text = SWIGLU.replace(*change).replace("in b : f32[F]", "in b : f32[F]; in c : f32[N]")
    with pytest.raises(DiagnosticError) as caught:
        lower(parse(text), "sm_100a")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "FP4020"
    assert reason in diagnostic.title


def test_a_tile_holds_whole_groups() -> None:
    text = SWIGLU.replace("GROUP", "64") + "schedule swiglu_up on sm_100a { tile 128 x 64 x 256 }\n"
    with pytest.raises(DiagnosticError) as caught:
        lower(parse(text), "sm_100a")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "FP5010"
    assert "128, 256" in str(diagnostic.help)
