"""Products with fast sums compiled for Hopper and emulated: equal to the reference where their sums are exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fp4rt

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
FEW = {
    "16 x 64": (16, "blocks", ""),
    "16 x 32": (16, "plain", "; stages 2"),
    "64 x 64": (64, "epilogue", ""),
    "64 x 32": (64, "blocks", "; split_k 2"),
    "128 x 64": (300, "rows", "; split_k 3"),
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


def of_tile(tile: str) -> tuple[str, dict[str, int]]:
    """A spec with a tile, and sizes that fill it up but for a row."""
    most, name, more = FEW[tile]
    block = f"schedule k on sm_90a when M <= {most} {{ tile {tile} x 128{more} }}"
    return f"{SPECS[name]}\n{block}", sized(name, most - 1, 72, 704)


def varied(m: int, n: int, k: int, seed: int) -> dict[str, fp4rt.Quantized]:
    """Operands of 0, 1 and -1, of which every sum is exact, with scales of other powers of two in each row and step."""
    numbers = np.random.default_rng(seed)

    def operand(rows: int, fmt: str, tall: int) -> fp4rt.Quantized:
        codes = numbers.choice(np.array([0x00, 0x38, 0xB8], np.uint8), (rows, k))
        scales = np.exp2(-numbers.integers(0, 6, (-(-rows // tall), k // 128))).astype(np.float32)
        return fp4rt.Quantized.from_parts(codes, scales.ravel(), None, fmt, (rows, k))

    return {"x": operand(m, "ds_act", 1), "w": operand(n, "ds_weight", 128)}


@pytest.mark.parametrize(("m", "tile"), [
    (16, "16 x 64"),
    pytest.param(130, "128 x 128", marks=pytest.mark.slow),
    pytest.param(64, "64 x 32", marks=pytest.mark.slow),
])  # fmt: skip
def test_each_step_has_its_factors(m: int, tile: str, compiler: Any) -> None:
    """More steps than are loaded together, by parts of K that start within such a group."""
    block = f"schedule k on sm_90a when M <= {m} {{ tile {tile} x 128; split_k 2 }}"
    artifact = compiler.artifact(f"{SPECS['blocks in pairs'].split(chr(10) + 'schedule')[0]}\n{block}", "sm_90a")
    inputs = varied(m - 1, 140, 128 * 11, seed=m)
    found, expected = (artifact.load_kernel(device)(**inputs)["y"] for device in ("emulator", "reference"))
    assert np.array_equal(found, expected)
    assert np.unique(expected).size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("tile", FEW)
def test_each_tile(tile: str, check: Check) -> None:
    text, dims = of_tile(tile)
    for seed, few in ((1, dims), (2, {**dims, "M": 1}), (3, {**dims, "M": 0}), (4, {**dims, "K": 0})):
        check(text, "sm_90a", sms=2, order="strict", mode="delayed", seed=seed, **few)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("name", SPECS)
def test_equals_the_reference(name: str, size: tuple[int, int, int], check: Check) -> None:
    dims = sized(name, *size)
    check(SPECS[name], "sm_90a", sms=2, **dims)
    check(SPECS[name], "sm_90a", sms=2, mode="delayed", seed=1, **dims)
