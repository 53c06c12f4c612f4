"""FP8 products with f32 scales: every block shape, residues, batches, delays, equal to the reference."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from fp4cc.diagnostics import DiagnosticError

Check = Callable[..., None]


def gemm(a: str, b: str, out: str = "f32", lead: str = "", body: str = "a @ b.T", extra: str = "") -> str:
    args = f"in a : {a}[{lead}M, K]; in b : {b}[{lead}N, K]; out c : {out}[{lead}M, N]{extra}"
    return f"kernel gemm({lead}M, N, K) {{ {args}; c = {body} }}\n"


BLOCKS = ("ds_act", "ds_weight", "fp8_token")
#: Each block shape on either side, and no shape that steps along K.
SOME = {("ds_act", "ds_weight"), ("ds_weight", "fp8_token"), ("fp8_token", "ds_act"), ("fp8_token", "fp8_token")}


@pytest.mark.parametrize(
    ("a", "b"),
    [pytest.param(*pair, marks=[] if pair in SOME else [pytest.mark.slow]) for pair in product(BLOCKS, BLOCKS)],
)
def test_scale_blocks(check: Check, a: str, b: str) -> None:
    check(gemm(a, b), M=200, N=136, K=384)


@pytest.mark.parametrize("mode", [pytest.param("immediate", marks=pytest.mark.slow), "delayed"])
def test_delays_and_many_tiles_a_cta(check: Check, mode: str) -> None:
    check(gemm("ds_act", "ds_act", "bf16"), mode=mode, sms=2, M=300, N=264, K=512)


@pytest.mark.parametrize("shape", [(1, 1, 128), (129, 7, 256), (5, 128, 0), (0, 8, 128)])
def test_residues(check: Check, shape: tuple[int, int, int]) -> None:
    check(gemm("ds_act", "ds_weight"), **dict(zip("MNK", shape, strict=True)))


def test_batches_and_an_epilogue(check: Check) -> None:
    text = gemm(
        "ds_act", "ds_weight", "bf16", "L, ", "relu(a @ b.T + bias) * s", "; in bias : bf16[N]; in s : f32[L, M]"
    )
    check(text, L=3, M=70, N=72, K=256)


def unzipped(a: str, b: str, group: int) -> str:
    args = f"in a : {a}[M, K]; in b : {b}[N, K]; out c : bf16[M, F]"
    body = f"g, u = unzip(a @ b.T, N -> F, group = {group}); c = swiglu(g, u)"
    return f"kernel up(M, N, K, F = N / 2) {{ {args}; {body} }}\n"


@pytest.mark.parametrize(("b", "group"), [("ds_act", 2), ("ds_weight", 64)])
def test_unzip(check: Check, b: str, group: int) -> None:
    check(unzipped("ds_act", b, group), M=140, N=384, K=256)


@pytest.mark.slow
@pytest.mark.parametrize("b", ["ds_act", "ds_weight", "fp8_token"])
@pytest.mark.parametrize("group", [1, 4, 8, 16, 32])
def test_unzip_of_other_groups(check: Check, b: str, group: int) -> None:
    check(unzipped("ds_act", b, group), M=140, N=384, K=256, sms=2, mode="delayed", seed=group)


def test_groups_wider_than_half_a_tile_are_refused(compiler: object) -> None:
    with pytest.raises(DiagnosticError, match=r"FP4020.*other groups than"):
        compiler.lowered(unzipped("ds_act", "ds_weight", 128))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("out", "target"),
    [
        pytest.param(out, target, marks=[] if quick else [pytest.mark.slow])
        for out, quick_target in (("ds_act", "sm_100a"), ("ds_weight", "sm_90a"), ("nvfp4", "sm_100a"))
        for target, quick in (("sm_100a", quick_target == "sm_100a"), ("sm_90a", quick_target == "sm_90a"))
    ],
)
def test_quantized_output_for_the_next_layer(check: Check, out: str, target: str) -> None:
    """Blocks as wide as the tile: it is walked twice, to measure and to store."""
    a, b = ("ds_act", "ds_weight") if target == "sm_100a" else ("mxfp8", "mxfp8")
    given = "; in s : f32[]" if out == "nvfp4" else ""
    body = "quantize(a @ b.T, tensor_scale = s)" if given else "quantize(a @ b.T)"
    check(gemm(a, b, out, body=body, extra=given), target, M=130, N=256, K=256)


def test_other_scale_blocks_are_refused(compiler: object) -> None:
    text = "format odd extends ds_act { scale f32 per 1 x 64 }\n" + gemm("odd", "ds_weight")
    with pytest.raises(DiagnosticError, match="FP4202"):
        compiler.lowered(text)  # type: ignore[attr-defined]


def test_scales_in_any_layout(check: Check) -> None:
    """Scales are read where their layout has them, with batches next to each other and atoms that rows share."""
    head = (
        "layout odd { coords row : 6, k : 3; atom ((2, 3), 3) : ((9, 3), 1); order k, batch, row; pad 255 }\n"
        "layout across { coords batch : 2, row : 4; atom (2, 4) : (1, 2); order batch, k, row; pad 3 }\n"
        "format act extends ds_act { layout odd }\nformat weight extends ds_weight { layout across }\n"
        "format token extends fp8_token { layout across }\n"
    )
    check(head + gemm("act", "weight", lead="L, "), L=3, M=130, N=136, K=256)
    check(head + gemm("token", "act", lead="L, "), L=3, M=130, N=136, K=256)
