"""Rows by number, `x[rows]`: as left operands of products, of inputs elsewhere, on both targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4cc.diagnostics import DiagnosticError
from fp4num import Quantized
from fp4num.scale_arrays import to_buffer
from fp4rt import Artifact, random_inputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.trial import Trial, run_trial
from tests.e2e.conftest import Compiler
from tests.e2e.test_groups import spoiled

TARGETS = ("sm_100a", "sm_90a")
HEAD = "kernel k(M, S, N, K) {\n in rows : i32[M]\n "


def plain(a: str, b: str, out: str = "bf16", head: str = HEAD) -> str:
    return f"{head}in x : {a}[S, K]; in w : {b}[N, K]\n out y : {out}[M, N]\n y = x[rows] @ w.T\n}}\n"


def grouped(a: str, b: str, out: str = "bf16") -> str:
    return (
        "kernel k(E, M, S, N, K) {\n in offsets : i32[E + 1]\n in rows : i32[M by offsets]\n"
        f" in x : {a}[S, K]; in w : {b}[E, N, K]\n out y : {out}[M by offsets, N]\n y = x[rows] @ w.T\n}}\n"
    )


def gathering(
    artifact: Artifact, dims: dict[str, int], seed: int = 0, counts: tuple[int, ...] | None = None, sms: int = 3,
    rows: Any = None, masked_by: Any = None,
) -> Trial:  # fmt: skip
    """A call with random row numbers, or with `rows`. Rows that none of them numbers are NaN."""
    offsets = None if counts is None else np.cumsum([0, *counts]).astype(np.int32)
    if offsets is not None:
        dims = {"E": len(offsets) - 1, "M": int(offsets[-1]), **dims}
    inputs = dict(random_inputs(artifact.manifest, dims, seed=seed))
    if offsets is not None:
        inputs["offsets"] = offsets
    if rows is not None:
        inputs["rows"] = np.asarray(rows, np.int32)
    if masked_by is not None:
        inputs["counts"] = np.asarray(masked_by, np.int32)
    for name in ("x", "r", "s"):
        if name in inputs:
            inputs[name] = without_others(inputs[name], inputs["rows"])
    kernel = artifact.load_kernel(EmulatorDevice(mode="delayed" if seed % 2 else "immediate", seed=seed, sms=sms))
    return run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)


def without_others(x: Any, rows: Any) -> Any:
    """x with NaN in the rows that have no number, codes and scales."""
    unused = np.ones(x.shape[0], np.bool_)
    numbers = np.asarray(rows)
    unused[numbers[(numbers >= 0) & (numbers < x.shape[0])]] = False
    if not isinstance(x, Quantized):
        return spoiled(x, unused)
    codes, grid = x.codes.copy(), np.array(x.scale_grid())
    codes[unused] = 0x7F
    tall = x.format.stored[0]
    alone = unused[:: tall if isinstance(tall, int) else 1] if tall == 1 else np.zeros(grid.shape[1], np.bool_)
    grid[:, alone] = np.nan if x.format.scale == "f32" else {"e8m0": 0xFF, "e4m3": 0x7F}[str(x.format.scale)]
    return Quantized(codes, to_buffer(grid, x.format, x.shape, None), x.tensor_scale, x.format, x.shape)


def random_rows(seed: int, shape: tuple[int, ...], count: int) -> Any:
    """Numbers of rows 1 to `count` - 1, -1 here and there."""
    rng = np.random.default_rng(seed)
    return np.where(rng.integers(0, 8, shape) == 0, -1, rng.integers(1, count, shape)).astype(np.int32)


@pytest.mark.parametrize("target", TARGETS)
def test_rows_of_a_plain_operand(compiler: Compiler, target: str) -> None:
    artifact = compiler.artifact(plain("bf16", "bf16"), target)
    for seed, (m, s) in enumerate([(150, 40), (0, 3), (0, 0)]):
        trial = gathering(artifact, {"M": m, "S": s, "N": 72, "K": 136}, seed)
        assert trial.equal, (m, s, trial.comparisons)


def masked(text: str) -> str:
    return text.replace("in offsets : i32[E + 1]", "in counts : i32[E]").replace("M by offsets", "E, M upto counts")


KINDS = [
    ("bf16", "bf16"), ("f16", "nvfp4"), ("nvfp4", "nvfp4"), ("mxfp8", "mxfp4"), ("nvfp4", "bf16"), ("e4m3", "nvfp4"),
    ("fp8_token", "mxfp4"), ("ds_act", "ds_weight"),
]  # fmt: skip
#: What sm_90a multiplies by its fp8 instructions, and does not convert: FP8 with scales along K.
FAST = [("e4m3", "e4m3"), ("ds_act", "ds_weight"), ("e4m3", "mxfp4")]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("a", "b"), KINDS)
def test_every_kind_of_operand(compiler: Compiler, target: str, a: str, b: str) -> None:
    if (target, a) == ("sm_90a", "ds_act"):
        with pytest.raises(DiagnosticError, match="FP4053"):
            compiler.lowered(plain(a, b), target)
        return
    dims = {"S": 37, "N": 144, "K": 384}
    artifact = compiler.artifact(plain(a, b), target)
    for seed, m in enumerate([1, 130, 300]):
        trial = gathering(artifact, {"M": m, **dims}, seed)
        assert trial.equal, (m, trial.comparisons)
    artifact = compiler.artifact(grouped(a, b), target)
    for seed, counts in enumerate([(3, 0, 129), (130, 1, 0, 127), (0, 0)]):
        trial = gathering(artifact, dims, seed, counts)
        assert trial.equal, (counts, trial.comparisons)
    artifact = compiler.artifact(masked(grouped(a, b)), target)
    for seed, (m, counts) in enumerate([(140, (130, 0, 1)), (3, (3, 2))]):
        rows = random_rows(seed, (len(counts), m), dims["S"])
        rows[np.arange(m)[None, :] >= np.array(counts)[:, None]] = 0  # rows past a count number what is poisoned
        trial = gathering(artifact, {"M": m, "E": len(counts), **dims}, seed, rows=rows, masked_by=counts)
        assert trial.equal, (counts, trial.comparisons)


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), FAST)
def test_fast_sums_of_rows(compiler: Compiler, a: str, b: str) -> None:
    fast = "matmul(x[rows], w.T, accumulate = fast)"
    artifact = compiler.artifact(plain(a, b).replace("x[rows] @ w.T", fast), "sm_90a")
    for seed, m in enumerate([1, 200]):
        trial = gathering(artifact, {"M": m, "S": 37, "N": 144, "K": 384}, seed)
        assert trial.equal, (m, trial.comparisons)


KERNELS = {
    "elements": "kernel k(M, S, N) {\n in rows : i32[M]; in x : bf16[S, N]; in s : f32[S]; in b : f32[M, N]\n"
    " out y : f32[M, N]; out top : f32[M]\n h = silu(x[rows]) * s[rows] + b\n y = h\n top = max(h, over = N)\n}\n",
    "quantizer": "kernel k(E, M, S, N) {\n in offsets : i32[E + 1]; in rows : i32[M by offsets]\n in x : bf16[S, N]\n"
    " in ts : f32[]\n out q : nvfp4[M by offsets, N]; out p : mxfp8[M by offsets, N]\n"
    " q = quantize(x[rows], tensor_scale = ts)\n p = quantize(2 * x[rows])\n}\n",
    "epilogue": "kernel k(E, M, S, N, K) {\n in offsets : i32[E + 1]; in rows : i32[M by offsets]\n in x : bf16[S, K]\n"
    " in w : bf16[E, N, K]; in r : f16[S, N]; in s : f32[S]\n out y : bf16[M by offsets, N]\n"
    " y = x[rows] @ w.T * s[rows] + r[rows]\n}\n",
}  # fmt: skip
COMBINE = (
    "kernel k(T, J = TERMS, M, D) {\n in w : f32[T, J]; in inverse : i32[T, J]; in z : bf16[M, D]\n"
    " out y : f32[T, D]; out most : f32[T, D]; out m : bf16[T, D]\n h = w * z[inverse]\n y = sum(h, over = J)\n"
    " most = max(h, over = J)\n m = 2 * mean(h, over = J)\n}\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KERNELS)
def test_rows_elsewhere_than_in_a_product(compiler: Compiler, target: str, name: str) -> None:
    artifact = compiler.artifact(KERNELS[name], target)
    dims = {"S": 19, "N": 160, **({"K": 64} if name == "epilogue" else {})}
    for seed, counts in enumerate([(140, 0, 3), (0, 0), (1,)]):
        trial = gathering(artifact, {"M": sum(counts), **dims}, seed, None if name == "elements" else counts)
        assert trial.equal, (counts, trial.comparisons)


def combining(compiler: Compiler, target: str, terms: int, tokens: int, rows: int, columns: int, seed: int) -> Trial:
    artifact = compiler.artifact(COMBINE.replace("TERMS", str(terms)), target)
    dims = {"T": tokens, "M": rows, "D": columns}
    inputs = random_inputs(artifact.manifest, dims, seed=seed)
    inputs["z"] = without_others(inputs["z"], inputs["inverse"])
    kernel = artifact.load_kernel(EmulatorDevice(mode="delayed" if seed % 2 else "immediate", seed=seed, sms=3))
    return run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)


def test_weighted_sums_of_rows(compiler: Compiler) -> None:
    trial = combining(compiler, "sm_90a", 3, 40, 25, 40, 1)
    assert trial.equal, trial.comparisons


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("terms", [1, 2, 8, 33])
def test_weighted_sums_of_so_many_rows(compiler: Compiler, target: str, terms: int) -> None:
    for seed, (tokens, rows, columns) in enumerate([(130, 70, 96), (0, 5, 64), (3, 1, 33)]):
        trial = combining(compiler, target, terms, tokens, rows, columns, seed)
        assert trial.equal, (tokens, rows, columns, trial.comparisons)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_random_rows(compiler: Compiler, target: str) -> None:
    artifact = compiler.artifact(grouped("bf16", "bf16"), target)

    @settings(max_examples=40)
    @given(
        st.lists(st.one_of(st.just(0), st.integers(1, 40), st.integers(120, 140)), min_size=1, max_size=9),
        st.integers(1, 50), st.integers(0, 999), st.integers(1, 7), st.sampled_from([16, 72]),
    )  # fmt: skip
    def every(counts: list[int], there: int, seed: int, sms: int, n: int) -> None:
        trial = gathering(artifact, {"S": there, "N": n, "K": 72}, seed, tuple(counts), sms)
        assert trial.equal, trial.comparisons

    every()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("text", [plain("bf16", "bf16"), plain("nvfp4", "nvfp4"), KERNELS["elements"]])
def test_numbers_of_no_rows_read_nothing(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch, target: str, text: str
) -> None:
    """What a device that is not looked at may hold: zeros for it, and the emulator faults where memory is left."""
    monkeypatch.setattr("fp4rt.signature.check_row_numbers", lambda *_: None)
    artifact = compiler.artifact(text, target)
    rows = np.array([0, 6, 7, -1, -2, 1 << 30, -(1 << 31), (1 << 31) - 1, 3], np.int32)
    dims = {"M": len(rows), "S": 7, "N": 64, **({"K": 128} if "K" in text else {})}
    trial = gathering(artifact, dims, rows=rows)
    assert trial.equal, trial.comparisons


SCATTERED = {
    "elements": "kernel k(M, S, N) {\n in rows : i32[M]; in x : bf16[M, N]; in b : f32[N]\n inout y : f32[S, N]\n"
    " inout z : bf16[S, N]\n out top : f32[M]\n y[rows] = 2 * x + b\n z[rows] = x\n top = max(x, over = N)\n}\n",
    "groups": "kernel k(E, M, S, N, K) {\n in offsets : i32[E + 1]; in rows : i32[M by offsets]\n"
    " in x : bf16[M by offsets, K]; in w : bf16[E, N, K]; in alpha : f32[E]\n inout y : bf16[S, N]\n"
    " inout z : f32[S, N]\n h = x @ w.T\n y[rows] = alpha * h\n z[rows] = h\n}\n",
    "weights": "kernel k(M, S, N, K) {\n in rows : i32[M]; in x : bf16[M, K]; in w : nvfp4[N, K]\n"
    " inout y : bf16[S, N]\n y[rows] = x @ w.T\n}\n",
    "pair": "kernel k(M, S, N, K) {\n in rows : i32[M]; in x : nvfp4[M, K]; in w : nvfp4[N, K]\n"
    " inout y : bf16[S, N]\n y[rows] = x @ w.T\n}\n",
    "there and back": "kernel k(M, R, S, N, K) {\n in from_ : i32[M]; in rows : i32[M]; in x : bf16[R, K]\n"
    " in w : bf16[N, K]\n inout y : f32[S, N]\n y[rows] = x[from_] @ w.T\n}\n",
}  # fmt: skip


def scattering(artifact: Artifact, dims: dict[str, int], seed: int, counts: tuple[int, ...] | None) -> Trial:
    if counts is not None:
        dims = {"E": len(counts), "M": sum(counts), **dims}
    inputs = dict(random_inputs(artifact.manifest, dims, seed=seed))
    if counts is not None:
        inputs["offsets"] = np.cumsum([0, *counts]).astype(np.int32)
    kernel = artifact.load_kernel(EmulatorDevice(mode="delayed" if seed % 2 else "immediate", seed=seed, sms=3))
    return run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SCATTERED)
def test_rows_stored_by_number(compiler: Compiler, target: str, name: str) -> None:
    """Rows that are not listed hold what they held."""
    artifact = compiler.artifact(SCATTERED[name], target)
    sizes = {"elements": {}, "there and back": {"R": 9}}.get(name, {}) | ({} if name == "elements" else {"K": 64})
    for seed, (m, s, n) in enumerate([(140, 200, 96), (0, 3, 64), (7, 5, 40)]):
        counts = (m - m // 3, 0, m // 3) if name == "groups" else None
        trial = scattering(artifact, {"S": s, "N": n, **sizes, **({} if counts else {"M": m})}, seed, counts)
        assert trial.equal, (m, s, n, trial.comparisons)


CODES = {
    "two numbers": "kernel k(M, S, N) {\n in p : i32[M]; in q : i32[M]; in z : {fmt}[S, N]\n out y : bf16[M, N]\n"
    " y = dequantize(z[p]) + 2 * dequantize(z[q])\n}\n",
    "a sum": "kernel k(M, J = 4, S, N) {\n in p : i32[M, J]; in w : f32[M, J]; in z : {fmt}[S, N]\n"
    " out y : bf16[M, N]\n y = sum(w * dequantize(z[p]), over = J)\n}\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fmt", "target"),
    [
        pytest.param(name, fmt, target, marks=() if (fmt, target) == ("mxfp4", "sm_100a") else pytest.mark.slow)
        for name in CODES
        for fmt in ("mxfp4", "nvfp4", "mxfp8")
        for target in TARGETS
    ],
)
def test_rows_of_codes_by_several_numbers(compiler: Compiler, name: str, fmt: str, target: str) -> None:
    """One argument with scales, of which different rows are read for one result."""
    artifact = compiler.artifact(CODES[name].replace("{fmt}", fmt), target)
    for seed, (m, there) in enumerate([(20, 30), (0, 1)]):
        dims = {"M": m, "S": there, "N": 128}
        trial = gathering(artifact, dims, seed)
        assert trial.equal, trial.comparisons
