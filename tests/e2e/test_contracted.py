"""Products over rows in groups end to end: a result for each group, whatever its neighbors hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4rt import Artifact, random_inputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.trial import Trial, run_trial
from tests.e2e.conftest import Compiler

HEAD = "kernel k(E, M, N, K) {\n in offsets : i32[E + 1]\n "
PLAIN = (
    HEAD + "in dy : bf16[M by offsets, N]; in x : bf16[M by offsets, K]\n out dw : f32[E, N, K]\n dw = dy.T @ x\n}\n"
)
EPILOGUE = (
    HEAD + "in dy : bf16[M by offsets, N]; in x : bf16[M by offsets, K]\n in alpha : f32[E]; in bias : bf16[E, K]\n"
    " inout dw : bf16[E, N, K]; out q : mxfp8[E, N, K]; out top : f32[E, N]\n h = alpha * (dy.T @ x) + bias\n"
    " dw = dw + h\n q = quantize(h)\n top = max(abs(h), over = K)\n}\n"
)
TWO = (
    HEAD + "in dy : bf16[M by offsets, N]; in x : bf16[M by offsets, K]; in z : bf16[M by offsets, K]\n"
    " out dw : f32[E, N, K]; out both : bf16[E, N, K]\n a = dy.T @ x\n dw = a\n both = a * (dy.T @ z)\n}\n"
)
SPECS = {"plain": PLAIN, "f16": PLAIN.replace("bf16", "f16"), "epilogue": EPILOGUE, "two": TWO}
TARGETS = ("sm_100a", "sm_90a")


def masked(text: str) -> str:
    """The kernel with masked rows for ragged ones: E batches of M rows, of which `counts` say how many are used."""
    return text.replace("in offsets : i32[E + 1]", "in counts : i32[E]").replace("M by offsets", "E, M upto counts")


def numbers(x: Any) -> Any:
    """A bf16 or f16 operand as f32."""
    return x.astype(np.float32) if x.dtype == np.float16 else (x.astype(np.uint32) << 16).view(np.float32)


def spoiled(x: Any, rows: Any) -> Any:
    """x with NaN in `rows`, a mask of ragged rows or of [E, M]."""
    return np.where(rows[..., None], np.float16(np.nan) if x.dtype == np.float16 else np.uint16(0x7FC1), x)


def ragged(
    artifact: Artifact, counts: Sequence[int], *, seed: int = 0, poisoned: int | None = None, sms: int = 3, **dims: int
) -> Trial:
    """A call with groups of these sizes. `poisoned`: a group with rows of NaN."""
    offsets = np.cumsum([0, *counts]).astype(np.int32)
    dims = {"E": len(counts), "M": int(offsets[-1]), **dims}
    inputs = dict(random_inputs(artifact.manifest, dims, seed=seed, given={"offsets": offsets}), offsets=offsets)
    if poisoned is not None:
        rows = np.zeros(dims["M"], bool)
        rows[offsets[poisoned] : offsets[poisoned + 1]] = True
        for name in ("dy", "x"):
            inputs[name] = spoiled(inputs[name], rows)
    mode = "delayed" if seed % 2 else "immediate"
    kernel = artifact.load_kernel(EmulatorDevice(mode=mode, seed=seed, sms=sms))
    return run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)


def upto(artifact: Artifact, m: int, counts: Sequence[int], seed: int, **dims: int) -> Trial:
    """A call with masked rows, those past the counts NaN."""
    dims = {"E": len(counts), "M": m, **dims}
    inputs = dict(random_inputs(artifact.manifest, dims, seed=seed), counts=np.array(counts, np.int32))
    rows = np.arange(m)[None, :] >= np.array(counts)[:, None]
    for name in ("dy", "x"):
        inputs[name] = spoiled(inputs[name], rows)
    kernel = artifact.load_kernel(EmulatorDevice(mode="delayed", seed=seed, sms=3))
    return run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)


@pytest.mark.parametrize("target", TARGETS)
def test_a_group_has_its_own_part(compiler: Compiler, target: str) -> None:
    """Empty groups, one of a row, ends in the middle of a step, and a neighbor of NaN before and behind."""
    artifact = compiler.artifact(PLAIN, target)
    trial = ragged(artifact, (3, 0, 65, 1), poisoned=2, seed=1, N=72, K=136)
    assert trial.equal, trial.comparisons


def test_the_reference_is_a_loop_over_groups(compiler: Compiler) -> None:
    """NaN of one group is in its own result alone."""
    artifact = compiler.artifact(PLAIN, "sm_90a")
    offsets = np.array([0, 3, 3, 9], np.int32)
    given = {"offsets": offsets}
    inputs = dict(random_inputs(artifact.manifest, {"E": 3, "M": 9, "N": 8, "K": 16}, seed=2, given=given), **given)
    inputs["x"] = spoiled(inputs["x"], np.arange(9) >= 3)
    dw = np.asarray(artifact.load_kernel("reference")(**inputs)["dw"])
    dy, x = numbers(inputs["dy"]), numbers(inputs["x"])
    np.testing.assert_array_equal(dw[0], dy[:3].T @ x[:3])
    assert not dw[1].any()
    assert np.isnan(dw[2]).all()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SPECS)
def test_every_kind(compiler: Compiler, target: str, name: str) -> None:
    artifact = compiler.artifact(SPECS[name], target)
    for seed, counts in enumerate([(8,), (127, 129), (0, 0, 200, 64, 8), (1, 2, 3, 10)]):
        trial = ragged(artifact, counts, seed=seed, poisoned=seed % len(counts) if seed % 2 else None, N=200, K=160)
        assert trial.equal, (counts, trial.comparisons)
    artifact = compiler.artifact(masked(SPECS[name]), target)
    for seed, (m, counts) in enumerate([(200, (0, 200, 129)), (64, (64, 1, 0, 63))]):
        trial = upto(artifact, m, counts, seed, N=72, K=64)
        assert trial.equal, (counts, trial.comparisons)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_no_rows_at_all(compiler: Compiler, target: str) -> None:
    """Every group is empty: all of the result is zeros, and it is written."""
    trial = ragged(compiler.artifact(PLAIN, target), (0, 0, 0), N=72, K=64)
    assert trial.equal, trial.comparisons


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_many_groups(compiler: Compiler, target: str) -> None:
    counts = np.random.default_rng(3).integers(0, 3, 512)
    trial = ragged(compiler.artifact(PLAIN, target), [int(n) for n in counts], sms=5, N=8, K=8)
    assert trial.equal, trial.comparisons


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_random_groups(compiler: Compiler, target: str) -> None:
    artifact = compiler.artifact(PLAIN, target)

    @settings(max_examples=75)
    @given(
        st.lists(st.one_of(st.just(0), st.integers(1, 20), st.integers(60, 70)), min_size=1, max_size=9),
        st.integers(0, 1000), st.integers(1, 9), st.integers(0, 8), st.sampled_from([8, 128, 136]),
    )  # fmt: skip
    def every(counts: list[int], seed: int, sms: int, poisoned: int, n: int) -> None:
        trial = ragged(artifact, counts, seed=seed, sms=sms, poisoned=poisoned % len(counts), N=n, K=72)
        assert trial.equal, trial.comparisons

    every()
