"""An `inout` that is read and stored again: what threads have read of it is ordered before TMA stores over it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

#: By engine: the target, arguments beside `inout r : bf16[M, N]`, and what becomes of r.
CASES = {
    "wgmma": ("sm_90a", "in x : bf16[M, K]; in w : bf16[N, K]", "x @ w.T + r"),
    "wgmma_rs": ("sm_90a", "in x : bf16[M, K]; in w : nvfp4[N, K]", "x @ w.T + r"),
    "wgmma_fp8": ("sm_90a", "in x : e4m3[M, K]; in w : e4m3[N, K]", "matmul(x, w.T, accumulate = fast) + r"),
    "none on sm_90a": ("sm_90a", "in x : bf16[M, N]", "x + r"),
    "tcgen05": ("sm_100a", "in x : nvfp4[M, K]; in w : nvfp4[N, K]", "x @ w.T + r"),
    "tcgen05, much else": ("sm_100a", "in x : nvfp4[M, K]; in w : nvfp4[N, K]; in b : bf16[M, N]",
                           "gelu(x @ w.T + r) * b"),
    "none on sm_100a": ("sm_100a", "in x : bf16[M, N]", "x + r"),
}  # fmt: skip
QUICK = ("wgmma_fp8", "none on sm_100a")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in CASES])
def test_what_is_read_is_stored_over(check: Callable[..., None], name: str) -> None:
    target, arguments, result = CASES[name]
    dims = {"M": 130, "N": 136} | ({"K": 160} if "K" in arguments else {})
    check(f"kernel k({', '.join(dims)}) {{ {arguments}; inout r : bf16[M, N]; r = {result} }}", target,
          **dims, order="strict")  # fmt: skip
