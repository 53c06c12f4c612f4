"""Torch tensors in host memory, on the reference and the emulator. Collected where torch is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import fp4num
import fp4rt
from fp4num import FORMATS, Quantized
from fp4rt import Artifact, Kernel
from fp4rt.compare import compare_arrays
from fp4rt.typed import TypedKernel

DATA = Path(__file__).parent.parent / "gpu" / "data" / "scale_shift.json"
Load = Callable[[TypedKernel], Kernel]


def as_torch(q: Quantized, *, typed: bool = False) -> Quantized:
    codes, scales = torch.from_numpy(q.codes), torch.from_numpy(q.scales)
    if typed:
        codes = codes.view(torch.float4_e2m1fn_x2)
        scales = scales.view(torch.float8_e4m3fn)
    return Quantized.from_parts(codes, scales, torch.tensor(float(q.tensor_scale)), q.format, q.shape)


@pytest.mark.parametrize("typed", [False, True])
def test_a_gemm_on_tensors(gemm: TypedKernel, reference: Load, typed: bool) -> None:
    args = fp4rt.random_inputs(gemm, {"M": 40, "N": 24, "K": 64})
    kernel = reference(gemm)
    expected = kernel(**args)["c"]
    found = kernel(**{name: as_torch(q, typed=typed) for name, q in args.items()})["c"]
    assert found.dtype is torch.bfloat16
    assert compare_arrays("c", "bf16", found, expected).equal
    np.testing.assert_array_equal(found.float().numpy(), fp4num.decode(expected, "bf16"))


@pytest.mark.parametrize("device", ["reference", "emulator"])
def test_outputs_are_written_in_place(device: str) -> None:
    kernel = Artifact.load(DATA).load_kernel(device)
    x, y = torch.randn(70, 36), torch.empty(70, 36)
    out = kernel(x=x, shift=torch.tensor(0.5), gain=3.0, out={"y": y})
    assert out["y"] is y
    assert torch.equal(y, x * 3 + 0.5)
    assert out["count"].dtype is torch.int32 and out["count"].item() == 4


def test_kinds_are_not_mixed() -> None:
    kernel = Artifact.load(DATA).load_kernel("reference")
    with pytest.raises(fp4rt.ArgumentError, match="FP6109: 'shift' is a numpy array but 'x' is a torch array"):
        kernel(x=torch.zeros(4, 4), shift=np.float32(1))
    with pytest.raises(fp4rt.ArgumentError, match="FP6109: 'y' is a numpy array among torch tensors"):
        kernel(x=torch.zeros(4, 4), shift=torch.zeros(()), out={"y": np.zeros((4, 4), np.float32)})


def test_a_wrong_dtype_names_torchs_fix() -> None:
    kernel = Artifact.load(DATA).load_kernel("reference")
    with pytest.raises(fp4rt.ArgumentError, match=r"FP6104: 'x' has dtype bfloat16(.|\n)*x\.to\(torch\.float32\)"):
        kernel(x=torch.zeros(4, 4, dtype=torch.bfloat16), shift=torch.zeros(()))


def test_quantized_outputs_are_tensors(reference: Load) -> None:
    from fp4rt.typed import Arg, Axis, Dim, Store, Value

    fmt, axes = FORMATS["nvfp4"], (Axis("M", "M"), Axis("N", "N"))
    kernel = TypedKernel(
        "k",
        (Dim("M"), Dim("N")),
        (Arg("x", "in", "bf16", axes), Arg("s", "in", "f32", ()), Arg("q", "out", fmt, axes)),
        (
            Value("arg", (), "bf16", ("M", "N"), {"name": "x"}),
            Value("arg", (), "f32", (), {"name": "s"}),
            Value("quantize", (0, 1), fmt, ("M", "N"), {"mode": "tensor_scale", "rounding": "nearest"}),
        ),
        (Store("q", 2),),
    )
    x, s = torch.randn(20, 32, dtype=torch.bfloat16), torch.tensor(0.01)
    q = reference(kernel)(x=x, s=s)["q"]
    expected = fp4num.quantize(x.float().numpy(), fmt, tensor_scale=np.float32(0.01))
    assert q.tensor_scale is s
    np.testing.assert_array_equal(q.codes.numpy(), expected.codes)
    np.testing.assert_array_equal(q.scales.numpy(), expected.scales)
