"""Quantized outputs with a tensor scale for each batch, beside a product and without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fp4num
from fp4rt import Artifact, random_inputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.trial import Trial, run_trial
from tests.e2e.conftest import Compiler

TARGETS = ("sm_100a", "sm_90a")
PLAIN = (
    "kernel k(E, M, N) {\n in x : bf16[E, M, N]; in ts : f32[E]\n out q : nvfp4_experts[E, M, N]\n"
    " q = quantize(x, tensor_scale = ts)\n}\n"
)
AMAX = PLAIN.replace("ts : f32[E]", "top : f32[E]").replace("tensor_scale = ts", "amax = 2 * top")
DIVIDES = "format f extends nvfp4_experts { tensor_scale f32 divides per batch }\n" + AMAX.replace(
    "nvfp4_experts[", "f["
)
PRODUCT = (
    "kernel k(E, M, N, K) {\n in x : bf16[E, M, K]; in w : bf16[E, N, K]; in ts : f32[E]; in top : f32[E]\n"
    " out q : nvfp4_experts[E, M, N]; out qt : nvfp4_experts[E, N, M]; out y : f32[E, M, N]\n h = x @ w.T\n"
    " q = quantize(h, tensor_scale = ts)\n qt = quantize(h.T, amax = top)\n"
    " y = dequantize(quantize(h, format = nvfp4_experts, amax = top))\n}\n"
)
TWO_AXES = (
    "kernel k(L, E, M, N) {\n in x : bf16[L, E, M, N]; in top : f32[L, E]\n out q : nvfp4_experts[L, E, M, N]\n"
    " q = quantize(x, amax = top)\n}\n"
)
MASKED = (
    "kernel k(E, M, N) {\n in counts : i32[E]; in x : bf16[E, M upto counts, N]; in ts : f32[E]\n"
    " out q : nvfp4_experts[E, M upto counts, N]\n q = quantize(x, tensor_scale = ts)\n}\n"
)
CONTRACTED = (
    "kernel k(E, M, N, K) {\n in offsets : i32[E + 1]; in dy : bf16[M by offsets, N]; in x : bf16[M by offsets, K]\n"
    " in top : f32[E]\n out q : nvfp4_experts[E, N, K]\n q = quantize(dy.T @ x, amax = top)\n}\n"
)
SPECS = {
    "plain": PLAIN, "amax": AMAX, "divides": DIVIDES, "product": PRODUCT, "two axes": TWO_AXES, "masked": MASKED,
    "contracted": CONTRACTED,
}  # fmt: skip


def scaled(inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs whose tensor scales, or largest magnitudes, are far apart."""
    apart = {name: (value * 4.0 ** np.arange(value.size).reshape(value.shape)).astype(np.float32)
             for name, value in inputs.items() if name in ("ts", "top")}  # fmt: skip
    return {**inputs, **{name: np.abs(value) + np.float32(0.25) for name, value in apart.items()}}


def called(artifact: Artifact, dims: dict[str, int], seed: int) -> Trial:
    inputs = scaled(dict(random_inputs(artifact.manifest, dims, seed=seed)))
    kernel = artifact.load_kernel(EmulatorDevice(mode="delayed" if seed % 2 else "immediate", seed=seed, sms=3))
    return run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)


def test_each_batch_has_its_own(compiler: Compiler) -> None:
    """As each batch quantized alone has it."""
    artifact = compiler.artifact(PLAIN, "sm_90a")
    inputs = scaled(dict(random_inputs(artifact.manifest, {"E": 3, "M": 5, "N": 32}, seed=1)))
    q = artifact.load_kernel("emulator")(**inputs)["q"]
    x = (inputs["x"].astype(np.uint32) << 16).view(np.float32)
    for e in range(3):
        alone = fp4num.quantize(x[e], "nvfp4", tensor_scale=inputs["ts"][e])
        np.testing.assert_array_equal(q.codes[e], alone.codes)
        np.testing.assert_array_equal(np.asarray(q.scale_grid())[e], np.asarray(alone.scale_grid())[0])
        assert q.tensor_scale[e] == inputs["ts"][e]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SPECS)
def test_every_kind(compiler: Compiler, target: str, name: str) -> None:
    artifact = compiler.artifact(SPECS[name], target)
    for seed, (e, m, n, k) in enumerate([(1, 32, 64, 64), (3, 160, 288, 64), (5, 16, 32, 96)]):
        dims = {"L": 2, "E": e, "M": m, "N": n, "K": k}
        named = {dim.name for dim in artifact.manifest.kernel.dims}
        trial = called(artifact, {name: size for name, size in dims.items() if name in named}, seed)
        assert trial.equal, trial.comparisons
