"""FP8 products with f32 scales on Hopper: converted to bf16, partial sums of 128 along K scaled and added in f32."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., None]

#: `four`: elements of four bits leave more of an exact sum to their scales than those of eight do.
LAYOUTS = """
layout turned { coords row : 32, k : 2; atom ((8, 4), 2) : ((2, 16), 1); order row, k, batch; pad 3 }
format turned_act    extends ds_act    { layout turned }
format turned_weight extends ds_weight { layout turned }
"""
FORMATS = LAYOUTS + "format four extends fp8_token { element e2m1 pack low_first; scale f32 per 1 x 128 }\n"
NAMES = ["ds_act", "ds_weight", "fp8_token", "four"]


def gemm(a: str, b: str, out: str = "f32", body: str = "a @ b.T", more: str = "", lead: str = "") -> str:
    args = f"in a : {a}[{lead}M, K]; in b : {b}[{lead}N, K]; out c : {out}[{lead}M, N]{more}"
    return f"{FORMATS}kernel gemm({lead}M, N, K) {{ {args}; c = {body} }}\n"


def test_the_next_layers_activations(check: Check) -> None:
    """DeepSeek's linear layer; its blocks are as wide as a tile, which is walked twice."""
    check(gemm("ds_act", "ds_weight", "ds_act", "quantize(a @ b.T)"), "sm_90a", M=140, N=128, K=256)


def test_a_scale_for_each_column_and_delays(check: Check) -> None:
    text = gemm("ds_act", "four", "bf16") + "schedule gemm on sm_90a { cluster 2 x 1; stages 1 }\n"
    check(text, "sm_90a", mode="delayed", sms=2, M=200, N=72, K=256)


@pytest.mark.parametrize("target", ["sm_90a", pytest.param("sm_100a", marks=pytest.mark.slow)])
def test_scales_in_another_layout(check: Check, target: str) -> None:
    check(gemm("turned_act", "turned_weight", lead="L, "), target, L=2, M=140, N=264, K=384)
    check(gemm("ds_act", "turned_act"), target, M=40, N=72, K=256)


@pytest.mark.parametrize(("a", "b"), [("fp8_token", "bf16"), ("bf16", "fp8_token")])
def test_one_scale_a_row_beside_a_plain_operand(check: Check, a: str, b: str) -> None:
    """The scales multiply what has been summed, so nothing is promoted."""
    check(gemm(a, b, "bf16"), "sm_90a", M=140, N=72, K=96)


@pytest.mark.slow
@pytest.mark.parametrize("b", NAMES)
@pytest.mark.parametrize("a", NAMES)
def test_scale_blocks(check: Check, a: str, b: str) -> None:
    check(gemm(a, b), "sm_90a", M=300, N=264, K=512, sms=2)
    check(gemm(a, b), "sm_90a", M=130, N=136, K=384, sms=2, mode="delayed", seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 128), (129, 7, 256), (5, 128, 0), (0, 8, 128)], ids=str)
def test_residues(check: Check, shape: tuple[int, int, int]) -> None:
    check(gemm("ds_act", "ds_weight"), "sm_90a", **dict(zip("MNK", shape, strict=True)))
    check(gemm("fp8_token", "fp8_token"), "sm_90a", M=shape[0], N=shape[1], K=shape[2] // 2 + 16)


@pytest.mark.slow
def test_batches_and_an_epilogue(check: Check) -> None:
    more = "; in bias : bf16[N]; in s : f32[L, M]"
    check(gemm("ds_act", "ds_act", "bf16", "relu(a @ b.T + bias) * s", more, "L, "), "sm_90a", L=3, M=70, N=72, K=256)


@pytest.mark.slow
@pytest.mark.parametrize("b", ["ds_act", "ds_weight"])
@pytest.mark.parametrize("group", [1, 16, 64])
def test_unzip(check: Check, group: int, b: str) -> None:
    args = f"in a : ds_act[M, K]; in b : {b}[N, K]; out c : bf16[M, F]"
    body = f"g, u = unzip(a @ b.T, N -> F, group = {group}); c = swiglu(g, u)"
    check(f"kernel up(M, N, K, F = N / 2) {{ {args}; {body} }}", "sm_90a", M=140, N=384, K=256)


@pytest.mark.slow
@pytest.mark.parametrize("out", ["ds_weight", "nvfp4", "mxfp8"])
def test_quantized_outputs(check: Check, out: str) -> None:
    more, given = ("; in s : f32[]", ", tensor_scale = s") if out == "nvfp4" else ("", "")
    check(gemm("ds_act", "ds_weight", out, f"quantize(a @ b.T{given})", more), "sm_90a", M=130, N=256, K=256)
