"""Rows in groups end to end: ragged and masked, of any sizes, with every kind of operand and epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fp4cc
from fp4num import Quantized
from fp4num.scale_arrays import to_buffer
from fp4rt import Artifact, ConstraintError, random_inputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.trial import Trial, run_trial
from tests.e2e.conftest import Compiler

HEAD = "kernel k(E, M, N, K) {\n in offsets : i32[E + 1]\n "
EPILOGUE = (
    HEAD + "in x : nvfp4[M by offsets, K]; in w : nvfp4[E, N, K]\n"
    " in alpha : f32[E]; in bias : bf16[E, N]; in r : bf16[M by offsets, N]; in s : f32[M by offsets]; in ts : f32[]\n"
    " out y : bf16[M by offsets, N]; out q : nvfp4[M by offsets, N]; out top : f32[M by offsets]; out most : f32[N]\n"
    " h = silu(alpha * (x @ w.T) + bias) * s + r\n y = h\n q = quantize(h, tensor_scale = ts)\n"
    " top = max(abs(h), over = N)\n most = max(h, over = M)\n}\n"
)
GATED = (
    "kernel k(E, M, N, F = N / 2, K) where N % 128 == 0 {\n in offsets : i32[E + 1]\n"
    " in x : mxfp8[M by offsets, K]; in w : mxfp4[E, N, K]; in bias : bf16[E, N]\n out q : mxfp8[M by offsets, F]\n"
    " g, u = unzip(x @ w.T + bias, N -> F, group = GROUP)\n"
    " q = quantize(min(g, 7.0) * sigmoid(1.702 * g) * (clamp(u, -7.0, 7.0) + 1))\n}\n"
)
LINEAR = "format line extends nvfp4 { layout linear }\n" + (
    HEAD + "in x : line[M by offsets, K]; in w : nvfp4[E, N, K]; in ts : f32[]; in rng : u64[2]\n"
    " out q : line[M by offsets, N]; out p : nvfp4[M by offsets, N]\n h = x @ w.T\n"
    " q = quantize(h, tensor_scale = ts)\n p = quantize(h, tensor_scale = ts, rounding = stochastic(rng, stream = 3))\n"
    "}\n"
)
TWO = (
    HEAD + "in x : nvfp4[M by offsets, K]; in w : nvfp4[E, N, K]; in v : nvfp4[E, N, K]; in rng : u64[2]\n"
    " param beta : f32 = 0.5\n inout y : bf16[M by offsets, N]; out turned : f32[N, M by offsets]\n"
    " h = swiglu(x @ w.T, x @ v.T)\n y = where(uniform(rng) < 0.5, h, 0) + beta * y\n turned = h.T\n}\n"
)
BLOCKS = "format wide { element e4m3; scale f32 per 1 x 128; layout linear; quantizer absmax }\n" + (
    HEAD + "in x : bf16[M by offsets, K]; in w : nvfp4[E, N, K]\n out q : wide[M by offsets, N]\n"
    " q = quantize(relu(x @ w.T))\n}\n"
)


def plain(a: str, b: str, out: str = "bf16") -> str:
    args = f"in x : {a}[M by offsets, K]; in w : {b}[E, N, K]\n out y : {out}[M by offsets, N]\n"
    return f"{HEAD}{args} y = x @ w.T\n}}\n"


def schedule(fields: str) -> str:
    return f"schedule k on sm_100a {{ {fields} }}\n"


def ragged(
    artifact: Artifact, counts: Sequence[int], *, seed: int = 0, poisoned: int | None = None, sms: int = 3, **dims: int
) -> Trial:
    """A call with groups of these sizes. `poisoned`: a group whose rows of x are NaN."""
    offsets = np.cumsum([0, *counts]).astype(np.int32)
    dims = {"E": len(counts), "M": int(offsets[-1]), **dims}
    inputs = dict(random_inputs(artifact.manifest, dims, seed=seed, given={"offsets": offsets}), offsets=offsets)
    if poisoned is not None:
        inputs["x"] = spoiled(inputs["x"], slice(*offsets[poisoned : poisoned + 2]))
    mode = "delayed" if seed % 2 else "immediate"
    kernel = artifact.load_kernel(EmulatorDevice(mode=mode, seed=seed, sms=sms))
    return run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)


def spoiled(x: Any, rows: Any) -> Any:
    """x with rows of NaN, codes and scales. `rows` is an index: a slice of them, or a mask [E, M]."""
    if not isinstance(x, Quantized):
        x = x.copy()
        x[rows] = np.iinfo(x.dtype).max if x.dtype.kind in "iu" else np.nan
        return x
    codes, grid = x.codes.copy(), np.array(x.scale_grid())
    codes[rows] = 0x7F
    blocks = rows if isinstance(rows, np.ndarray) else (slice(None), rows)
    grid[blocks] = np.nan if x.format.scale == "f32" else {"e8m0": 0xFF, "e4m3": 0x7F}[str(x.format.scale)]
    scales = to_buffer(grid, x.format, x.shape, x.offsets)
    return Quantized(codes, scales, x.tensor_scale, x.format, x.shape, x.offsets)


SIZES = [(0,), (1,), (127, 128), (0, 0, 257, 1, 0), (5, 0, 130), (0,) * 7 + (40,), (129, 300)]
FEW = [(3, 0, 129), (130, 1, 0, 127)]


def check(
    compiler: Compiler, text: str, sizes: Sequence[Sequence[int]] = SIZES, target: str = "sm_100a", **dims: int
) -> None:
    artifact = compiler.artifact(text, target)
    for seed, counts in enumerate(sizes):
        poisoned = next((e for e, n in enumerate(counts) if n), None) if seed % 2 else None
        trial = ragged(artifact, counts, seed=seed, poisoned=poisoned, **dims)
        assert trial.equal, (counts, poisoned, trial.comparisons)


def masked(text: str) -> str:
    """The kernel with masked rows for ragged ones: E batches of M rows, of which `counts` say how many are used."""
    return text.replace("in offsets : i32[E + 1]", "in counts : i32[E]").replace("M by offsets", "E, M upto counts")


def check_masked(compiler: Compiler, text: str, target: str = "sm_100a", **dims: int) -> None:
    """Rows past the count are poisoned; the trial's outputs hold a pattern there that must stay."""
    artifact = compiler.artifact(text, target)
    for seed, (m, counts) in enumerate([(200, (0, 200, 129)), (128, (1, 128)), (3, (0, 0, 2, 3, 1))]):
        sizes = {"E": len(counts), "M": m, **dims}
        inputs = dict(random_inputs(artifact.manifest, sizes, seed=seed), counts=np.array(counts, np.int32))
        inputs["x"] = spoiled(inputs["x"], np.arange(m)[None, :] >= np.array(counts)[:, None])
        kernel = artifact.load_kernel(EmulatorDevice(mode="delayed" if seed % 2 else "immediate", seed=seed, sms=3))
        trial = run_trial(kernel, artifact.load_kernel("reference"), inputs, sizes)
        assert trial.equal, (counts, trial.comparisons)


