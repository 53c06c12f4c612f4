"""Layers for inference: equal to their kernels' reference on the same operands, eager, compiled and saved."""

from __future__ import annotations

import copy
import io as files
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import fp4num
import fp4rt
import fp4rt.torch
from fp4num import FORMATS, LAYOUTS, BlockFormat
from fp4rt import Artifact, Kernel, io
from fp4rt.manifest import Manifest, Plan
from fp4rt.torch import Linear
from fp4rt.torch.quantizing import format_text
from fp4rt.typed import Arg, Axis, Dim, Store, TypedKernel, Value

pytestmark = pytest.mark.torch

M, N, K = Axis("M", "M"), Axis("N", "N"), Axis("K", "K")
ROWS = replace(FORMATS["nvfp4"], name="rows", layout=LAYOUTS["linear"])
#: Recipe -> what x and the weight are.
RECIPES: dict[str, tuple[BlockFormat | None, BlockFormat]] = {
    "w4a16": (None, ROWS),
    "w4a16 mxfp4": (None, FORMATS["mxfp4"]),
    "w4a8": (FORMATS["mxfp8"], FORMATS["mxfp4"]),
    "nvfp4": (FORMATS["nvfp4"], FORMATS["nvfp4"]),
    "mxfp4": (FORMATS["mxfp4"], FORMATS["mxfp4"]),
    "mxfp8": (FORMATS["mxfp8"], FORMATS["mxfp8"]),
    "deepseek": (FORMATS["ds_act"], FORMATS["ds_weight"]),
}
_names = itertools.count()


def load(kernel: TypedKernel) -> Kernel:
    return Artifact.build(Manifest(kernel.name, "sm_100a", kernel, Plan(())), {}).load_kernel("reference")


def product(x: BlockFormat | None, w: BlockFormat, *, bias: bool = False) -> Kernel:
    """y = x @ w.T [+ bias], with the tensor scales as the checker writes them."""
    args = [Arg("x", "in", x or "bf16", (M, K)), Arg("w", "in", w, (N, K))]
    values = [
        Value("arg", (), x or "bf16", ("M", "K"), {"name": "x"}),
        Value("arg", (), w, ("N", "K"), {"name": "w"}),
        Value("transpose", (1,), w, ("K", "N")),
        Value("matmul", (0, 2), "f32", ("M", "N"), {"k": "K"}),
    ]
    last = 3
    for name, fmt in (("x", x), ("w", w)):
        if fmt is not None and fmt.tensor_scale is not None:
            values += [Value("tensor_scale", (), "f32", (), {"name": name})]
            values += [Value("mul", (last, len(values) - 1), "f32", ("M", "N"))]
            last = len(values) - 1
    if bias:
        args.append(Arg("bias", "in", "bf16", (N,)))
        values += [Value("arg", (), "bf16", ("N",), {"name": "bias"}), Value("cast", (len(values),), "f32", ("N",))]
        values += [Value("add", (last, len(values) - 1), "f32", ("M", "N"))]
        last = len(values) - 1
    args.append(Arg("y", "out", "bf16", (M, N)))
    name = f"product_{next(_names)}"
    return load(TypedKernel(name, (Dim("M"), Dim("N"), Dim("K")), tuple(args), tuple(values), (Store("y", last),)))


def quantizer(fmt: BlockFormat) -> Kernel:
    scaled = fmt.tensor_scale is not None
    args = (
        Arg("x", "in", "bf16", (M, K)),
        *([Arg("ts", "in", "f32", ())] if scaled else []),
        Arg("q", "out", fmt, (M, K)),
    )
    values = [Value("arg", (), "bf16", ("M", "K"), {"name": "x"})]
    if scaled:
        values.append(Value("arg", (), "f32", (), {"name": "ts"}))
    mode = "tensor_scale" if scaled else "none"
    of = (0, 1) if scaled else (0,)
    values.append(Value("quantize", of, fmt, ("M", "K"), {"mode": mode, "rounding": "nearest"}))
    name = f"quantizer_{next(_names)}"
    return load(TypedKernel(name, (Dim("M"), Dim("K")), args, tuple(values), (Store("q", len(values) - 1),)))


