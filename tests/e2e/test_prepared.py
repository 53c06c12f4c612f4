"""Weights that are prepared: rows of e5m2 are made once, and plans of their own read them. Results do not change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fp4rt
from fp4cc.driver.request import PREPARED_PLANS, Request
from fp4cc.driver.spec import Spec
from fp4cc.driver.stages import only_plans
from fp4cc.ir.lowered import FoldRows, WgmmaFp8
from fp4num import decode
from fp4rt.devices.emulator import EmulatorDevice

FAST = "matmul(x, w.T, accumulate = fast)"
LINES = "format lines extends mxfp4 { layout linear }\n"
STATIC = (
    f"kernel k(M = 72, N = 40, K = 96) {{ in x : fp8_token[M, K]; in w : mxfp4[N, K]; out y : f32[M, N]; y = {FAST} }}"
)
SPECS = {
    "tokens": f"kernel k(M, N, K) {{ in x : fp8_token[M, K]; in w : mxfp4[N, K]; out y : bf16[M, N]; y = {FAST} }}",
    "plain": f"{LINES}kernel k(M, N, K) {{ in x : e5m2[M, K]; in w : lines[N, K]; in b : bf16[N]; out y : f32[M, N]\n"
    f"y = gelu({FAST} + b) }}",
    "experts": "kernel k(L, M, N, K) { in x : fp8_token[L, M, K]; in w : mxfp4[L, N, K]; inout r : bf16[L, M, N]\n"
    f"out q : mxfp8[L, M, N]; out top : f32[]; h = {FAST} + r; r = h; q = quantize(h)\n"
    "top = max(abs(h), over = (L, M, N)) }",
}


@dataclass(frozen=True)
class Loaded:
    """A kernel on the emulator, always on its prepared plans where a value is prepared, and on the reference."""

    emulated: fp4rt.Kernel
    reference: fp4rt.Kernel


def load(compiler: Any, text: str, **how: Any) -> Loaded:
    """The kernel with its plans for prepared weights and the one that always applies: no more is compiled."""
    lowered = compiler.lowered(text, "sm_90a")
    assert isinstance(lowered.prepared[0].engine, WgmmaFp8)
    assert isinstance(lowered.prepared[0].preparation.launch.engine, FoldRows)
    request = Request(Spec("k.fp4", text, None), "sm_90a", only={"k": (PREPARED_PLANS, 0)})
    artifact = compiler.built(only_plans(lowered, request), "sm_90a")
    return Loaded(artifact.load_kernel(EmulatorDevice(**how)), artifact.load_kernel("reference"))


def weights(shape: tuple[int, ...], seed: int, spread: tuple[int, int], fmt: Any = "mxfp4") -> fp4rt.Quantized:
    """Random codes, a fifth of whose blocks are zeros, and scales between two codes."""
    numbers = np.random.default_rng(seed)
    *rows, k = shape
    codes = numbers.integers(0, 256, (*rows, k // 32, 16), np.uint8)
    codes[numbers.random((*rows, k // 32)) < 0.2] = 0x80
    scales = numbers.integers(spread[0], spread[1] + 1, (math.prod(rows[:-1]), rows[-1], k // 32), np.uint8)
    return fp4rt.Quantized.from_parts(codes.reshape(*rows, k // 2), scales.reshape(*rows, k // 32), None, fmt, shape,
                                      layout="linear", nan_blocks=True)  # fmt: skip


def made(w: fp4rt.Quantized) -> np.ndarray[Any, Any]:
    """The numbers that a buffer of prepared weights holds: each element times its row's factor."""
    buffer, (*rows, k) = w.prepared.buffer, w.shape
    count = math.prod(rows)
    elements = decode(buffer[: count * k], "e5m2").reshape(*rows, k)
    factors = buffer[count * k : count * k + 4 * count].copy().view(np.float32).reshape(*rows, 1)
    assert buffer[count * k + 4 * count :].tobytes() == bytes(4)
    return elements.astype(np.float64) * factors


