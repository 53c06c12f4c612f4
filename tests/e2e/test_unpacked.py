"""MX elements of 4 and 6 bits beside elements of 8 where K is no multiple of 128: converter warps unpack them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4rt import random_inputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.trial import Trial, run_trial
from tests.e2e.conftest import Compiler

PAIRS = [
    ("mxfp8", "mxfp4"), ("mxfp4", "mxfp8_e5m2"), ("mxfp8", "mxfp6_e3m2"), ("mxfp6_e2m3", "mxfp4"),
]  # fmt: skip


def text(a: str, b: str, k: str = "K", fields: str | None = "tile 128 x 64 x 128; cluster 1 x 1") -> str:
    """The product of two formats; `k`: the dim that is contracted. Of a dynamic one multiples of 32 are known."""
    known = " where K % 32 == 0" if k == "K" else ""
    args = f"in a : {a}[M, K]; in b : {b}[N, K]\n out c : f32[M, N]\n"
    block = "" if fields is None else f"schedule k on sm_100a {{ {fields} }}\n"
    return f"kernel k(M, N, {k}){known} {{\n {args} c = a @ b.T\n}}\n{block}"


def trial(compiler: Compiler, spec: str, seed: int = 0, sms: int = 3, **dims: int) -> Trial:
    artifact = compiler.artifact(spec, "sm_100a")
    kernel = artifact.load_kernel(EmulatorDevice(mode="delayed" if seed % 2 else "immediate", seed=seed, sms=sms))
    inputs = random_inputs(artifact.manifest, dims, seed=seed)
    return run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)


def test_a_tail_of_k(compiler: Compiler) -> None:
    """The emulator faults where a byte past a buffer is read."""
    found = trial(compiler, text("mxfp8", "mxfp4", "K = 160"), 1, M=9, N=24)
    assert found.equal, found.comparisons


@pytest.mark.parametrize(("spec", "feed"), [
    (text("mxfp8", "mxfp4", "K = 2880"), "unpacked"), (text("mxfp8", "mxfp4"), "unpacked"),
    (text("mxfp8", "mxfp4", "K = 2816"), "tma"), (text("mxfp8", "mxfp4").replace("% 32", "% 128"), "tma"),
    (text("mxfp8", "mxfp4").replace(" where K % 32 == 0", ""), "tma"),
    (text("mxfp4", "mxfp4", "K = 2880", None), "tma"),
])  # fmt: skip
def test_who_unpacks(compiler: Compiler, spec: str, feed: str) -> None:
    (mainloop,) = compiler.lowered(spec).mainloops
    kinds = {f.kind for f in mainloop.feeds if f.part.role == "B" and not f.part.scales}
    assert kinds == {feed}


def test_k_of_which_nothing_is_known_is_whole_runs(compiler: Compiler) -> None:
    (constraint,) = compiler.lowered(text("mxfp8", "mxfp4").replace(" where K % 32 == 0", "")).constraints
    assert constraint.text == "K % 128 == 0"
    assert "`where K % 32 == 0` has warps do it" in str(constraint.reason)


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_every_pair(compiler: Compiler, a: str, b: str) -> None:
    for seed, (m, n, k) in enumerate([(1, 8, 32), (130, 72, 96), (300, 200, 416), (64, 64, 256)]):
        found = trial(compiler, text(a, b), seed, M=m, N=n, K=k)
        assert found.equal, (m, n, k, found.comparisons)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [
    "tile 128 x 256 x 128; cluster 1 x 1", "tile 128 x 192 x 128; cluster 2 x 1", "tile 256 x 128 x 128; cluster 2 x 2",
    "tile 256 x 256 x 128; cluster 2 x 1; raster along_m", "tile 128 x 128 x 128; cluster 4 x 2", "split_k 3",
    "tile 128 x 64 x 128; swap_ab yes",
])  # fmt: skip
def test_every_schedule(compiler: Compiler, fields: str) -> None:
    for seed, pair in enumerate([("mxfp8", "mxfp4"), ("mxfp6_e3m2", "mxfp8")]):
        found = trial(compiler, text(*pair, fields=fields), seed, M=30 if "swap" in fields else 300, N=264, K=352)
        assert found.equal, found.comparisons


@pytest.mark.slow
@pytest.mark.parametrize("k", ["K = 2880", "K"])
def test_random_sizes(compiler: Compiler, k: str) -> None:
    spec = text("mxfp8", "mxfp4", k)

    @settings(max_examples=25)
    @given(st.integers(1, 150), st.integers(1, 20), st.integers(1, 14), st.integers(0, 99), st.integers(1, 5))
    def every(m: int, n: int, blocks: int, seed: int, sms: int) -> None:
        sizes = {"K": 32 * blocks} if k == "K" else {}
        found = trial(compiler, spec, seed, sms, M=m if sizes else m % 20 + 1, N=8 * n if sizes else 8, **sizes)
        assert found.equal, found.comparisons

    every()


@pytest.mark.slow
def test_experts(compiler: Compiler) -> None:
    """Weights of groups, an operand whose rows are in groups, and halves of the weights."""
    head = "kernel k(E, M, N, K = 160) {\n in offsets : i32[E + 1]\n "
    gated = (
        "kernel k(E, M, N, F = N / 2, K = 160) where N % 128 == 0 {\n in offsets : i32[E + 1]\n"
        " in x : mxfp8[M by offsets, K]; in w : mxfp4[E, N, K]\n out h : bf16[M by offsets, F]\n"
        " g, u = unzip(x @ w.T, N -> F, group = F)\n h = silu(g) * u\n}\n"
    )
    plain = "in x : {}[M by offsets, K]; in w : {}[E, N, K]\n out y : bf16[M by offsets, N]\n y = x @ w.T\n}}\n"
    for spec in (head + plain.format("mxfp8", "mxfp4"), head + plain.format("mxfp4", "mxfp8"), gated):
        artifact = compiler.artifact(spec, "sm_100a")
        for seed, counts in enumerate([(3, 0, 129), (130, 1, 0, 127)]):
            offsets = np.cumsum([0, *counts]).astype(np.int32)
            dims = {"E": len(counts), "M": int(offsets[-1]), "N": 128}
            given_ = {"offsets": offsets}
            inputs = {**random_inputs(artifact.manifest, dims, seed=seed, given=given_), **given_}
            kernel = artifact.load_kernel(EmulatorDevice(mode="delayed", seed=seed, sms=3))
            found = run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)
            assert found.equal, found.comparisons
