"""Reductions of a product's elements: exact, in the language's order, whatever the schedule."""

from __future__ import annotations

import numpy as np
import pytest

from fp4rt.devices.emulator import EmulatorDevice

from .pipeline import Built, build, run

EXTREMES = """
kernel k(L, M, N, K) {
    in x : nvfp4[L, M, K]; in w : nvfp4[L, N, K]; in r : f32[M, N]
    out y : bf16[L, M, N]; out top : f32[L, M]; out low : f32[L, N]; out big : f32[]; out each : f32[L]
    out negative : f32[L, M]; out kept : f32[L, M]
    h = x @ w.T
    y = h
    top = max(abs(h), over = N)
    low = min(h, over = M)
    big = max(h, over = all)
    each = min(h * 2, over = (M, N))
    negative = max(-abs(h) - 1, over = N)
    kept = max(r + 0 * h, over = N)
}
"""

SUMS = """
kernel k(L, M, N, K) {
    in x : nvfp4[L, M, K]; in w : nvfp4[L, N, K]; in b : f32[N]
    out s : f32[L, M]; out c : f32[L, N]; out t : f32[L]; out v : f32[L, M]; out e : f32[L, N]; out f : f32[L]
    h = tanh(x @ w.T + b)
    s = sum(h, over = N)
    c = sum(h, over = M)
    t = sum(h, over = (M, N))
    v = mean_square(h, over = N)
    e = mean(h, over = M)
    f = mean_square(h, over = (M, N))
}
"""


@pytest.fixture(scope="module")
def extremes() -> Built:
    return build(EXTREMES)


@pytest.fixture(scope="module")
def sums() -> Built:
    return build(SUMS)


@pytest.mark.parametrize(
    "dims", [pytest.param((1, 128, 128, 64), marks=pytest.mark.slow), (3, 77, 99, 32), (2, 300, 513, 32)]
)
def test_largest_and_smallest(extremes: Built, dims: tuple[int, int, int, int]) -> None:
    for comparison in run(extremes, dict(zip(("L", "M", "N", "K"), dims, strict=True))):
        assert comparison.equal, str(comparison)


def test_nan_does_not_count_unless_there_is_nothing_else(extremes: Built) -> None:
    r = np.full((40, 70), np.nan, np.float32)
    r[1, 69] = -np.inf
    r[2, :3] = [-1e-45, -0.0, -2]
    r[3, 5] = np.inf
    r[4] = -3e38
    for comparison in run(extremes, {"L": 1, "M": 40, "N": 70, "K": 32}, r=r):
        assert comparison.equal, str(comparison)


@pytest.mark.parametrize(
    "dims", [pytest.param((1, 128, 128, 64), marks=pytest.mark.slow), (3, 77, 99, 32), (2, 1100, 257, 32)]
)
def test_sums(sums: Built, dims: tuple[int, int, int, int]) -> None:
    for comparison in run(sums, dict(zip(("L", "M", "N", "K"), dims, strict=True))):
        assert comparison.equal, str(comparison)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sums_do_not_depend_on_who_is_last(sums: Built, seed: int) -> None:
    device = EmulatorDevice(mode="delayed", seed=seed, sms=6)
    for comparison in run(sums, {"L": 1, "M": 300, "N": 300, "K": 32}, device=device):
        assert comparison.equal, str(comparison)


def test_sums_do_not_depend_on_the_tile() -> None:
    built = build(SUMS + "schedule k on sm_100a { tile 128 x 64 x 256 }\n")
    for comparison in run(built, {"L": 2, "M": 130, "N": 200, "K": 32}):
        assert comparison.equal, str(comparison)


def test_an_argument_may_be_called_workspace() -> None:
    """The kernel has a workspace of its own, for the partial sums."""
    built = build("""
kernel k(M, N, K) {
    in a : nvfp4[M, K]; in b : nvfp4[N, K]; in workspace : f32[N]; in stream : f32[M]
    out total : f32[M]
    total = sum((a @ b.T) * stream + workspace, over = N)
}
""")
    for comparison in run(built, {"M": 40, "N": 300, "K": 64}):
        assert comparison.equal, str(comparison)
