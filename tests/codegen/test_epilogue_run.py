"""Emitted epilogues on the emulator against the reference, bit for bit."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from numpy.typing import NDArray

from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt import random_inputs
from fp4rt.devices.emulator import EmulatorDevice

from .pipeline import Built, build, run
from .random_specs import RandomSpec, specs, wide_specs

#: Random specs to try; the CI figure is small because each is a compilation.
EXAMPLES = int(os.environ.get("FP4CC_RANDOM_SPECS", "2"))

_UNARY = ("abs", "sqrt", "rsqrt", "exp", "log", "tanh", "sigmoid", "erf", "relu", "gelu", "gelu_tanh", "silu", "sign",
          "bf16", "f16", "e4m3", "e5m2")  # fmt: skip


def special_values(rows: int, columns: int) -> NDArray[np.float32]:
    """Zeros, infinities, NaN, subnormals, powers of two and their neighbors, ties, then random bits."""
    rng = np.random.default_rng(11)
    powers = 2.0 ** np.arange(-149, 128, 3)
    chosen = np.concatenate([
        [0.0, np.inf, np.nan, 1.0, 88.7, 89.0, 104.0, 448.0, 464.0, 480.0, 57344.0, 61440.0, 65504.0, 65520.0, 3e38],
        powers, powers * 1.5, np.arange(0, 20, 0.25), [0.5, 1.5, 2.5, 1e-3],
    ]).astype(np.float32)  # fmt: skip
    both = np.concatenate([chosen, -chosen])
    rest = rng.integers(0, 2**32, rows * columns - both.size, dtype=np.uint32).view(np.float32)
    return np.concatenate([both, rest]).reshape(rows, columns)


def test_functions_at_special_values() -> None:
    # `which` says which function a row takes, so that one compilation tries them all.
    body = "r"
    for index, op in enumerate(_UNARY):
        body = f"where(which == {index}, {op}(r), {body})"
    built = build(f"""
kernel k(M, N, K) {{
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in r : f32[M, N]; in which : f32[M]
    out y : f32[M, N]
    y = {body} + 0 * (x @ w.T)
}}
""")
    rows = len(_UNARY)
    r = np.tile(special_values(1, 768), (rows, 1))
    which = np.arange(rows, dtype=np.float32)
    for comparison in run(built, {"M": rows, "N": 768, "K": 32}, r=r, which=which):
        assert comparison.equal, str(comparison)


def test_two_operands_at_special_values() -> None:
    built = build("""
kernel k(M, N, K) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in r : f32[M, N]; in s : f32[M, N]
    out a : f32[M, N]; out b : f32[M, N]; out c : f32[M, N]
    h = 0 * (x @ w.T)
    a = min(r, s) / max(r, s) + h
    b = where(r < s, r - s, where(r == s, r * s, fma(r, s, r))) + h
    c = where(isnan(r) or r != s and not (r >= s), r + s, sqrt(s)) + h
}
""")
    r = special_values(40, 64)
    s = np.random.default_rng(2).permutation(r.reshape(-1)).reshape(r.shape)
    for comparison in run(built, {"M": 40, "N": 64, "K": 32}, r=r, s=s):
        assert comparison.equal, str(comparison)


# Without shrinking: each step would compile a kernel, and the specs are small.
random_specs = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=EXAMPLES < 20,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


@random_specs
@given(spec=specs())
def test_random_specs(spec: RandomSpec) -> None:
    agree(spec)


@random_specs
@given(spec=wide_specs())
def test_random_specs_with_outputs_of_every_kind(spec: RandomSpec) -> None:
    agree(spec)


# Before a release: a hundred of each, other ones each time.
many_random_specs = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
    database=None,
)


@pytest.mark.slow
@many_random_specs
@given(spec=specs())
def test_many_random_specs(spec: RandomSpec) -> None:
    agree(spec)


@pytest.mark.slow
@many_random_specs
@given(spec=wide_specs())
def test_many_random_specs_with_outputs_of_every_kind(spec: RandomSpec) -> None:
    agree(spec)


def agree(spec: RandomSpec) -> None:
    """Whether emulator and reference agree."""
    # The checker folds constants, and a number divided by the number 0 is an error.
    assume(all(d.code != "FP2018" for d in analyze(Source("spec.fp4", spec.text)).diagnostics))
    for comparison in run(build(spec.text), spec.dims):
        assert comparison.equal, f"{spec.text}\n{spec.dims}\n{comparison}"


@pytest.fixture(scope="module")
def batched() -> Built:
    return build("""
kernel k(L, M, N, K) {
    in a : nvfp4[L, M, K]; in b : nvfp4[L, N, K]; in alpha : f32[]; param beta : f32 = 0.0
    in lb : f32[L]; in rows : f32[L, M]; in columns : bf16[L, N]; in shared : f16[N]
    inout c : bf16[L, M, N]; out t : e5m2[L, N, M]
    h = a @ b.T
    c = alpha * h * rows + columns + shared * lb + beta * c
    t = h.T
}
""")


@pytest.mark.parametrize(
    "dims", [pytest.param((1, 128, 128, 64), marks=pytest.mark.slow), (3, 77, 99, 32), (2, 130, 264, 96)]
)
def test_batches_and_transposed_outputs(batched: Built, dims: tuple[int, int, int, int]) -> None:
    sizes = dict(zip(("L", "M", "N", "K"), dims, strict=True))
    for comparison in run(batched, sizes, beta=0.5):
        assert comparison.equal, str(comparison)


def test_beta_zero_does_not_read_the_old_value(batched: Built) -> None:
    sizes = {"L": 2, "M": 40, "N": 48, "K": 32}
    inputs: dict[str, Any] = random_inputs(batched.artifact.manifest, sizes, 3)
    poisoned = np.full_like(inputs["c"], 0)
    poisoned.view(np.uint16)[...] = 0x7FC0  # NaN
    for comparison in run(batched, sizes, 3, c=poisoned, beta=0.0):
        assert comparison.equal, str(comparison)
    outputs = batched.artifact.load_kernel("emulator")(**{**inputs, "c": poisoned.copy(), "beta": 0.0})
    words = outputs["c"].view(np.uint16).astype(np.uint32) << 16
    assert not np.isnan(words.view(np.float32)).any()


@pytest.mark.slow
def test_late_stores_and_many_tiles_a_cta(batched: Built) -> None:
    device = EmulatorDevice(mode="delayed", seed=5, sms=4)
    sizes = {"L": 2, "M": 140, "N": 300, "K": 64}
    for comparison in run(batched, sizes, device=device, beta=1.0):
        assert comparison.equal, str(comparison)
