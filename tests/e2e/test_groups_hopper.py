"""Rows in groups by Hopper's engines for weights of few bits: few rows a group, and weights in registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4cc.ir.lowered import Decode, LoweredKernel
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt import Artifact
from fp4rt.sizes import evaluate
from tests.e2e.conftest import Compiler
from tests.e2e.test_groups import check_masked, masked, plain, ragged

HEAD = "kernel k(E, M, N, K, F = N / 2) {\n in offsets : i32[E + 1]\n "
BIASED = (
    HEAD + "in x : bf16[M by offsets, K]; in w : mxfp4[E, N, K]; in bias : bf16[E, N]; in r : bf16[M by offsets, N]\n"
    " in s : f32[M by offsets]\n inout z : f32[M by offsets, N]; out y : bf16[M by offsets, N]\n"
    " h = (x @ w.T + bias) * s + r\n y = h\n z = z + h\n}\n"
)
GATED = (
    HEAD + "in x : bf16[M by offsets, K]; in w : nvfp4_experts[E, N, K]\n out h : bf16[M by offsets, F]\n"
    " g, u = unzip(x @ w.T, N -> F, group = 1)\n h = silu(g) * u\n}\n"
)
TWO = (
    HEAD + "in x : f16[M by offsets, K]; in w : nvfp4[E, N, K]; in v : nvfp4[E, N, K]\n"
    " out y : f16[M by offsets, N]\n y = swiglu(x @ w.T, x @ v.T)\n}\n"
)
FP8 = HEAD + "in x : bf16[M by offsets, K]; in w : e4m3[E, N, K]\n out y : f32[M by offsets, N]\n y = x @ w.T\n}\n"
KERNELS = {"plain": plain("bf16", "nvfp4"), "biased": BIASED, "gated": GATED, "two": TWO, "fp8": FP8}


def plans(text: str) -> tuple[LoweredKernel, ...]:
    lowered = lower(analyze(Source("spec.fp4", text), None).raise_errors().kernels[0], "sm_90a", 6)
    return (*lowered.variants, lowered)


def few(compiler: Compiler, text: str) -> Artifact:
    """A kernel by its plan for few rows of a group alone."""
    (plan,) = [replace(plan, when=None, variants=()) for plan in plans(text) if isinstance(plan.engine, Decode)][:1]
    return compiler.built(plan, "sm_90a")


def by_tile(compiler: Compiler, text: str, tile: str) -> Artifact:
    return compiler.artifact(text + f"schedule k on sm_90a {{ tile {tile} }}\n", "sm_90a")


def check(artifact: Artifact, sizes: Sequence[Sequence[int]], **dims: int) -> None:
    for seed, counts in enumerate(sizes):
        poisoned = next((e for e, n in enumerate(counts) if n), None) if seed % 2 else None
        trial = ragged(artifact, counts, seed=seed, poisoned=poisoned, **dims)
        assert trial.equal, (counts, poisoned, trial.comparisons)


FEW = [(1, 0, 3, 17), (0, 40, 0, 8, 1), (0,), (1,) * 5]


@pytest.mark.slow
def test_few_rows_of_a_group(compiler: Compiler) -> None:
    check(few(compiler, GATED), FEW[:2], N=72, K=160)


@pytest.mark.slow
def test_weights_in_registers(compiler: Compiler) -> None:
    check(by_tile(compiler, GATED, "256 x 128 x 64"), [(3, 0, 129, 260)], N=136, K=96)


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_of_few_rows(compiler: Compiler, name: str) -> None:
    check(few(compiler, KERNELS[name]), FEW, N=72, K=288)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "biased", "fp8"])
def test_few_rows_that_are_masked(compiler: Compiler, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text = masked(KERNELS[name])
    for artifact in (few(compiler, text), by_tile(compiler, text, "256 x 128 x 64")):
        with monkeypatch.context() as patched:
            patched.setattr(compiler, "artifact", lambda *_, artifact=artifact: artifact)
            check_masked(compiler, text, "sm_90a", N=72, K=288)


@pytest.mark.slow
@pytest.mark.parametrize("tile", ["256 x 128 x 64", "128 x 128 x 64", "128 x 64 x 64"])
@pytest.mark.parametrize("name", ["plain", "biased", "gated", "fp8"])
def test_every_tile(compiler: Compiler, name: str, tile: str) -> None:
    check(by_tile(compiler, KERNELS[name], tile), [(3, 0, 129), (130, 1, 0, 127), (257, 0, 512)], N=200, K=288)


@pytest.mark.slow
def test_many_groups(compiler: Compiler) -> None:
    """More groups than are looked at together, with long runs of empty ones, and rows for the first and the last."""
    artifact = few(compiler, plain("bf16", "nvfp4"))
    rng = np.random.default_rng(3)
    for seed, groups in enumerate((7, 8, 9, 31, 32, 33, 255, 256, 257, 512)):
        counts = rng.integers(0, 4, groups) * (rng.random(groups) < 0.1)
        counts[[0, -1]] = 9, 2
        assert ragged(artifact, [int(n) for n in counts], seed=seed, N=32, K=64).equal, groups


@pytest.mark.slow
@pytest.mark.parametrize("way", ["few", "256 x 128 x 64", "128 x 64 x 64"])
@pytest.mark.parametrize("name", ["biased", "gated"])
def test_random_groups(compiler: Compiler, name: str, way: str) -> None:
    artifact = few(compiler, KERNELS[name]) if way == "few" else by_tile(compiler, KERNELS[name], way)
    most = 40 if way == "few" else 280

    @settings(max_examples=30)
    @given(
        st.lists(st.one_of(st.just(0), st.integers(1, 9), st.integers(1, most)), min_size=1, max_size=10),
        st.integers(0, 1000), st.integers(1, 9), st.integers(0, 9), st.sampled_from([32, 72, 136]),
        st.sampled_from([32, 96, 160]),
    )  # fmt: skip
    def every(counts: list[int], seed: int, sms: int, poisoned: int, n: int, k: int) -> None:
        trial = ragged(artifact, counts, seed=seed, sms=sms, poisoned=poisoned % len(counts), N=n, K=k)
        assert trial.equal, trial.comparisons

    every()


def test_few_rows_a_group_take_the_plan_for_them() -> None:
    """Which engine calls take: few rows a group that of few rows, many the widest tiles of weights in registers."""
    found = plans(plain("bf16", "nvfp4").replace("N, K)", "N = 4096, K = 4096)"))

    def taken(e: int, m: int) -> tuple[str, int]:
        plan = next(p for p in found if p.when is None or evaluate(p.when, {"E": e, "M": m}))
        assert plan.engine is not None
        return plan.engine.name, plan.tile.m

    assert taken(32, 64)[0] == "decode"
    assert taken(256, 8)[0] == "decode"
    assert taken(8, 8192) == ("wgmma_rs", 256)
