"""Products over rows in groups of operands with block scales along these rows, end to end: dw[e] = dyt @ xt.T."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4num import Quantized, dequantize
from fp4num.scale_arrays import to_buffer
from fp4rt import Artifact, random_inputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.trial import Trial, run_trial
from tests.e2e.conftest import Compiler, on_reference

HEAD = "kernel k(E, M, N, K) {\n in offsets : i32[E + 1]\n "
TARGETS = ("sm_100a", "sm_90a")
#: The byte of a scale that is NaN.
NAN = {"e4m3": 0x7F, "e8m0": 0xFF}


def plain(a: str, b: str | None = None, head: str = "") -> str:
    """The product of two formats alone."""
    args = f"in dyt : {a}[N, M by offsets]; in xt : {b or a}[K, M by offsets]\n out dw : f32[E, N, K]\n"
    return f"{head}{HEAD}{args} dw = dyt @ xt.T\n}}\n"


EPILOGUE = (
    HEAD + "in dyt : nvfp4[N, M by offsets]; in xt : nvfp4[K, M by offsets]; in alpha : f32[E]; in bias : bf16[E, K]\n"
    " inout dw : bf16[E, N, K]; out q : mxfp8[E, N, K]; out top : f32[E, N]\n h = alpha * (dyt @ xt.T) + bias\n"
    " dw = dw + h\n q = quantize(h)\n top = max(abs(h), over = K)\n}\n"
)
TWO = (
    HEAD
    + "in dyt : mxfp8_e5m2[N, M by offsets]; in xt : mxfp8_e4m3[K, M by offsets]; in zt : mxfp8_e4m3[K, M by offsets]\n"
    " out dw : f32[E, N, K]; out both : bf16[E, N, K]\n a = dyt @ xt.T\n dw = a\n both = a * (dyt @ zt.T)\n}\n"
)
LINE = "format line extends nvfp4 { layout linear }\n"
SPECS = {
    "nvfp4": plain("nvfp4"), "mxfp4": plain("mxfp4"), "mxfp8": plain("mxfp8_e5m2", "mxfp8_e4m3"),
    "tiles": plain("nvfp4", "nvfp4_2d"), "linear": plain("line", "nvfp4", LINE), "epilogue": EPILOGUE, "two": TWO,
}  # fmt: skip


def spoiled(q: Quantized, columns: slice) -> Quantized:
    """q with codes and scales of NaN in some of its columns."""
    codes, grid = q.codes.copy(), np.array(q.scale_grid())
    codes[:, columns.start * q.format.bits // 8 : columns.stop * q.format.bits // 8] = 0x7F
    wide = q.format.stored[1]
    assert isinstance(wide, int)
    grid[:, :, columns.start // wide : columns.stop // wide] = NAN[str(q.format.scale)]
    return Quantized(codes, to_buffer(grid, q.format, q.shape, None), q.tensor_scale, q.format, q.shape)


def inputs_of(artifact: Artifact, counts: Sequence[int], seed: int, poisoned: int | None, dims: dict[str, int]) -> Any:
    """The arguments and dims of a call with groups of these sizes. `poisoned`: a group with rows of NaN."""
    offsets = np.cumsum([0, *counts]).astype(np.int32)
    dims = {"E": len(counts), "M": int(offsets[-1]), **dims}
    inputs = dict(random_inputs(artifact.manifest, dims, seed=seed, given={"offsets": offsets}), offsets=offsets)
    for name, value in inputs.items() if poisoned is not None else ():
        if isinstance(value, Quantized):
            inputs[name] = spoiled(value, slice(*(int(n) for n in offsets[poisoned : poisoned + 2])))
    return inputs, dims


def ragged(
    artifact: Artifact, counts: Sequence[int], *, seed: int = 0, poisoned: int | None = None, sms: int = 3, **dims: int
) -> Trial:
    inputs, dims = inputs_of(artifact, counts, seed, poisoned, dims)
    kernel = artifact.load_kernel(EmulatorDevice(mode="delayed" if seed % 2 else "immediate", seed=seed, sms=sms))
    return run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)


@pytest.mark.parametrize(
    ("target", "name"), [("sm_100a", "nvfp4"), pytest.param("sm_90a", "mxfp8", marks=pytest.mark.slow)]
)
def test_a_group_has_its_own_part(compiler: Compiler, target: str, name: str) -> None:
    """Empty groups, ends within a step and an atom of scales, and a neighbor of NaN before and behind."""
    artifact = compiler.artifact(SPECS[name], target)
    trial = ragged(artifact, (32, 0, 96, 64), poisoned=2, seed=1, N=8, K=8)
    assert trial.equal, trial.comparisons


def test_the_reference_is_a_loop_over_groups() -> None:
    """NaN of one group is in its own result alone."""
    artifact = on_reference(SPECS["nvfp4"])
    inputs, _ = inputs_of(artifact, (32, 0, 64), 2, 2, {"N": 8, "K": 16})
    dw = np.asarray(artifact.load_kernel("reference")(**inputs)["dw"])
    dy, x = (dequantize(inputs[name], tensor_scale=False).astype(np.float64)[:, :32] for name in ("dyt", "xt"))
    factor = np.float32(inputs["dyt"].tensor_scale) * np.float32(inputs["xt"].tensor_scale)
    np.testing.assert_array_equal(dw[0], (dy @ x.T).astype(np.float32) * factor)
    assert not dw[1].any()
    assert np.isnan(dw[2]).all()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SPECS)
def test_every_kind(compiler: Compiler, target: str, name: str) -> None:
    artifact = compiler.artifact(SPECS[name], target)
    for seed, counts in enumerate([(64,), (256, 288), (0, 0, 352, 64, 32), (32, 544, 0, 96)]):
        trial = ragged(artifact, counts, seed=seed, poisoned=seed % len(counts) if seed % 2 else None, N=200, K=160)
        assert trial.equal, (counts, trial.comparisons)


@pytest.mark.slow
@pytest.mark.parametrize("fields", ["tile 128 x 64 x 256", "tile 128 x 192 x 256; stages 2", "accumulators 1"])
def test_every_schedule(compiler: Compiler, fields: str) -> None:
    artifact = compiler.artifact(SPECS["nvfp4"] + f"schedule k on sm_100a {{ {fields} }}\n", "sm_100a")
    trial = ragged(artifact, (320, 0, 32, 512), poisoned=2, seed=3, N=264, K=328)
    assert trial.equal, trial.comparisons


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_no_rows_at_all(compiler: Compiler, target: str) -> None:
    """Every group is empty: all of the result is zeros, and it is written."""
    trial = ragged(compiler.artifact(SPECS["nvfp4"], target), (0, 0, 0), N=72, K=64)
    assert trial.equal, trial.comparisons


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_many_groups(compiler: Compiler, target: str) -> None:
    counts = 32 * np.random.default_rng(3).integers(0, 3, 512)
    trial = ragged(compiler.artifact(SPECS["nvfp4"], target), [int(n) for n in counts], sms=5, N=8, K=8)
    assert trial.equal, trial.comparisons


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_offsets_that_are_none_stay_within_memory(compiler: Compiler, target: str) -> None:
    """On a device nobody checks them: numbers are wrong then, but nothing else is read or written."""
    artifact = compiler.artifact(SPECS["nvfp4"], target)
    inputs, _ = inputs_of(artifact, (32, 64, 32), 1, None, {"N": 40, "K": 72})
    kernel = artifact.load_kernel(EmulatorDevice(sms=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fp4rt.signature.check_units", lambda *_: None)
        right = kernel(**inputs)["dw"]
        wrong = kernel(**{**inputs, "offsets": np.array([0, 45, 101, 128], np.int32)})["dw"]
    assert right.shape == wrong.shape


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["nvfp4", "mxfp8"])
def test_random_groups(compiler: Compiler, target: str, name: str) -> None:
    artifact = compiler.artifact(SPECS[name], target)

    @settings(max_examples=75)
    @given(
        st.lists(st.one_of(st.just(0), st.integers(1, 5), st.integers(7, 18)), min_size=1, max_size=9),
        st.integers(0, 1000), st.integers(1, 9), st.integers(0, 8), st.sampled_from([8, 128, 136]),
    )  # fmt: skip
    def every(units: list[int], seed: int, sms: int, poisoned: int, n: int) -> None:
        counts = [32 * unit for unit in units]
        trial = ragged(artifact, counts, seed=seed, sms=sms, poisoned=poisoned % len(counts), N=n, K=72)
        assert trial.equal, trial.comparisons

    every()
