"""Names that a spec may use though an emitted kernel calls its own things so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., None]

#: Arguments called like what belongs to another argument, or to the kernel.
GEMM = """
kernel gemm(M, N, K) {
    in a : nvfp4[M, K]; in b : nvfp4[N, K]; in q_amax : f32[]
    in a_scale : f32[M]; in b_scale : f32[N]; in q_scales : f32[M]; in q_codes : f32[M, N]; in ab : bf16[M, N]
    inout acc : f32[M, N]; out q : nvfp4[M, N]; out qt : mxfp8[N, M]; out a_scale_ptr : f32[]; out row : f32[M]
    q_words = (a @ b.T) * a_scale
    q_scale = q_words * b_scale + q_scales
    q_line = q_scale + q_codes + ab
    acc = q_line + 0.5 * acc
    q_amaxes = 0.25 * q_line
    q = quantize(q_amaxes, amax = q_amax)
    qt = quantize(q_amaxes.T)
    a_scale_ptr = max(abs(q_line), over = all)
    row = sum(q_line, over = N)
}
"""
#: The same where the operands are not `a` and `b`, and two launches.
OTHERS = """
kernel stage(M, N, K) {
    in x : mxfp4[M, K]; in x_codes : mxfp4[N, K]; in tmem : f32[N]; in tile : f32[M, N]
    out a : fp8_token[M, N]; out b : f32[N]; out a_values : bf16[M, N]; out a_amax : f32[M]
    a_scale = x @ x_codes.T + tmem
    a_factor = a_scale + tile
    a = quantize(a_factor)
    b = max(a_factor, over = M)
    a_values = a_factor
    a_amax = mean(a_factor, over = N)
}
"""
ELEMENTS = """
kernel block(M, N) {
    in store : bf16[M, N]; in store_slot : bf16[M]; in store_slot_columns : bf16[N]
    out store_words : mxfp4[M, N]; out store_words_scales : mxfp8[N, M]; out total : f32[]
    x = store * store_slot + store_slot_columns
    store_words_factor = relu(x)
    store_words = quantize(x)
    store_words_scales = quantize(store_words_factor.T)
    total = sum(x, over = all)
}
"""


@pytest.mark.parametrize(
    ("text", "target"),
    [
        pytest.param(text, target, id=f"{name}-{target}", marks=[] if quick == target else [pytest.mark.slow])
        for name, text, quick in (
            ("gemm", GEMM, "sm_100a"),
            ("others", OTHERS, "sm_90a"),
            ("elements", ELEMENTS, "sm_100a"),
        )
        for target in ("sm_100a", "sm_90a")
    ],
)
def test_names(check: Check, text: str, target: str) -> None:
    check(text, target, M=160, N=128, **({"K": 96} if "K)" in text else {}))


@pytest.mark.parametrize("target", [pytest.param("sm_100a", marks=pytest.mark.slow), "sm_90a"])
def test_promoted(check: Check, target: str) -> None:
    """FP8 with f32 scales: the operands' factors are called after the two sides."""
    text = """kernel place(M, N, K) {
        in b : ds_act[M, K]; in a : ds_weight[N, K]; in a_factors : f32[M]; in b_address : f32[N]
        out acc : bf16[M, N]; out partial : f32[M]; out acc_tiles : ds_act[M, N]
        a_factor = (b @ a.T) * a_factors + b_address
        acc = a_factor
        partial = max(a_factor, over = N)
        acc_tiles = quantize(a_factor)
    }"""
    check(text, target, M=24, N=128, K=128)