def equal(loaded: Loaded, w: fp4rt.Quantized, inputs: dict[str, Any]) -> None:
    """The same outputs on prepared weights, on these as they are, and by the reference."""
    prepared = loaded.emulated.prepare(w=w)
    assert prepared.codes is w.codes
    assert prepared.natural().prepared is None
    results: list[dict[str, Any]] = []
    for kernel, value in ((loaded.reference, w), (loaded.emulated, w), (loaded.emulated, prepared)):
        own = {name: x.copy() if name == "r" else x for name, x in inputs.items()}
        results.append(kernel(**own, w=value))
    expected, *others = results
    for found in others:
        for name, value in expected.items():
            for piece in ("codes", "scales") if isinstance(value, fp4rt.Quantized) else (None,):
                one, two = (x if piece is None else getattr(x, piece) for x in (value, found[name]))
                assert np.array_equal(np.atleast_1d(one).view(np.uint8), np.atleast_1d(two).view(np.uint8)), name


@pytest.mark.slow
def test_prepared_weights_are_the_same_numbers(compiler: Any) -> None:
    loaded = load(compiler, STATIC)
    w = weights((40, 96), 1, (101, 127))
    prepared = loaded.emulated.prepare(w)
    assert prepared.prepared.unfit == 0
    assert np.array_equal(made(prepared), fp4rt.dequantize(w).astype(np.float64))
    assert loaded.emulated.resolve({"M": 72, "N": 40, "K": 96}, frozenset("w")).takes == "w"
    inputs = fp4rt.random_inputs(loaded.emulated.manifest, {"M": 72, "N": 40, "K": 96}, 3)
    equal(loaded, inputs.pop("w"), inputs)
    wide = loaded.emulated.prepare(weights((40, 96), 2, (60, 127)))
    assert wide.prepared.unfit > 0
    assert wide.prepared.buffer is None
    assert f"in vain: scales of {wide.prepared.unfit} rows" in repr(wide)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_results_do_not_change(name: str, compiler: Any, data: st.DataObject) -> None:
    """Sums that are exact in any order, so that all three are equal to the bit."""
    loaded = kept(compiler, name, data.draw(st.sampled_from(["immediate", "delayed"])))
    dims = {
        "M": data.draw(st.integers(65, 200)),
        "N": data.draw(st.integers(1, 6)) * 32 if name == "experts" else data.draw(st.integers(1, 200)),
        "K": 32 * data.draw(st.integers(1, 12)),
        **({"L": data.draw(st.integers(1, 3))} if name == "experts" else {}),
    }
    assert loaded.emulated.manifest.prepared[0].variants
    inputs = fp4rt.random_inputs(loaded.emulated.manifest, dims, data.draw(st.integers(0, 99)))
    equal(loaded, inputs.pop("w"), inputs)


_kept: dict[tuple[str, str], Loaded] = {}


def kept(compiler: Any, name: str, mode: str) -> Loaded:
    """A kernel that is compiled once for all examples."""
    if (name, mode) not in _kept:
        _kept[name, mode] = load(compiler, SPECS[name], mode=mode, seed=1, sms=2, order="strict")
    return _kept[name, mode]


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(low=st.integers(0, 254), more=st.integers(0, 60), seed=st.integers(0, 99), n=st.integers(1, 9))
def test_rows_fit_where_e5m2_holds_them(name: str, compiler: Any, low: int, more: int, seed: int, n: int) -> None:
    """By the rule of docs/numerics.md: within 26 below a row's largest scale, which is at most 252; zeros anywhere."""
    loaded = kept(compiler, name, "immediate")
    shape = (2, n, 320) if name == "experts" else (n, 320)
    w = weights(shape, seed, (low, min(255, low + more)), loaded.emulated.manifest.kernel.arg("w").format)
    scales = w.scale_grid()
    used = (w.codes.reshape(*scales.shape, 16) & 0x77).any(axis=-1)
    largest = scales.max(axis=-1, keepdims=True).astype(int)
    fits = (largest <= 252).all(axis=-1) & ((scales >= largest - 26) | ~used).all(axis=-1)
    found = loaded.emulated.prepare(w)
    assert found.prepared.unfit == fits.size - fits.sum()
    if fits.all():
        assert np.array_equal(made(found), fp4rt.dequantize(w).astype(np.float64))
    else:
        assert found.prepared.buffer is None
