"""Kernels as operators of torch: schema, fake tensors, compiling, exporting, and what is refused by name."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

import fp4rt
import fp4rt.torch
from fp4num import FORMATS, LAYOUTS, BlockFormat, Quantized
from fp4num.groups import buffer_size
from fp4rt import Artifact, Kernel
from fp4rt.manifest import Manifest, Plan
from fp4rt.torch import symbolic
from fp4rt.typed import Arg, Axis, Dim, Store, TypedKernel, Value

pytestmark = pytest.mark.torch

DATA = Path(__file__).parents[2] / "gpu" / "data" / "scale_shift.json"
M, N, K = Axis("M", "M"), Axis("N", "N"), Axis("K", "K")
MN, MNK = (Dim("M"), Dim("N")), (Dim("M"), Dim("N"), Dim("K"))
MakeGemm = Callable[..., TypedKernel]
_count = itertools.count()


def unused(name: str = "op") -> str:
    """Operators stay for the whole process: a name for each."""
    return f"fp4rt_tests::{name}_{next(_count)}"


def load(kernel: TypedKernel) -> Kernel:
    return Artifact.build(Manifest(kernel.name, "sm_100a", kernel, Plan(())), {}).load_kernel("reference")


def value(op: str, operands: tuple[int, ...], dtype: Any, axes: str, **attrs: Any) -> Value:
    return Value(op, operands, dtype, tuple(axes), attrs)


def quantizer(fmt: BlockFormat, *, amax: bool = False) -> TypedKernel:
    """q = quantize(x) with a tensor scale from outside: it is shared with the output."""
    name = "amax" if amax else "tensor_scale"
    args = (Arg("x", "in", "bf16", (M, N)), Arg("s", "in", "f32", ()), Arg("q", "out", fmt, (M, N)))
    values = (
        value("arg", (), "bf16", "MN", name="x"),
        value("arg", (), "f32", "", name="s"),
        value("quantize", (0, 1), fmt, "MN", mode=name, rounding="nearest"),
    )
    return TypedKernel("quantizer", MN, args, values, (Store("q", 2),))


def updater() -> TypedKernel:
    """c = c + gain * x, in place; twice = x + x with a derived size beside it."""
    args = (
        Arg("c", "inout", "f32", (M, N)),
        Arg("x", "in", "f32", (M, N)),
        Arg("gain", "param", "f32", (), 0.5),
        Arg("count", "param", "i32", (), 3),
        Arg("twice", "out", "f32", (M, N)),
    )
    values = (
        value("arg", (), "f32", "MN", name="c"),
        value("arg", (), "f32", "MN", name="x"),
        value("arg", (), "f32", "", name="gain"),
        value("mul", (1, 2), "f32", "MN"),
        value("add", (0, 3), "f32", "MN"),
        value("add", (1, 1), "f32", "MN"),
    )
    return TypedKernel("updater", MN, args, values, (Store("c", 4), Store("twice", 5)))


def ragged(fmt: BlockFormat) -> TypedKernel:
    """Rows in groups: copy = quantize(dequantize(x))."""
    m = Axis("M", "M", by="offsets")
    args = (
        Arg("offsets", "in", "i32", (Axis(None, ("add", "E", 1)),)),
        Arg("x", "in", fmt, (m, K)),
        Arg("w", "in", "f32", (Axis("E", "E"),)),
        Arg("copy", "out", fmt, (m, K)),
    )
    values = (
        value("arg", (), fmt, "MK", name="x"),
        value("dequantize", (0,), "f32", "MK"),
        value("quantize", (1,), fmt, "MK", mode="none"),
    )
    return TypedKernel("ragged", (Dim("E"), Dim("M"), Dim("K")), args, values, (Store("copy", 2),))


def bf16(*shape: int) -> torch.Tensor:
    rng = np.random.default_rng(sum(shape))
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).bfloat16()


def operands(m: int = 40, n: int = 24, k: int = 64) -> dict[str, Quantized]:
    return {"a": fp4rt.quantize(bf16(m, k), "nvfp4"), "b": fp4rt.quantize(bf16(n, k), "nvfp4")}


def test_the_schema_says_what_the_signature_does(gemm: TypedKernel) -> None:
    parts = ", ".join(f"Tensor {n}_{p}" for n in "ab" for p in ("codes", "scales", "tensor_scale"))
    plain = "Tensor x, Tensor s) -> (Tensor, Tensor"
    for kernel, wanted in (
        (gemm, f"({parts}) -> Tensor"),
        (quantizer(FORMATS["nvfp4"]), f"({plain})"),
        (updater(), "(Tensor(a0!) c, Tensor x, float gain=0.5, SymInt count=3) -> Tensor"),
        (ragged(FORMATS["mxfp8"]), "(Tensor offsets, Tensor x_codes, Tensor x_scales, Tensor x_offsets, Tensor w) "
         "-> (Tensor, Tensor)"),
    ):  # fmt: skip
        operator = load(kernel).as_torch_op(unused())
        assert operator.schema == operator.name + wanted
        assert str(operator.overload._schema).replace("(a0!)", "(a0!)") == operator.schema


def test_names_of_parts_and_words_of_python_do_not_meet() -> None:
    fmt = FORMATS["mxfp4"]
    args = [Arg(n, "in", fmt, (M, K)) for n in ("a", "lambda")]
    args += [Arg("a_codes", "in", "f32", (M,)), Arg("y", "out", "f32", (M,))]
    values = (value("arg", (), "f32", "M", name="a_codes"),)
    kernel = load(TypedKernel("k", (Dim("M"), Dim("K")), tuple(args), values, (Store("y", 0),)))
    operator = kernel.as_torch_op(unused())
    q, x = fp4rt.quantize(bf16(16, 32), fmt), torch.randn(16)
    assert torch.equal(operator(**{"a": q, "lambda": q, "a_codes": x})["y"], x)


def cases() -> list[tuple[TypedKernel, dict[str, Any]]]:
    offsets = torch.tensor([0, 3, 16], dtype=torch.int32)
    groups = fp4rt.quantize(bf16(16, 64), "mxfp8", offsets=offsets)
    return [
        (quantizer(FORMATS["nvfp4"]), {"x": bf16(16, 32), "s": torch.tensor(0.01)}),
        (updater(), {"c": torch.randn(3, 5), "x": torch.randn(3, 5), "gain": 2.0}),
        (ragged(FORMATS["mxfp8"]), {"offsets": offsets, "x": groups, "w": torch.randn(2)}),
    ]


@pytest.mark.parametrize("at", range(4))
def test_opcheck(at: int, gemm: TypedKernel) -> None:
    kernel, args = [(gemm, operands()), *cases()][at]
    operator = load(kernel).as_torch_op(unused())
    results = torch.library.opcheck(operator.overload, operator.tensors(**args))
    assert set(results.values()) == {"SUCCESS"}, results


@pytest.mark.parametrize("at", range(4))
def test_an_eager_call_is_the_kernels(at: int, gemm: TypedKernel) -> None:
    typed, args = [(gemm, operands()), *cases()][at]
    kernel = load(typed)
    operator = kernel.as_torch_op(unused())
    for _ in range(3):  # the first call checks all, the others what may differ
        theirs, ours = copy.deepcopy(args), copy.deepcopy(args)
        for q in (theirs, ours):
            if "offsets" in q:
                q["x"] = Quantized(q["x"].codes, q["x"].scales, None, q["x"].format, q["x"].shape, q["offsets"])
        wanted, found = kernel(**theirs), operator(**ours)
        assert list(found) == list(wanted)
        for name, output in wanted.items():
            same(found[name], output)
        if at == 2:
            assert found["c"] is ours["c"]


def same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, Quantized):
        assert found.shape == wanted.shape and found.format == wanted.format
        for name in ("codes", "scales", "tensor_scale", "offsets"):
            if getattr(wanted, name) is not None:
                same(getattr(found, name), getattr(wanted, name))
        return
    assert found.dtype is wanted.dtype and torch.equal(found, wanted)


def test_a_function_of_kernels_compiles_for_all_sizes(gemm: TypedKernel) -> None:
    quantize, product = load(quantizer(FORMATS["nvfp4"])), load(gemm)
    quantize.as_torch_op(unused())
    product.as_torch_op(unused())
    weight = operands()["b"]

    def layer(x: torch.Tensor, s: torch.Tensor) -> tuple[Any, Quantized]:
        q = quantize(x=x * 2, s=s)["q"]
        return product(a=q, b=weight)["c"].float() + 1, q

    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    s = torch.tensor(0.01)
    for m in (16, 40, 41, 300):
        (y, q), (wanted, plain) = compiled(bf16(m, 64), s), layer(bf16(m, 64), s)
        same(y, wanted)
        same(q, plain)


def test_updates_in_place_are_seen_by_compiled_functions_and_autograd() -> None:
    kernel = load(updater())
    operator = kernel.as_torch_op(unused())

    def twice(c: torch.Tensor, x: torch.Tensor) -> Any:
        before = c.clone()
        operator(c=c, x=x)
        kernel(c=c, x=x, gain=4.0)
        return before, c * 1

    x = torch.randn(3, 5)
    found, wanted = torch.zeros(3, 5), torch.zeros(3, 5)
    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(compiled(found, x), twice(wanted, x), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(found, wanted) and torch.equal(found, 4.5 * x)
    weight = torch.randn(3, 5, requires_grad=True)
    held = torch.zeros(3, 5)
    loss = (weight * held).sum()
    operator(c=held, x=x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.slow
def test_inductor(gemm: TypedKernel) -> None:
    kernel = load(gemm)
    kernel.as_torch_op(unused())
    args = operands()
    compiled = torch.compile(lambda a, b: kernel(a=a, b=b)["c"].float().relu() * 2, fullgraph=True)
    for m in (40, 56):
        args = operands(m)
        assert torch.equal(compiled(**args), kernel(**args)["c"].float().relu() * 2)


def test_exported_with_a_dynamic_size_saved_and_loaded(gemm: TypedKernel, tmp_path: Path) -> None:
    kernel = load(gemm)
    operator = kernel.as_torch_op(unused())

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = fp4rt.torch.QuantizedBuffer(operands()["b"])

        def forward(self, a: Quantized) -> Any:
            return operator(a=a, b=self.weight.value)["c"]

    size = torch.export.Dim.AUTO
    program = torch.export.export(Layer(), (operands()["a"],), dynamic_shapes={"a": [{0: size}, {0: size}, None, None]})
    torch.export.save(program, tmp_path / "layer.pt2")
    for exported in (program, torch.export.load(tmp_path / "layer.pt2")):
        for m in (40, 300):
            args = operands(m)
            assert torch.equal(exported.module()(args["a"]), kernel(a=args["a"], b=operands()["b"])["c"])


def test_compiling_a_kernel_that_is_no_operator_names_the_way(gemm: TypedKernel) -> None:
    kernel = load(gemm)
    args = operands()

    def call(a: Quantized, b: Quantized) -> Any:
        return kernel(a=a, b=b)["c"] * 2

    with pytest.raises(Exception, match=r"FP6119(.|\n)*as_torch_op"):
        torch.compile(call, fullgraph=True, backend="eager")(**args)
    assert torch.equal(torch.compile(call, backend="eager")(**args), call(**args))
    kernel.as_torch_op(unused())
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    assert torch.equal(compiled(**args), call(**args))
    for wrong, text in (
        ({"a": fp4rt.quantize(bf16(40, 64), "mxfp4")}, "FP6108: 'a' is nvfp4.M, K., but the value is mxfp4"),
        ({"a": bf16(40, 64)}, "FP6103: 'a' is nvfp4.M, K., but expected a Quantized, found Tensor"),
    ):
        with pytest.raises(Exception, match=text):
            compiled(**{**args, **wrong})
    with pytest.raises(Exception, match="FP6119: .* takes no out"):
        torch.compile(lambda a, b, c: kernel(a=a, b=b, out={"c": c}), fullgraph=True, backend="eager")(
            **args, c=torch.empty(40, 24, dtype=torch.bfloat16)
        )
    with pytest.raises(Exception, match="FP6101: .* takes"):
        torch.compile(lambda a: kernel(a=a), fullgraph=True, backend="eager")(args["a"])


def test_strides_that_are_no_rows_are_named_eager_and_compiled() -> None:
    kernel = load(quantizer(FORMATS["nvfp4"]))
    operator = kernel.as_torch_op(unused())
    x, s = bf16(64, 16).t(), torch.tensor(0.01)
    for call in (kernel, operator, torch.compile(operator, fullgraph=True, backend="aot_eager")):
        with pytest.raises(fp4rt.ArgumentError, match=r"FP6106: 'x' is not contiguous(.|\n)*x\.contiguous\(\)"):
            call(x=x, s=s)
        assert call(x=x.contiguous(), s=s)["q"].shape == (16, 64)


def test_what_is_not_built_is_refused_by_name() -> None:
    operator = load(updater()).as_torch_op(unused())
    c, x = torch.zeros(2, 3, 5), torch.randn(2, 3, 5)
    with pytest.raises(fp4rt.TorchError, match="FP6117: .* cannot be mapped by torch.vmap(.|\n)*batch axis"):
        torch.vmap(lambda c, x: operator(c=c, x=x)["twice"])(c, x)
    grad = x[0].clone().requires_grad_()
    for call in (operator, torch.compile(operator, fullgraph=True, backend="aot_eager")):
        with pytest.raises(Exception, match="FP6118: .* has no gradient, and 'x' requires one"):
            call(c=c[0], x=grad)
        with torch.no_grad():
            assert not call(c=c[0], x=grad)["twice"].requires_grad
    for transform in (torch.func.grad, lambda f: lambda x: torch.func.jvp(f, (x,), (x,))):
        with pytest.raises(fp4rt.TorchError, match="FP6118: .* inside a transform of torch.func"):
            transform(lambda x: operator(c=c[0], x=x)["twice"].sum())(x[0])


def test_a_plain_kernel_takes_no_tensor_whose_memory_is_not_its_values() -> None:
    kernel, x, s = load(quantizer(FORMATS["nvfp4"])), bf16(16, 64), torch.tensor(0.01)
    with FakeTensorMode():
        fake = torch.empty(16, 64, dtype=torch.bfloat16)
    for odd, error in (
        (torch._neg_view(x), "FP6103: 'x' is negated when it is read(.|\n)*resolve_neg"),
        (x.to_sparse(), "FP6103: 'x' is a tensor of the layout torch.sparse_coo(.|\n)*to_dense"),
        (x.to("meta"), "FP6103: 'x' is on the device meta"),
        (fake, "FP6103: 'x' is a FakeTensor without memory"),
    ):
        with pytest.raises(fp4rt.ArgumentError, match=error):
            kernel(x=odd, s=s)
    with pytest.raises(fp4rt.ArgumentError, match="FP6117: 'x' is mapped by torch.vmap"):
        torch.vmap(lambda x: kernel(x=x, s=s)["q"].codes)(x[None])
    with pytest.raises(fp4rt.ArgumentError, match="FP6118: 'x' is inside a transform"):
        torch.func.grad(lambda x: kernel(x=x, s=s)["q"].codes.float().sum())(x)
    operator = kernel.as_torch_op(unused())  # the dispatcher negates
    assert torch.equal(operator(x=torch._neg_view(x), s=s)["q"].codes, kernel(x=-x, s=s)["q"].codes)


def test_arguments_are_checked_as_the_kernel_checks_them(gemm: TypedKernel) -> None:
    operator = load(gemm).as_torch_op(unused())
    args = operands()
    a = args["a"]
    operator(**args)  # what went through once does not let others through
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"a": None}, "FP6103: 'a' is nvfp4"),
        ({"a": fp4rt.quantize(bf16(40, 64), "mxfp4")}, "FP6108"),
        ({"a": fp4rt.quantize(bf16(40, 32), "nvfp4")}, "FP6105: 'b' has K = 64, but 'a' has 32"),
        ({"a": fp4rt.quantize(bf16(40, 64), "nvfp4", offsets=[0, 40])}, "FP6113"),
        ({"a": Quantized(a.codes, a.scales[:-1], a.tensor_scale, a.format, a.shape)}, "FP6105: a.scales"),
        ({"a": Quantized(a.codes, a.scales, None, a.format, a.shape)}, "FP6103: .*no tensor scale"),
        ({"a": Quantized(a.codes, a.scales, a.tensor_scale, a.format, (20, 128))}, "FP6105: .*shape .20, 128."),
        ({"a": Quantized(a.codes, torch.full_like(a.scales, 0x80), a.tensor_scale, a.format, a.shape)}, "FP6114"),
        ({"a": Quantized(a.codes, a.scales, a.tensor_scale.double(), a.format, a.shape)}, "FP6104"),
        ({"d": 1}, "FP6101: 'd' is not an argument"),
    ]
    for change, text in wrong:
        with pytest.raises(fp4rt.ArgumentError, match=text):
            operator(**{**args, **change})
    with pytest.raises(fp4rt.ArgumentError, match="FP6102"):
        operator(a=a)
    assert torch.equal(operator(**args)["c"], load(gemm)(**args)["c"])


def test_offsets_of_another_call_are_refused_each_time() -> None:
    kernel = load(ragged(FORMATS["mxfp8"]))
    operator = kernel.as_torch_op(unused())
    args = cases()[2][1]
    operator(**args)
    with pytest.raises(fp4rt.ArgumentError, match="FP6113: 'x' was made with other offsets"):
        operator(**{**args, "offsets": torch.tensor([0, 4, 16], dtype=torch.int32)})
    args["offsets"][1] = 17
    with pytest.raises(fp4rt.ArgumentError, match="FP6112"):
        operator(**args)


def test_an_update_over_its_input_is_refused_each_time() -> None:
    operator = load(updater()).as_torch_op(unused())
    c = torch.zeros(3, 5)
    operator(c=c, x=torch.ones(3, 5))
    with pytest.raises(fp4rt.ArgumentError, match="FP6107: output 'c' overlaps 'x'"):
        operator(c=c, x=c)


def test_names_that_are_none_or_taken(gemm: TypedKernel) -> None:
    kernel, name = load(gemm), unused()
    operator = kernel.as_torch_op(name)
    assert kernel.as_torch_op(name) is operator
    assert load(gemm).as_torch_op(name) is operator  # the same kernel again
    assert copy.deepcopy(operator) is operator and repr(operator).startswith(f"<torch operator {name} of <fp4rt kernel")
    assert pickle.loads(pickle.dumps(operator)) is operator  # noqa: S301
    for wrong in ("gemm", "a:b", "a::b.c", "a::", "::b", "a::b::c", "a::1", "ä::b", 3, []):
        with pytest.raises(fp4rt.TorchError, match="FP6116: .* is no operator's name"):
            kernel.as_torch_op(wrong)  # type: ignore[arg-type]
    for taken in (name, "aten::mm"):
        with pytest.raises(fp4rt.TorchError, match=f"FP6116: the operator {taken} is registered already"):
            load(updater()).as_torch_op(taken)
    alone = TypedKernel("alone", (), (Arg("p", "param", "f32", ()), Arg("y", "out", "f32", ())),
                        (value("arg", (), "f32", "", name="p"),), (Store("y", 0),))  # fmt: skip
    with pytest.raises(fp4rt.TorchError, match="FP6116: alone reads no tensor"):
        load(alone).as_torch_op(unused())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_symbolic_scale_buffers_are_as_large_as_real_ones(data: st.DataObject) -> None:
    fmt = FORMATS[data.draw(st.sampled_from(sorted(FORMATS)))]
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    fmt = BlockFormat.from_json({**fmt.to_json(), "layout": layout.to_json()})
    lead = data.draw(st.lists(st.integers(0, 3), max_size=2))
    shape = (*lead, data.draw(st.integers(0, 300)), fmt.row_unit * data.draw(st.integers(0, 9)))
    groups = data.draw(st.none() | st.integers(1, 5))
    wanted = fmt.scales_size(shape) if groups is None else buffer_size(fmt, shape, groups)
    assert symbolic.scale_count(fmt, shape, groups) == wanted


@pytest.mark.parametrize("kind", ["plain", "quantized"])
def test_an_operator_does_less_than_the_call_with_given_outputs(kind: str, gemm: TypedKernel) -> None:
    """The functions called of fp4rt's and torch's, which do not depend on how busy the machine is, for the call that
    comes after the first. benchmarks/call_cost.py has the times on a GPU."""
    kernel = load(gemm) if kind == "quantized" else Artifact.load(DATA).load_kernel("reference")
    kernel.executable.bind = lambda call, plan, stream: lambda stream: None  # type: ignore[method-assign]
    operator = kernel.as_torch_op(unused())
    args: dict[str, Any] = operands() if kind == "quantized" else {"x": torch.zeros(8, 4), "shift": torch.zeros(())}
    out = kernel(**args)
    flat = operator.tensors(**args)
    operator(**args)
    assert calls(lambda: operator.overload(*flat)) < calls(lambda: operator(**args))
    assert calls(lambda: operator(**args)) < calls(lambda: kernel(**args, out=out))


def calls(function: Callable[[], Any]) -> int:
    """How many functions a function calls, Python's and C's."""
    seen = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal seen
        seen += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return seen


def test_the_python_of_the_page_runs(gemm: TypedKernel) -> None:
    page = (Path(__file__).parents[3] / "docs" / "torch.md").read_text(encoding="utf-8")
    kernel, args = load(gemm), operands()
    names: dict[str, Any] = {"fp4rt": fp4rt, "kernel": kernel, "x": bf16(40, 64), "weight": args["b"]}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)  # noqa: S102  # what the page tells its reader to type
    assert torch.equal(names["y"], kernel(a=fp4rt.quantize(names["x"], "nvfp4"), b=args["b"])["c"])
    assert names["gemm"].name in page
