"""Torch tensors in host memory, on the reference and the emulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fp4num
import fp4rt
import fp4rt.io
from fp4num import FORMATS, LAYOUTS, Quantized
from fp4rt import Artifact, Kernel
from fp4rt.compare import compare_arrays
from fp4rt.typed import TypedKernel

pytestmark = pytest.mark.torch

DATA = Path(__file__).parents[2] / "gpu" / "data" / "scale_shift.json"
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


@pytest.mark.parametrize("device", ["reference", "emulator"])
def test_memory_stays_the_callers(device: str) -> None:
    """Who owns a tensor may free or resize its memory after a call, as FSDP does with parameters that it gathered."""
    args = {"x": torch.randn(4, 4), "shift": torch.tensor(0.5)}
    y = Artifact.load(DATA).load_kernel(device)(**args)["y"]
    assert torch.equal(y, args["x"] * 2 + 0.5)
    for tensor in (*args.values(), y):
        assert tensor.untyped_storage().resizable()
        tensor.untyped_storage().resize_(0)


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


# scales and numbers: the rules of numpy arrays


def test_scales_in_torch_tensors_say_their_layout_by_their_shape() -> None:
    q = fp4num.quantize(np.random.default_rng(0).standard_normal((2, 130, 96)).astype(np.float32), "nvfp4")
    codes, ts = torch.from_numpy(q.codes), torch.tensor(float(q.tensor_scale))
    flat, rows = torch.from_numpy(q.scales), torch.from_numpy(q.scale_grid())
    view = flat.reshape(2, 2, 2, 32, 4, 4).permute(3, 4, 1, 5, 2, 0)
    linear = replace(FORMATS["nvfp4"], layout=LAYOUTS["linear"])
    taken = [(flat, "nvfp4", None), (flat, "nvfp4", "blocked_128x4"), (rows, "nvfp4", "linear")]
    taken += [(rows.reshape(-1), "nvfp4", "linear"), (view, "nvfp4", "cutlass"), (view, linear, "cutlass")]
    taken += [(rows, linear, None), (rows.transpose(1, 2).contiguous().transpose(1, 2), linear, None)]
    for typed in (False, True):
        for scales, fmt, layout in taken:
            held = scales.view(torch.float8_e4m3fn) if typed else scales
            found = Quantized.from_parts(codes, held, ts, fmt, q.shape, layout=layout)
            assert found.scales.dtype is torch.uint8 and found.scales.is_contiguous()
            same = Quantized(q.codes, found.scales.numpy(), q.tensor_scale, found.format, q.shape)
            np.testing.assert_array_equal(fp4num.dequantize(same), fp4num.dequantize(q))
    for scales in (rows, view, flat.reshape(-1, 16), flat.reshape(1, -1), flat[:-1], rows.reshape(260, 6)):
        with pytest.raises(fp4num.DataError, match="fill 4096 elements in layout blocked_128x4"):
            Quantized.from_parts(codes, scales, ts, "nvfp4", q.shape)
    with pytest.raises(fp4num.DataError, match="scales are e4m3, but the array is float8_e5m2"):
        Quantized.from_parts(codes, flat.view(torch.float8_e5m2), ts, "nvfp4", q.shape)
    with pytest.raises(fp4num.DataError, match="0xB8, which is negative"):
        Quantized.from_parts(codes, torch.full_like(flat, 0xB8), ts, "nvfp4", q.shape)
    for wrong in (ts.double(), ts.to(torch.bfloat16), torch.ones(2), torch.tensor(1)):
        with pytest.raises(fp4num.DataError, match="the tensor scale of nvfp4 is one float32"):
            Quantized.from_parts(codes, flat, wrong, "nvfp4", q.shape)


def test_ragged_tensors(reference: Load) -> None:
    x = np.random.default_rng(0).standard_normal((200, 64)).astype(np.float32)
    offsets = torch.tensor([0, 100, 200], dtype=torch.int32)
    q = fp4num.quantize(torch.from_numpy(x), "nvfp4", offsets=offsets)
    np.testing.assert_array_equal(q.scales, fp4num.quantize(x, "nvfp4", offsets=[0, 100, 200]).scales)
    assert q.offsets is offsets
    parts = q.codes, q.scales, q.tensor_scale
    held = Quantized.from_parts(*parts, "nvfp4", q.shape, offsets=offsets)
    assert held.offsets is offsets
    rows = q.scale_grid()[0]
    laid = Quantized.from_linear(parts[0], rows, parts[2], "nvfp4", q.shape, offsets=offsets)
    np.testing.assert_array_equal(laid.scales.numpy(), q.scales)
    with pytest.raises(fp4num.DataError, match="end at the number of rows, 200"):
        Quantized.from_parts(*parts, "nvfp4", q.shape, offsets=torch.tensor([0, 100, 201]))


@pytest.mark.parametrize("name", ["uint8", "int8", "int16", "uint16", "int32", "int64", "bool", "complex64"])
def test_integer_tensors_are_no_numbers(name: str) -> None:
    with pytest.raises(fp4num.DataError, match="integers are no numbers|real numbers, not"):
        fp4num.quantize(torch.ones(2, 32).to(getattr(torch, name)), "mxfp4")


def test_packed_tensors_are_no_numbers() -> None:
    packed = torch.zeros(2, 32, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    with pytest.raises(fp4num.DataError, match="real numbers, not float4_e2m1fn_x2"):
        fp4num.quantize(packed, "mxfp4")


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_float_tensors_are_numbers(name: str) -> None:
    x = torch.tensor([[0.5, 1.0, 2.0, 4.0] * 8])
    wanted = fp4num.quantize(x.numpy(), "mxfp4")
    np.testing.assert_array_equal(fp4num.quantize(x.to(getattr(torch, name)), "mxfp4").codes, wanted.codes)


def test_a_layer_of_torch_tensors_is_written_and_a_transposed_one_refused() -> None:
    q = fp4num.quantize(np.random.default_rng(0).standard_normal((256, 512)).astype(np.float32), "nvfp4")
    on_torch = as_torch(q)
    for name, tensor in fp4rt.io.to_modelopt(on_torch, "w").items():
        np.testing.assert_array_equal(tensor.data, fp4rt.io.to_modelopt(q, "w")[name].data)
    parts = fp4rt.io.to_torchao(on_torch, "", swizzled=True)
    turned = {**parts, "qdata": torch.from_numpy(q.codes).t()}
    with pytest.raises(fp4rt.CheckpointError, match="qdata is transposed"):
        fp4rt.io.from_torchao(turned, "", swizzled=True, fmt="nvfp4")
