"""Ordinary data: right kernels pass within their bounds, and wrong ones do not.

A kernel that sums in another order is made of the reference itself, with sums in f32 in random order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fp4rt
from fp4cc.driver import read_spec, spec_at
from fp4cc.driver.interpret import interpreted
from fp4cc.driver.request import Request
from fp4num import encode, quantize
from fp4rt import Artifact, random_inputs
from fp4rt.bounded import compare_within_bounds
from fp4rt.reference.products import Terms, Wide
from fp4rt.trial import Trial, run_trial

SIZES = {"M": 33, "N": 64, "K": 256}


def gemm(body: str, outputs: str = "out y : f32[M, N]", a: str = "nvfp4", b: str = "nvfp4", dims: str = "") -> str:
    return f"kernel k(M, N, K{dims}) {{ in a : {a}[M, K]; in b : {b}[N, K]; {outputs}; {body} }}"


ELEMENTWISE = {
    "functions": "y = gelu(h) + silu(h) * tanh(h) - sigmoid(h) * erf(h) + gelu_tanh(-h)",
    "quotients": "y = h / (1 + h * h) + exp(-abs(h)) + log(1 + abs(h)) + rsqrt(1 + h * h) - sqrt(abs(h))",
    "choices": "y = where(h > 0.5 and not h >= 2, h, 0.01 * h) + min(h, 1) - max(h, -1) + relu(h) + sign(h + 3)",
    "casts": "y = bf16(h) + f16(h) + e4m3(h) * e5m2(h) + fma(h, h, h)",
}
SPECS = {
    **{
        name: gemm(f"h = s * (a @ b.T); {text}", "in s : f32[]; out y : f32[M, N]")
        for name, text in ELEMENTWISE.items()
    },
    "f32": gemm("y = a @ b.T", a="mxfp8", b="mxfp8"),
    "bf16": gemm("y = a @ b.T", "out y : bf16[M, N]"),
    "e4m3": gemm("y = a @ b.T", "out y : e4m3[M, N]"),
    "weights": gemm("y = a @ b.T", a="bf16"),
    "f32 scales": gemm("y = a @ b.T", a="ds_act", b="ds_weight"),
    "turned": gemm("y = relu(a @ b.T).T", "out y : f32[N, M]"),
    "two sums": gemm(
        "y = a @ b.T + c @ d.T", "in c : bf16[M, 16]; in d : bf16[N, 16]; out y : f32[M, N]", "mxfp8", "mxfp8"
    ).replace("16]", "J]").replace("K)", "K, J)"),
    "extremes": gemm(
        "h = a @ b.T; y = max(h, over = N); z = min(abs(h), over = M); w = max(h, over = all)",
        "out y : f32[M]; out z : f32[N]; out w : f32[]",
    ),
    "sums": gemm(
        "h = a @ b.T; y = sum(h, over = N); z = mean(h, over = M); w = mean_square(h, over = all)",
        "out y : f32[M]; out z : f32[N]; out w : f32[]",
    ),
    "nvfp4": gemm("y = quantize(relu(a @ b.T), tensor_scale = s)", "in s : f32[]; out y : nvfp4[M, N]"),
    "amax": gemm("y = quantize(a @ b.T, amax = s)", "in s : f32[]; out y : nvfp4_2d[M, N]"),
    "mxfp8": gemm("y = quantize(a @ b.T)", "out y : mxfp8[M, N]"),
    "token": gemm("y = quantize(a @ b.T)", "out y : fp8_token[M, N]"),
    "fake": gemm(
        "y = dequantize(quantize(a @ b.T, tensor_scale = s, format = nvfp4)); z = dequantize(quantize(a @ b.T, "
        "format = fp8_token)) + 1", "in s : f32[]; out y : f32[M, N]; out z : f32[M, N]"
    ),
    "stochastic": gemm(
        "y = quantize(a @ b.T, rounding = stochastic(r))", "in r : u64[2]; out y : mxfp4[M, N]"
    ),
    "columns": gemm("y = quantize((a @ b.T).T)", "out y : mxfp8[N, M]"),
    "gated": gemm(
        "g, u = unzip(a @ b.T, N -> F, group = 16); y = quantize(swiglu(g, u), tensor_scale = s)",
        "in s : f32[]; out y : nvfp4[M, F]", dims=", F = N / 2",
    ),
    "hadamard": gemm("y = quantize(hadamard(a @ b.T, over = N, size = 32))", "out y : mxfp4[M, N]"),
}  # fmt: skip


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    folder = tmp_path_factory.mktemp("specs")

    def make(text: str) -> Artifact:
        path = folder / "k.fp4"
        path.write_text(text)
        return interpreted(Request(spec_at(str(path)), "sm_100a", {}, None))

    return make


def ordinary(artifact: Artifact, seed: int) -> tuple[dict[str, Any], dict[str, int]]:
    """Normal numbers for all arguments but the random state."""
    kernel = artifact.manifest.kernel
    dims = {d.name: {**SIZES, "J": 16}[d.name] for d in kernel.dims if d.expr is None}
    if any(arg.name == "y" and arg.format and arg.axes[0].name == "N" for arg in kernel.args):
        dims["M"] = 64
    inputs = random_inputs(artifact.manifest, dims, seed)
    rng = np.random.default_rng(seed)
    for arg in kernel.args:
        if arg.direction == "in" and arg.dtype != "u64":
            x = rng.standard_normal([dims[str(axis.extent)] for axis in arg.axes]).astype(np.float32)
            if arg.format is not None:
                x = quantize(x, arg.format)
            elif arg.dtype == "bf16":
                x = encode(x, "bf16")
            inputs[arg.name] = x if arg.axes else np.float32(0.125).reshape(())
    return inputs, dims


class Shuffled:
    """Sums in f32, one addition at a time, in a random order of terms; `drop` leaves out terms of the first rows."""

    def __init__(self, seed: int, drop: slice | None = None) -> None:
        self._rng = np.random.default_rng(seed)
        self._drop = drop

    def sums(self, terms: Terms) -> Wide:
        total = np.zeros((terms.left.shape[-2], terms.right.shape[-1]), np.float32)
        left = terms.left.copy()
        if self._drop is not None:
            left[:1, self._drop] = 0
        for k in self._rng.permutation(terms.depth):
            total += (left[:, k, None] * terms.right[None, k]).astype(np.float32)
        return total.astype(np.float64)


class Device:
    """The reference with other sums, and perhaps other inputs."""

    def __init__(self, artifact: Artifact, sums: Shuffled, change: Callable[[dict[str, Any]], None] | None = None):
        self._reference, self._sums, self._change = artifact.load_kernel("reference"), sums, change
        self.manifest, self.device = artifact.manifest, "shuffled"

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        if self._change is not None:
            self._change(inputs)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Terms, "sums", lambda terms: self._sums.sums(terms))
            return self._reference(**inputs)


def trial(artifact: Artifact, device: Any, inputs: dict[str, Any], dims: dict[str, int]) -> Trial:
    return run_trial(device, artifact.load_kernel("reference"), inputs, dims, bounded=True)


@pytest.mark.parametrize("name", list(SPECS))
def test_sums_in_another_order_are_within_bounds(artifact: Callable[[str], Artifact], name: str) -> None:
    made = artifact(SPECS[name])
    inputs, dims = ordinary(made, 1)
    found = [trial(made, Device(made, Shuffled(seed)), inputs, dims) for seed in range(3)]
    assert [str(c) for t in found for c in t.comparisons if not c.equal] == []


def _swap_nibbles(inputs: dict[str, Any]) -> None:
    codes = inputs["a"].codes.copy()
    codes[1, 3] = codes[1, 3] >> 4 | (codes[1, 3] & 15) << 4
    assert codes[1, 3] != inputs["a"].codes[1, 3]
    inputs["a"] = replace(inputs["a"], codes=codes)


def _other_scale(inputs: dict[str, Any]) -> None:
    scales = inputs["b"].scales.copy()
    if scales.dtype == np.float32:
        scales[1] *= np.float32(1.01)
    else:
        scales[5 * 16] += 1
    inputs["b"] = replace(inputs["b"], scales=scales)


def _other_code(inputs: dict[str, Any]) -> None:
    codes = inputs["b"].codes.copy()
    codes[7, 100 % codes.shape[1]] ^= 2
    inputs["b"] = replace(inputs["b"], codes=codes)


MISTAKES: dict[str, Any] = {
    "a block of K left out": (slice(32, 64), None),
    "one term left out": (slice(40, 41), None),
    "nibbles swapped": (None, _swap_nibbles),
    "scale of a block": (None, _other_scale),
    "a code": (None, _other_code),
}
#: Outputs in which a mistake in one row or column cannot hide behind a maximum or a coarse rounding.
FINE = ["functions", "quotients", "f32", "bf16", "f32 scales", "turned", "two sums", "sums", "nvfp4", "gated"]


@pytest.mark.parametrize("mistake", list(MISTAKES))
@pytest.mark.parametrize("name", FINE)
def test_mistakes_are_found_in_ordinary_data(artifact: Callable[[str], Artifact], name: str, mistake: str) -> None:
    made = artifact(SPECS[name])
    inputs, dims = ordinary(made, 2)
    drop, change = MISTAKES[mistake]
    if change is _swap_nibbles and inputs["a"].format.bits != 4:
        change = _other_code
    found = trial(made, Device(made, Shuffled(0, drop), change), inputs, dims)
    assert any(c.wrong for c in found.comparisons)


def test_exact_data_stays_equal_bit_for_bit(artifact: Callable[[str], Artifact]) -> None:
    """One unit in the last place of one sum is wrong where sums are exact, and counted where they are not."""
    made = artifact(SPECS["f32"])

    class Off(Shuffled):
        def sums(self, terms: Terms) -> Wide:
            total = super().sums(terms).astype(np.float32)
            total[3, 4] = np.nextafter(total[3, 4], np.float32(np.inf))
            return total.astype(np.float64)

    dims = {"M": 33, "N": 64, "K": 256}
    exact = trial(made, Device(made, Off(0)), random_inputs(made.manifest, dims), dims)
    assert [(c.different, c.wrong, c.first) for c in exact.comparisons] == [(1, 1, (3, 4))]
    assert not exact.equal
    inexact = trial(made, Device(made, Off(0)), *ordinary(made, 3))
    assert inexact.equal
    assert not inexact.identical
    assert inexact.comparisons[0].within == inexact.comparisons[0].different > 1


def test_what_no_bound_is_carried_through_is_named(artifact: Callable[[str], Artifact]) -> None:
    text = "format six extends nvfp4 { quantizer nvfp4_4over6_mse }\n" + gemm(
        "y = quantize(a @ b.T, tensor_scale = s); z = 1 / (a @ b.T - a @ b.T)",
        "in s : f32[]; out y : six[M, N]; out z : f32[M, N]",
        "mxfp8",
        "mxfp8",
    )
    made = artifact(text)
    inputs, dims = ordinary(made, 4)

    class Far(Shuffled):
        def sums(self, terms: Terms) -> Wide:
            return super().sums(terms) * 1.01

    found = {c.name: c for c in trial(made, Device(made, Far(4)), inputs, dims).comparisons}
    assert "the quantizer nvfp4_4over6_mse" in str(found["y.codes"])
    assert found["y.codes"].undecided and not found["y.codes"].equal
    assert found["z"].equal


def test_sums_that_may_overflow_on_the_way_are_undecided() -> None:
    """Terms of both signs past f32's range: an order of additions decides between both infinities and a NaN. What is
    made of such a sum is open too, and sums of terms of one sign are not."""
    text = (
        "kernel k(M, N, K) {\n    in  a : mxfp8[M, K]\n    in  b : mxfp8[N, K]\n    out c : f32[M, N]\n"
        "    out d : f32[M, N]\n    out m : f32[M]\n    s = a @ b.T\n    c = s\n    d = max(sigmoid(s), 0.25)\n"
        "    m = max(s, over = N)\n}\n"
    )
    artifact = interpreted(Request(read_spec(text)))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 64)).astype(np.float32)
    x[0] *= np.float32(2.0**80)  # row 0 overflows in any case, with both signs in columns 1..3 and one in column 0
    x[0] = np.abs(x[0])
    y = rng.standard_normal((4, 64)).astype(np.float32) * np.float32(2.0**70)
    y[0] = np.abs(y[0])
    inputs: dict[str, Any] = {"a": fp4rt.quantize(x, "mxfp8"), "b": fp4rt.quantize(y, "mxfp8")}
    kernel = artifact.manifest.kernel
    expected: dict[str, Any] = dict(artifact.load_kernel("reference")(**inputs))
    found = {name: value.copy() for name, value in expected.items()}
    found["c"][0, 1:] = [-np.inf, np.inf, np.nan]
    found["d"][0, 1] = np.nan
    found["m"][0] = np.nan
    judged = {c.name: c for c in compare_within_bounds(kernel, found, expected, inputs)}
    assert all(c.wrong == 0 and c.undecided for c in judged.values())
    assert "leave f32's range" in str(judged["c"])
    for place in ((0, 0), (1, 1)):  # one sign: infinite in any order; and sums that stay in range
        wrong = {**expected, "c": expected["c"].copy()}
        wrong["c"][place] = -np.inf
        assert compare_within_bounds(kernel, wrong, expected, inputs)[0].wrong == 1
