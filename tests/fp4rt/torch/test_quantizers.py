"""Quantizing by compiled kernels: the bytes of numpy's, and numpy where no kernel does it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

import fp4num
import fp4rt
from fp4cc.supply import artifact
from fp4num import FORMATS, Quantized
from fp4rt import quantizing
from fp4rt.quantizing import kernel_names, quantize_by_kernel

pytestmark = pytest.mark.torch

TYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
one_plan = functools.partial(artifact, plans=1)


def values(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Magnitudes over many binades, with zeros of both signs among them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * np.exp2(rng.integers(-9, 9, shape)) * (rng.random(shape) > 0.05)
    return torch.from_numpy(x.astype(np.float32)).to(dtype)


def same(found: Quantized | None, wanted: Quantized) -> bool:
    assert found is not None
    pairs = [(found.codes, wanted.codes), (found.scales, wanted.scales), (found.tensor_scale, wanted.tensor_scale)]
    return found.shape == wanted.shape and all(a is b is None or torch.equal(a, b) for a, b in pairs)


def check(name: str, device: str, shape: tuple[int, ...]) -> None:
    rest, _, scale = name.rpartition("_")
    fmt, _, source = rest.rpartition("_")
    x = values(*shape, dtype=TYPES[source])
    options: dict[str, Any] = {"tensor_scale": torch.tensor(0.37)} if scale == "given" else {}
    found = quantize_by_kernel(x, FORMATS[fmt], options.get("tensor_scale"), None, device, one_plan)
    assert same(found, fp4num.quantize(x, fmt, **options))


@pytest.mark.parametrize("name", kernel_names())
def test_a_kernels_bytes_are_numpys(name: str) -> None:
    check(name, "reference", (130, 256))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("name", [n for n in kernel_names() if "f16_" not in n or "bf16" in n])
def test_a_compiled_kernels_bytes_are_numpys(name: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizing.supply, "device_and_target", lambda *_: ("emulator", target))
    check(name, "emulator", (40, 256))


def test_batches_strides_and_given_magnitudes() -> None:
    quantized = functools.partial(quantize_by_kernel, device="reference", source=artifact)
    f, x = FORMATS["nvfp4"], values(2, 3, 72, 64, dtype=torch.bfloat16)
    assert same(quantized(x, f, None, None), fp4num.quantize(x, f))
    across = values(64, 96, dtype=torch.bfloat16).T
    assert same(quantized(across, f, None, None), fp4num.quantize(across, f))
    amax = torch.tensor(900.0)
    assert same(quantized(x[0], f, None, amax), fp4num.quantize(x[0], f, amax=amax))


def test_numpy_judges_what_is_not_ordinary() -> None:
    """Values without a largest magnitude, options that kernels do not take, and formats that have no kernel."""
    quantized = functools.partial(quantize_by_kernel, device="reference", source=artifact)
    f, x = FORMATS["nvfp4"], values(32, 64, dtype=torch.bfloat16)
    whole, odd = x.clone(), x.clone()
    whole[3, 4], odd[3, 4] = float("inf"), float("nan")
    for wrong in (torch.zeros_like(x), whole):
        assert quantized(wrong, f, None, None) is None
    assert same(quantized(odd, f, None, None), fp4num.quantize(odd, f))
    assert quantized(x[0], f, None, None) is None
    assert quantized(x[:0], f, None, None) is None
    assert quantized(x[:, :56], f, None, None) is None
    assert quantized(x.double(), f, None, None) is None
    assert quantized(x, f, torch.tensor(-1.0), None) is None
    assert quantized(x, f, torch.tensor(1.0), torch.tensor(1.0)) is None
    assert quantized(x, FORMATS["mxfp4"], None, torch.tensor(1.0)) is None
    assert quantized(x, FORMATS["fp8_token"], None, None) is None


def test_a_tensor_on_a_gpu_goes_to_the_kernel_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU: what stands for the GPU is the reference, and calls are counted."""
    calls: list[str] = []

    class Cuda:
        type = "cuda"

    class OnGpu(torch.Tensor):
        device = Cuda()

        def get_device(self) -> int:
            return 0

    def run(x: Any, f: Any, tensor_scale: Any, amax: Any, device: str) -> None:
        calls.append(f"{f.name} {device}")

    monkeypatch.setattr(quantizing, "quantize_by_kernel", run)
    monkeypatch.setattr(quantizing.fp4num, "quantize", lambda *_, **__: "numpy's")
    x = values(32, 64, dtype=torch.bfloat16).as_subclass(OnGpu)
    assert fp4rt.quantize(x, "nvfp4") == "numpy's"
    assert calls == ["nvfp4 cuda:0"]
    fp4rt.quantize(x, "nvfp4", rounding="stochastic", rng=(1, 2))
    fp4rt.quantize(x, "nvfp4", quantizer="nvfp4_modelopt")
    fp4rt.quantize(x.as_subclass(torch.Tensor), "nvfp4")
    assert len(calls) == 1


def test_without_anybody_who_has_kernels_there_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(quantizing.supply, "entry_points", lambda **_: ())
    x = values(32, 64, dtype=torch.bfloat16)
    assert quantize_by_kernel(x, FORMATS["mxfp4"], None, None, "reference") is None
    assert quantize_by_kernel(x, FORMATS["mxfp4"], None, None, "reference", tmp_path) is None