def test_groups_of_every_size(compiler: Compiler) -> None:
    text = plain("nvfp4", "nvfp4") + schedule("tile 128 x 128 x 256; cluster 1 x 1")
    check(compiler, text, [(1, 0, 127, 128), (0, 300, 0)], N=72, K=288)


@pytest.mark.slow
def test_groups_of_every_size_in_many_calls(compiler: Compiler) -> None:
    text = plain("nvfp4", "nvfp4") + schedule("tile 128 x 128 x 256; cluster 1 x 1")
    check(compiler, text, N=72, K=288)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [
    "tile 128 x 64 x 256; cluster 1 x 1", "tile 128 x 192 x 256; cluster 2 x 1", "tile 256 x 128 x 256; cluster 2 x 2",
    "tile 256 x 256 x 256; cluster 2 x 1; raster along_m", "tile 128 x 128 x 256; cluster 4 x 2; raster 2",
])  # fmt: skip
def test_every_schedule(compiler: Compiler, fields: str) -> None:
    check(compiler, plain("nvfp4", "nvfp4", "f32") + schedule(fields), FEW, N=520, K=288)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize(("a", "b"), [
    ("nvfp4", "nvfp4"), ("mxfp8_e4m3", "mxfp4"), ("mxfp4", "mxfp4"), ("bf16", "bf16"), ("e4m3", "e5m2"),
    ("bf16", "nvfp4"), ("f16", "nvfp4"), ("ds_act", "ds_weight"),
])  # fmt: skip
def test_every_kind_of_operand(compiler: Compiler, target: str, a: str, b: str) -> None:
    check(compiler, plain(a, b), FEW, target, N=144, K=384)
    check_masked(compiler, masked(plain(a, b)), target, N=144, K=384)