def bf16(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32)).bfloat16()


def plain(out: int = 128, inner: int = 256) -> torch.nn.Linear:
    layer = torch.nn.Linear(inner, out, dtype=torch.bfloat16)
    layer.weight.data = bf16(out, inner, seed=1)
    layer.bias.data = bf16(out, seed=2)
    return layer


@pytest.mark.parametrize("by", ["kernel", "numpy"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_layer_is_its_kernel_on_quantized_operands(recipe: str, by: str) -> None:
    x_format, w_format = RECIPES[recipe]
    kernel, source = product(x_format, w_format), plain()
    options: dict[str, Any] = {}
    if x_format is not None and by == "kernel":
        options["quantizer"] = quantizer(x_format)
    scaled = x_format is not None and x_format.tensor_scale is not None
    if scaled:
        options["input_scale"] = torch.tensor(0.01)
    layer = Linear.from_float(source, kernel, **options)
    x = bf16(3, 8, 256)
    ts = {"tensor_scale": np.float32(0.01)} if scaled else {}
    rows = x.reshape(-1, 256)
    operand = rows if x_format is None else fp4rt.quantize(rows, x_format, **ts)
    wanted = kernel(x=operand, w=fp4rt.quantize(source.weight.detach(), w_format))["y"] + source.bias.detach()
    with torch.no_grad():
        assert torch.equal(layer(x), wanted.reshape(3, 8, 128))
        across = x.transpose(0, 1)  # rows that do not lie one after another
        assert torch.equal(layer(across), wanted.reshape(3, 8, 128).transpose(0, 1))
        if recipe in ("w4a16", "nvfp4", "deepseek"):  # the others differ in formats alone
            compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
            for m in (3, 24):
                assert torch.equal(compiled(rows[:m]), layer(rows[:m]))
        exact = source.float()(x.float())
        assert (layer(x).float() - exact).abs().mean() < 0.25 * exact.abs().mean()


def test_a_bias_in_the_kernel_and_one_beside_it() -> None:
    source, x = plain(), bf16(8, 256)
    inside = Linear.from_float(source, product(None, ROWS, bias=True))
    without = Linear.from_float(source, product(None, ROWS, bias=True), bias=None)
    beside = Linear.from_float(source, product(None, ROWS))
    none = Linear.from_float(source, product(None, ROWS), bias=None)
    assert torch.equal(without(x), none(x))
    assert torch.equal(beside(x), none(x) + source.bias.detach())
    kernel, w = product(None, ROWS, bias=True), fp4rt.quantize(source.weight.detach(), ROWS)
    assert torch.equal(inside(x), kernel(x=x, w=w, bias=source.bias.detach())["y"])


def test_a_layer_of_a_checkpoint_has_its_scales() -> None:
    w = fp4rt.quantize(plain().weight.detach().float().numpy(), "nvfp4")
    scale = np.linspace(0.5, 2, 256, dtype=np.float32)
    tensors = io.to_modelopt(io.Linear(w, np.float32(0.02), scale, np.ones(128, np.float32)), "w")
    kernel, maker, x = product(FORMATS["nvfp4"], FORMATS["nvfp4"]), quantizer(FORMATS["nvfp4"]), bf16(8, 256)
    for family in ("numpy", "torch"):
        layer = Linear.from_layer(io.from_modelopt(tensors, "w", family=family), kernel, maker)
        rows = (x.float() * torch.from_numpy(scale)).bfloat16()
        q = fp4rt.quantize(rows, "nvfp4", tensor_scale=np.float32(0.02))
        assert torch.equal(layer(x), kernel(x=q, w=w.to("cpu"))["y"] + 1)


def test_a_model_of_layers_is_saved_loaded_copied_and_converted() -> None:
    kernel, maker = product(FORMATS["nvfp4"], FORMATS["nvfp4"]), quantizer(FORMATS["nvfp4"])
    model = torch.nn.Sequential(
        Linear.from_float(plain(256, 256), kernel, quantizer=maker, input_scale=0.01),
        torch.nn.GELU(),
        Linear.from_float(plain(128, 256), kernel, quantizer=maker, input_scale=0.02),
    )
    x = bf16(8, 256)
    y = model(x)
    file = files.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(model)
    for name in ("0.weight.codes", "2.weight.codes"):
        other.get_buffer(name).zero_()
    assert not torch.equal(other(x), y)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x), y)
    assert torch.equal(copy.deepcopy(model).half()(x), y)  # scales stay float32
    with pytest.raises(fp4rt.ArgumentError, match="FP6104"):
        model(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(x.float()), y)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    assert torch.equal(exported.module()(bf16(24, 256)), model(bf16(24, 256)))
    with pytest.raises(fp4rt.TorchError, match="FP6118"):
        model(x.clone().requires_grad_())


