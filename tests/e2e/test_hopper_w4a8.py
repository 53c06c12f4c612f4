"""FP8 activations by mxfp4 weights with fast sums, compiled for Hopper and emulated: equal to the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fp4rt
from fp4cc.ir.lowered import WgmmaRS

Check = Callable[..., None]

FAST = "matmul(x, w.T, accumulate = fast)"
LINEAR = "format lines extends mxfp4 { layout linear }\n"
SPECS = {
    "tokens": f"kernel k(M, N, K) {{ in x : fp8_token[M, K]; in w : mxfp4[N, K]; out y : f32[M, N]; y = {FAST} }}",
    "plain": f"kernel k(M, N, K) {{ in x : e5m2[M, K]; in w : mxfp4[N, K]; out y : bf16[M, N]; y = relu({FAST}) }}",
    "lines": f"{LINEAR}kernel k(M, N, K) {{ in x : e4m3[M, K]; in w : lines[N, K]; out y : f32[M, N]; y = {FAST} }}",
    "experts": "kernel k(L, M, N, K) { in x : fp8_token[L, M, K]; in w : mxfp4[L, N, K]; in bias : bf16[L, N]\n"
    f"out y : bf16[L, M, N]; out q : mxfp8[L, M, N]; h = gelu({FAST} + bias); y = h; q = quantize(h) }}",
    "gated": "kernel k(M, N, K, F = N / 2) { in x : fp8_token[M, K]; in w : mxfp4[N, K]; out y : bf16[M, F]\n"
    f"g, u = unzip({FAST}, N -> F, group = 1); y = silu(g) * u }}",
    "two": "kernel k(M, N, K) { in x : fp8_token[M, K]; in w : mxfp4[N, K]; in v : mxfp4[N, K]; out y : f32[M, N]\n"
    f"y = {FAST} * matmul(x, v.T, accumulate = fast) }}",
}
TILES = {
    "128 x 128": "",
    "128 x 64": "",
    "64 x 64": " when M <= 64",
    "128 x 128 x 128; split_k 2": "",
    "64 x 64 x 128; split_k 3": " when M <= 64",
    "128 x 64 x 128; stages 4": "",
}


def tiled(name: str, tile: str) -> str:
    whole = tile if ";" in tile else f"{tile} x 128"
    return f"{SPECS[name]}\nschedule k on sm_90a{TILES[tile]} {{ tile {whole} }}"


def sized(name: str, m: int, n: int, k: int) -> dict[str, int]:
    more = {"L": 2} if "(L" in SPECS[name] else {}
    return {"M": m, "N": -(-n // 32) * 32 if "q : " in SPECS[name] else n, "K": k, **more}


def selecting(m: int, n: int, k: int, seed: int, spread: tuple[int, int]) -> dict[str, fp4rt.Quantized]:
    """Each row of x has one block of 32 of K, so that a sum has one scale of w, and is exact whatever the others are.

    Scales of w lie anywhere between two codes; some blocks are zeros, those of the first step half of them.
    """
    numbers = np.random.default_rng(seed)
    blocks = k // 32
    x = np.zeros((m, blocks, 32), np.uint8)
    x[np.arange(m), np.arange(m) % blocks] = numbers.choice(np.array([0x38, 0xB8, 0x00], np.uint8), (m, 32))
    codes = numbers.integers(0, 16, (n, blocks, 32), np.uint8)
    codes[numbers.random((n, blocks)) < 0.25] = 0
    codes[::2, :4] = 0
    scales = numbers.integers(spread[0], spread[1] + 1, (n, blocks), np.uint8)
    codes = codes.reshape(n, k)
    packed = codes[:, ::2] | codes[:, 1::2] << 4
    ones = np.ones(m, np.float32)
    return {
        "x": fp4rt.Quantized.from_parts(x.reshape(m, k), ones, None, "fp8_token", (m, k)),
        "w": fp4rt.Quantized.from_parts(packed, scales, None, "mxfp4", (n, k), layout="linear"),
    }


ONCE = {
    "tokens": "in x : fp8_token[M, K]; in w : nvfp4[N, K]; out y : f32[M, N]; y = x @ w.T",
    "plain": "in x : e5m2[M, K]; in w : mxfp4[N, K]; in b : bf16[N]; out y : bf16[M, N]; y = gelu(x @ w.T + b)",
    "fast": f"in x : fp8_token[L, M, K]; in w : mxfp4[N, K]; out y : f32[L, M, N]; y = {FAST}",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ONCE)
def test_activations_that_become_bf16_once_a_call(name: str, check: Check) -> None:
    """Their elements as they are; a scale of a row stays a factor of the sums."""
    dims = "L, M, N, K" if "[L" in ONCE[name] else "M, N, K"
    text = f"kernel k({dims}) {{ {ONCE[name]} }}\nschedule k on sm_90a {{ convert once }}"
    more = {"L": 2} if "[L" in ONCE[name] else {}
    for m, n, k in ((150, 136, 416), (1, 8, 64), (0, 8, 64), (3, 8, 0)):
        check(text, "sm_90a", sms=2, mode="delayed", seed=m, M=m, N=n, K=k, **more)


@pytest.mark.slow
def test_rows_of_tokens(check: Check) -> None:
    check(SPECS["tokens"], "sm_90a", M=40, N=72, K=416, mode="delayed", seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("spread", [(110, 127), (60, 200), (0, 252)], ids=str)
def test_scales_of_any_distance(spread: tuple[int, int], tile: str, compiler: Any) -> None:
    """Within the range that e5m2 has beside a row's first scales, beyond it, and everywhere."""
    artifact = compiler.artifact(tiled("tokens", tile), "sm_90a")
    inputs = selecting(61 if tile.startswith("64") else 130, 140, 32 * 21, sum(spread), spread)
    emulated, expected = (artifact.load_kernel(device)(**inputs)["y"] for device in ("emulator", "reference"))
    assert np.array_equal(emulated, expected)
    assert np.unique(expected).size > 200


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokens", "lines"])
def test_scales_that_are_nan_or_make_infinities(name: str, compiler: Any) -> None:
    """Beside a plain operand weights of 2^128 are infinite; beside one with scales of rows products are not rounded."""
    artifact = compiler.artifact(SPECS[name], "sm_90a")
    inputs = selecting(40, 72, 32 * 12, 7, (250, 255))
    if name == "lines":
        w = inputs["w"]
        linear = w.format.layout.from_buffer(w.scales, 1, 72, 12)
        lines = artifact.manifest.kernel.arg("w").format
        inputs = {
            "x": inputs["x"].codes,
            "w": fp4rt.Quantized.from_parts(w.codes, linear.reshape(72, 12), None, lines, w.shape),
        }
    emulated, expected = (artifact.load_kernel(device)(**inputs)["y"] for device in ("emulator", "reference"))
    assert np.array_equal(emulated, expected, equal_nan=True)
    assert 0 < np.isnan(expected).sum() < expected.size
    assert np.isfinite(expected).any()


@pytest.mark.slow
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", SPECS)
def test_each_tile(name: str, tile: str, check: Check, compiler: Any) -> None:
    text = tiled(name, tile) if name != "two" else tiled(name, "128 x 64")
    assert compiler.lowered(text, "sm_90a").engine_as(WgmmaRS).fast
    rows = 63 if tile.startswith("64") else 150
    for seed, (m, n, k) in enumerate([(rows, 136, 704), (1, 8, 32), (0, 8, 64), (3, 40, 0)]):
        check(text, "sm_90a", sms=2, order="strict", mode="delayed", seed=seed, **sized(name, m, n, k))
