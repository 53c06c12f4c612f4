"""Products with fast sums compiled for Hopper and emulated: equal to the reference where their sums are exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., None]

PLAIN = "in x : e4m3[M, K]; in w : e5m2[N, K]; "
SPECS = {
    "plain": f"kernel k(M, N, K) {{ {PLAIN}out y : f32[M, N]; y = matmul(x, w.T, accumulate = fast) }}",
    "pair": f"kernel k(M, N, K) {{ {PLAIN}out y : f32[M, N]; y = matmul(x, w.T, accumulate = fast) }}\n"
    "schedule k on sm_90a { cluster 2 x 1; stages 2 }",
    "rows": "kernel k(M, N, K) { in x : fp8_token[M, K]; in w : fp8_token[N, K]; out y : bf16[M, N]\n"
    "y = matmul(x, w.T, accumulate = fast) }",
    "blocks": "kernel k(L, M, N, K) { in x : ds_act[L, M, K]; in w : ds_weight[L, N, K]; out y : f32[L, M, N]\n"
    "y = matmul(x, w.T, accumulate = fast) }",
    "blocks in pairs": "kernel k(M, N, K) { in x : ds_act[M, K]; in w : ds_weight[N, K]; out y : f32[M, N]\n"
    "y = matmul(x, w.T, accumulate = fast) }\nschedule k on sm_90a { cluster 2 x 1 }",
    "epilogue": f"kernel k(M, N, K) {{ {PLAIN}in b : f32[N]; in r : bf16[M, N]; in ts : f32[]; out y : bf16[M, N]\n"
    "out q : nvfp4[M, N]; out top : f32[M]; h = relu(matmul(x, w.T, accumulate = fast) + b) + r; y = h\n"
    "q = quantize(h, tensor_scale = ts); top = max(abs(h), over = N) }",
    "groups": "kernel k(E, M, N, K) { in offsets : i32[E + 1]; in x : e4m3[M by offsets, K]; in w : e4m3[E, N, K]\n"
    "out y : f32[M by offsets, N]; y = matmul(x, w.T, accumulate = fast) }",
}
SIZES = [(300, 192, 400), (130, 136, 128), (1, 8, 16), (260, 128, 1168), (5, 128, 0), (0, 8, 128)]


def sized(name: str, m: int, n: int, k: int) -> dict[str, int]:
    dims = {"M": m, "N": n, "K": k}
    if "ds_" in SPECS[name]:
        dims["K"] = -(-k // 128) * 128
    if "q : nvfp4" in SPECS[name]:
        dims["N"] = -(-n // 32) * 32
    return {**dims, **({"L": 2} if "(L" in SPECS[name] else {}), **({"E": 3} if "(E" in SPECS[name] else {})}


def test_rows_and_blocks(check: Check) -> None:
    check(SPECS["plain"], "sm_90a", M=140, N=136, K=272)
    check(SPECS["blocks in pairs"], "sm_90a", M=140, N=128, K=256, sms=2, mode="delayed", seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("name", SPECS)
def test_equals_the_reference(name: str, size: tuple[int, int, int], check: Check) -> None:
    dims = sized(name, *size)
    check(SPECS[name], "sm_90a", sms=2, **dims)
    check(SPECS[name], "sm_90a", sms=2, mode="delayed", seed=1, **dims)