EPILOGUES = {
    "all": EPILOGUE, "gated": GATED.replace("GROUP", "1"), "halves": GATED.replace("GROUP", "F"), "linear": LINEAR,
    "two": TWO, "blocks": BLOCKS,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("name", EPILOGUES)
def test_every_epilogue(compiler: Compiler, target: str, name: str) -> None:
    check(compiler, EPILOGUES[name], FEW, target, N=256, K=256)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("name", [name for name in EPILOGUES if name not in ("all", "two")])
def test_every_epilogue_of_masked_rows(compiler: Compiler, target: str, name: str) -> None:
    check_masked(compiler, masked(EPILOGUES[name]), target, N=256, K=256)


@pytest.mark.slow
def test_every_plan_by_size() -> None:
    """Plans are picked by the average of rows in a group: each is right, whatever the groups are."""
    head = "kernel k(E, M, N = 768, K = 512) {\n in offsets : i32[E + 1]\n "
    args = "in x : nvfp4[M by offsets, K]; in w : nvfp4[E, N, K]\n out y : bf16[M by offsets, N]\n y = x @ w.T\n}\n"
    artifact = fp4cc.compile(head + args, "sm_100a", plans=6)
    used = set[str]()
    for seed, counts in enumerate([(2, 0, 5, 1), (130, 0, 160), (1,) * 20]):
        dims = {"E": len(counts), "M": sum(counts)}
        used.add(artifact.load_kernel("emulator").resolve({**dims, "N": 768, "K": 512}).launches[0].module)
        trial = ragged(artifact, counts, seed=seed, poisoned=0 if seed % 2 else None)
        assert trial.equal, (counts, trial.comparisons)
    assert len(used) > 1


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_many_groups(compiler: Compiler, target: str) -> None:
    """More groups than the 32 that are looked at together, with long runs of empty ones."""
    artifact = compiler.artifact(EPILOGUE, target)
    rng = np.random.default_rng(3)
    for seed, groups in enumerate((17, 32, 33, 64, 100, 512)):
        counts = rng.integers(0, 12, groups) * (rng.random(groups) < 0.3)
        counts[int(rng.integers(groups))] += 130
        assert ragged(artifact, [int(n) for n in counts], seed=seed, sms=5, N=64, K=64).equal


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("name", ["all", "gated"])
def test_random_groups(compiler: Compiler, target: str, name: str) -> None:
    artifact = compiler.artifact(EPILOGUES[name], target)

    @settings(max_examples=75)
    @given(
        st.lists(st.one_of(st.just(0), st.integers(1, 40), st.integers(120, 140)), min_size=1, max_size=12),
        st.integers(0, 1000), st.integers(1, 9), st.integers(0, 11), st.sampled_from([128, 256]),
    )  # fmt: skip
    def every(counts: list[int], seed: int, sms: int, poisoned: int, n: int) -> None:
        def run() -> Trial:
            return ragged(artifact, counts, seed=seed, sms=sms, poisoned=poisoned % len(counts), N=n, K=128)

        if name == "all" and not sum(counts):  # `max(h, over = M)` has no value of no rows
            with pytest.raises(ConstraintError, match="'M > 0'"):
                run()
            return
        trial = run()
        assert trial.equal, trial.comparisons

    every()
