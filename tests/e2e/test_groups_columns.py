"""Rows in groups quantized along the rows, end to end: the operands of a product that contracts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4num import Quantized, quantize
from fp4rt import Artifact, random_inputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.trial import Trial, run_trial
from tests.e2e.conftest import Compiler, on_reference

HEAD = "kernel k(E, M, N, K) {\n in offsets : i32[E + 1]\n "
ROWS = HEAD.replace(", N", "") + "in x : bf16[M by offsets, K]\n "
BOTH = ROWS + (
    "in ts : f32[]\n out q : nvfp4[M by offsets, K]; out qt : nvfp4[K, M by offsets]\n"
    " q = quantize(x, tensor_scale = ts)\n qt = quantize(x.T, tensor_scale = ts)\n}\n"
)
MX = ROWS + "out qt : mxfp8_e4m3[K, M by offsets]\n qt = quantize(x.T)\n}\n"
TILES = ROWS + "in top : f32[]\n out qt : nvfp4_2d[K, M by offsets]\n qt = quantize(x.T, amax = top)\n}\n"
RANDOM = ROWS + (
    "in rng : u64[2]; in signs : f32[16]\n out qt : mxfp4[K, M by offsets]\n"
    " qt = quantize(hadamard(x.T, over = M, size = 16, signs = signs), rounding = stochastic(rng))\n}\n"
)
LINE = "format line extends nvfp4 { layout linear }\n" + BOTH.replace("nvfp4[K", "line[K")
PRODUCT = HEAD + (
    "in x : nvfp4[M by offsets, K]; in w : nvfp4[E, N, K]; in bias : bf16[E, N]; in ts : f32[]\n"
    " out y : bf16[M by offsets, N]; out q : nvfp4[M by offsets, N]; out qt : nvfp4[N, M by offsets]\n"
    " h = silu(x @ w.T + bias)\n y = h\n q = quantize(h, tensor_scale = ts)\n"
    " qt = quantize(h.T, tensor_scale = ts)\n}\n"
)
SPECS = {"both": BOTH, "mx": MX, "tiles": TILES, "random": RANDOM, "line": LINE, "product": PRODUCT}


def ragged(artifact: Artifact, counts: Sequence[int], seed: int, sms: int = 3, **dims: int) -> Trial:
    offsets = np.cumsum([0, *counts]).astype(np.int32)
    dims = {"E": len(counts), "M": int(offsets[-1]), **dims}
    inputs = dict(random_inputs(artifact.manifest, dims, seed=seed, given={"offsets": offsets}), offsets=offsets)
    kernel = artifact.load_kernel(EmulatorDevice(mode="delayed" if seed % 2 else "immediate", seed=seed, sms=sms))
    return run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)


def test_blocks_start_anew_in_each_group(compiler: Compiler) -> None:
    trial = ragged(compiler.artifact(MX, "sm_90a"), (32, 0, 160), 1, K=32)
    assert trial.equal, trial.comparisons


def test_the_reference_is_a_loop_over_groups() -> None:
    """Each group's columns are those of the group quantized by itself, and lie as without groups."""
    artifact = on_reference(BOTH)
    offsets = np.array([0, 32, 32, 192], np.int32)
    x = np.random.default_rng(0).standard_normal((192, 48)).astype(np.float32).view(np.uint32) & 0xFFFF0000
    codes, values, ts = (x >> 16).astype(np.uint16), x.view(np.float32), np.float32(0.01)
    found = artifact.load_kernel("reference")(offsets=offsets, x=codes, ts=ts)["qt"]
    assert isinstance(found, Quantized)
    alone = [quantize(values[low:high].T, "nvfp4", tensor_scale=ts) for low, high in ((0, 32), (32, 192))]
    np.testing.assert_array_equal(found.codes, np.concatenate([part.codes for part in alone], 1))
    np.testing.assert_array_equal(found.scale_grid(), np.concatenate([part.scale_grid() for part in alone], 2))
    np.testing.assert_array_equal(found.scales, quantize(values.T, "nvfp4", tensor_scale=ts).scales)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("name", SPECS)
def test_every_kind(compiler: Compiler, target: str, name: str) -> None:
    artifact = compiler.artifact(SPECS[name], target)
    sizes = {"N": 80} if name == "product" else {}
    # A tensor scale that the kernel makes would have no value of no rows, which a condition refuses.
    empty = [] if name == "tiles" else [(0, 0)]
    for seed, counts in enumerate([(64,), (0, 0, 288, 64, 32), (32, 544, 0, 96), *empty]):
        trial = ragged(artifact, counts, seed, **sizes, K=96)
        assert trial.equal, (counts, trial.comparisons)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("name", ["both", "product"])
def test_random_groups(compiler: Compiler, target: str, name: str) -> None:
    artifact = compiler.artifact(SPECS[name], target)

    @settings(max_examples=40)
    @given(
        st.lists(st.one_of(st.just(0), st.integers(1, 5), st.integers(7, 18)), min_size=1, max_size=9),
        st.integers(0, 1000), st.integers(1, 9), st.sampled_from([32, 96] if name == "product" else [32, 80]),
    )  # fmt: skip
    def every(units: list[int], seed: int, sms: int, k: int) -> None:
        trial = ragged(artifact, [32 * n for n in units], seed, sms, **({"N": 48} if name == "product" else {}), K=k)
        assert trial.equal, trial.comparisons

    every()