def test_what_makes_no_layer_is_named() -> None:
    nvfp4, source = FORMATS["nvfp4"], plain()
    kernel = product(nvfp4, nvfp4)
    w = fp4rt.quantize(source.weight.detach(), "nvfp4")
    cases: list[tuple[Any, str]] = [
        (lambda: Linear(quantizer(nvfp4), w), "FP6123: quantizer_.* is no linear layer"),
        (lambda: Linear(kernel, w, quantizer=quantizer(FORMATS["mxfp4"])), "FP6123: quantizer_.* does not quantize x"),
        (
            lambda: Linear(product(None, ROWS), w, quantizer=quantizer(nvfp4)),
            "FP6123: quantizer_.* does not quantize x",
        ),
        (lambda: Linear(kernel, w, quantizer=product(None, ROWS)), "FP6123: product_.* does not quantize x"),
        (lambda: Linear(kernel, w, quantizer=quantizer(nvfp4)), "FP6124: .*takes 'ts'(.|\n)*pass input_scale"),
        (lambda: Linear(kernel, fp4rt.quantize(source.weight.detach(), "mxfp4")), "FP6124: .*this one is mxfp4: scale"),
        (lambda: Linear(kernel, fp4rt.quantize(source.weight.detach(), ROWS)), "FP6124: .*layout blocked_128x4"),
        (lambda: Linear(kernel, source.weight), "FP6124: the weight is a Quantized, not Parameter"),
        (lambda: Linear(kernel, fp4rt.quantize(bf16(2, 16, 64), "nvfp4")), r"FP6124: .*shape \[2, 16, 64\]"),
        (lambda: Linear(kernel, w, bias=torch.ones(3)), r"FP6124: bias has the shape \(3,\), not \(128,\)"),
        (lambda: Linear(kernel, w, input_scale=torch.ones(3)), "FP6124: input_scale is one number, not 3"),
    ]
    for make, text in cases:
        with pytest.raises(fp4rt.TorchError, match=text):
            make()
    with pytest.raises(fp4rt.ArgumentError, match="FP6104: 'x' has dtype float32"):
        Linear(product(None, ROWS), fp4rt.quantize(source.weight.detach(), ROWS))(torch.zeros(4, 256))


@pytest.mark.parametrize("name", ["nvfp4", "mxfp8", "ds_act"])
def test_quantizing_is_an_operator(name: str) -> None:
    x = bf16(16, 256)
    ts = torch.tensor(0.01) if FORMATS[name].tensor_scale else None
    args = (x, ts, format_text(FORMATS[name]))
    assert set(torch.library.opcheck(torch.ops.fp4rt.quantize.default, args).values()) == {"SUCCESS"}
    own = replace(FORMATS[name], name="own")
    compiled = torch.compile(
        lambda x: fp4rt.torch.quantize(x * 2, name if len(x) == 16 else own, tensor_scale=ts),
        fullgraph=True,
        backend="aot_eager",
    )
    for m in (16, 40):
        found = compiled(bf16(m, 256))
        wanted = fp4num.quantize((bf16(m, 256) * 2).float().numpy(), name, tensor_scale=ts)
        np.testing.assert_array_equal(found.codes.numpy(), wanted.codes)
        np.testing.assert_array_equal(found.scales.numpy(), wanted.scales)
        assert (found.tensor_scale is None) == (wanted.tensor_scale is None) and found.shape == wanted.shape
