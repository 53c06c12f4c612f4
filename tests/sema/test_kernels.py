"""What kernels mean: axes, casts, scales, stores, constraints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.driver.dump import dump
from fp4cc.frontend import parse, prelude
from fp4cc.ir.kernel import Kernel, Value
from fp4cc.ir.print import format_kernel
from fp4cc.ir.serialize import to_json
from fp4cc.ir.verify import verify
from fp4cc.sema import analyze, check, specialize
from fp4cc.source import Source
from fp4num import FORMATS, LAYOUTS
from fp4rt.strict import Node
from fp4rt.typed import dump_kernel, parse_kernel

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
SPECS = sorted([*(ROOT / "examples").glob("*.fp4"), *(Path(__file__).parent / "specs").glob("*.fp4")])


def kernel_of(text: str) -> Kernel:
    (kernel,) = analyze(Source("t.fp4", text)).raise_errors().kernels
    verify(kernel)
    return kernel


def body(statements: str, dims: str = "M, N, K") -> Kernel:
    return kernel_of(f"kernel k({dims}) {{\n in x : f32[M, N]; in v : f32[N]; in w : f32[K, M]\n{statements}\n}}\n")


def made(kernel: Kernel, arg: str) -> Value:
    """The value that an output is given."""
    (store,) = [s for s in kernel.stores if s.arg == arg]
    return kernel.values[store.value]


def ops(kernel: Kernel) -> list[str]:
    return [v.op for v in kernel.values]


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_typed_kernels(path: Path, golden: Callable[[Path, str], None]) -> None:
    kernels = analyze(Source(path.name, path.read_text(encoding="utf-8")), path.parent).raise_errors().kernels
    golden(GOLDEN / "ir" / f"{path.stem}.txt", "\n".join(format_kernel(k) for k in kernels))
    for kernel in kernels:
        verify(kernel)
        text = json.dumps(to_json(kernel))
        assert dump_kernel(parse_kernel(Node(json.loads(text)))) == json.loads(text)


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_trees(path: Path, golden: Callable[[Path, str], None]) -> None:
    module = parse(Source(path.name, path.read_text(encoding="utf-8")))
    golden(GOLDEN / "ast" / f"{path.stem}.txt", dump(module.items))


def test_the_prelude_is_fp4num() -> None:
    checked = analyze(prelude().source).raise_errors()
    assert checked.formats == dict(FORMATS)
    assert checked.layouts == dict(LAYOUTS)


# Axes.


@pytest.mark.parametrize("expression, axes", [
    ("x + v", ("M", "N")),
    ("v + x", ("M", "N")),
    ("v * sum(x, over = N)", ("M", "N")),  # an outer product, in the order of the kernel's head
    ("x.T + v", ("N", "M")),
    ("w + x", ("K", "M", "N")),
    ("exp(1)", ()),
])  # fmt: skip
def test_broadcasting_is_by_name(expression: str, axes: tuple[str, ...]) -> None:
    kernel = body(f"out y : f32[{', '.join(axes)}]\ny = {expression}")
    assert made(kernel, "y").axes == axes


def test_products_take_batch_axes_by_name() -> None:
    text = (
        "kernel k(A, B, M, N, K) { in p : bf16[A, B, M, K]; in q : bf16[B, N, K]; "
        "out y : f32[A, B, M, N]; y = p @ q.T }"
    )
    assert made(kernel_of(text), "y").axes == ("A", "B", "M", "N")


def test_a_ragged_product_selects_a_group() -> None:
    text = (
        "kernel moe(E, M, N, K) { in offsets : i32[E + 1]; in x : mxfp8[M by offsets, K]; in w : mxfp8[E, N, K]\n"
        "out y : bf16[M by offsets, N]; y = x @ w.T }"
    )
    product = made(kernel_of(text), "y")
    assert product.axes == ("M", "N")
    assert dict(product.attrs) == {"k": "K", "ragged": "offsets", "groups": "E"}


def test_transposing_twice_is_nothing() -> None:
    assert ops(body("out y : f32[M, N]\ny = x.T.T")) == ["arg"]


# Types and scales.


def test_tensor_scales_are_applied_after_the_product() -> None:
    text = (
        "format enc extends nvfp4 { tensor_scale f32 divides }\n"
        "kernel k(M, N, K) { in a : enc[M, K]; in b : nvfp4[N, K]; out y : f32[M, N]; y = a @ b.T }"
    )
    kernel = kernel_of(text)
    assert ops(kernel) == ["arg", "arg", "transpose", "matmul", "tensor_scale", "mul", "tensor_scale", "div"]
    assert [v.attrs["name"] for v in kernel.values if v.op == "tensor_scale"] == ["b", "a"]
    plain = kernel_of("kernel k(M, N, K) { in a : mxfp4[M, K]; in b : mxfp8[N, K]; out y : f32[M, N]; y = a @ b.T }")
    assert ops(plain) == ["arg", "arg", "transpose", "matmul"]


def test_inputs_widen_and_outputs_round_once() -> None:
    kernel = kernel_of("kernel k(M) { in h : bf16[M]; out y : f16[M]; out z : bf16[M]; y = h + 1; z = h }")
    assert ops(kernel) == ["arg", "cast", "const", "add"]
    assert made(kernel, "z").op == "arg"


def test_a_quantized_input_is_decoded_where_it_is_used_elementwise() -> None:
    kernel = kernel_of("kernel k(M, N) { in q : nvfp4[M, N]; out y : f32[M, N]; y = q + 1 }")
    assert ops(kernel) == ["arg", "dequantize", "const", "add"]


def test_equal_operations_are_one_value() -> None:
    assert ops(body("out y : f32[M, N]\na = exp(x)\nb = exp(x)\ny = a * b")).count("exp") == 1


def test_what_is_not_stored_is_not_computed() -> None:
    assert ops(body("out y : f32[M, N]\nunused = exp(x)\ny = x")) == ["arg"]


def test_locals_keep_their_names() -> None:
    kernel = body("out y : f32[M, N]\nhalf = x / 2\nsame = half\ny = half + 1")
    assert [v.attrs.get("name") for v in kernel.values if v.op == "div"] == ["half"]


@pytest.mark.parametrize("written, value", [
    ("1 / 3", 0.3333333432674408),
    ("0.1", 0.10000000149011612),
    ("2 * 3 - 0x10", -10.0),
    ("-0.0", -0.0),
    ("16777217", 16777216.0),
])  # fmt: skip
def test_numbers_round_once(written: str, value: float) -> None:
    kernel = body(f"out y : f32[M, N]\ny = x + ({written})")
    (const,) = [v for v in kernel.values if v.op == "const"]
    assert str(const.attrs["value"]) == str(value)


def test_sizes_are_numbers_too() -> None:
    kernel = body("out y : f32[M, N]\ny = x / N + (N + 1)")
    assert [v.attrs["expr"] for v in kernel.values if v.op == "dim"] == ["N", ("add", "N", 1)]


def test_beta_zero_does_not_read() -> None:
    kernel = kernel_of("kernel k(M) { param beta : f32 = 0.0; in x : f32[M]; inout c : bf16[M]; c = x + beta * c }")
    assert ops(kernel) == ["arg", "arg", "arg", "cast", "const", "eq", "mul", "where", "add"]


def test_random_numbers_take_the_axes_of_their_expression() -> None:
    kernel = body("in rng : u64[2]; in p : f32[M]\nout y : f32[M, N]\ny = where(uniform(rng, stream = 3) < p, x, 0)")
    (uniform,) = [v for v in kernel.values if v.op == "uniform"]
    assert uniform.axes == ("M", "N") and uniform.attrs["stream"] == 3
    alone = body("in rng : u64[2]\nout y : f32[M, N]\ny = uniform(rng)")
    assert made(alone, "y").axes == ("M", "N")


def test_functions_are_put_in() -> None:
    text = (
        "fn f(x, by = 2) = x * by\nfn over_axis(x, axis) = sum(x, over = axis)\n"
        "kernel k(M, N) { in x : f32[M, N]; out y : f32[M]; y = over_axis(f(x) + f(x, by = 3), N) }"
    )
    kernel = kernel_of(text)
    assert ops(kernel) == ["arg", "const", "mul", "const", "mul", "add", "reduce"]
    assert kernel.values[-1].attrs["over"] == ("N",)


def test_quantize() -> None:
    kernel = body(
        "in ts : f32[]; in rng : u64[2]; in r : f32[M]\n"
        "out a : nvfp4[M, N]; out b : fp8_token[M, N]; out c : bf16[M, N]\n"
        "a = quantize(x, amax = 2 * ts, rounding = stochastic(rng, stream = 7))\n"
        "b = quantize(x, scale = r)\nc = dequantize(quantize(x, format = mxfp4))"
    )
    quantized = [v for v in kernel.values if v.op == "quantize"]
    assert [(v.attrs["mode"], v.attrs["rounding"], len(v.operands)) for v in quantized] == [
        ("amax", "stochastic", 3), ("scale", "nearest", 2), ("none", "nearest", 1),
    ]  # fmt: skip
    assert made(kernel, "c").op == "dequantize"


# Constraints and dims.


def test_constraints_are_named_one_by_one() -> None:
    kernel = kernel_of(
        "kernel k(M, N = 64, F = N / 2) where M % 8 == 0 and (M < 100 or M > 200) {\n"
        "in x : mxfp4[M, N]; out y : f32[M, F]; g, u = unzip(x, N -> F, group = 4); y = g + u }"
    )
    assert [(c.text, c.reason is not None) for c in kernel.constraints] == [
        ("M % 8 == 0", False), ("(M < 100 or M > 200)", False), ("N % 32 == 0", True), ("F % 4 == 0", True),
    ]  # fmt: skip


def test_specialize() -> None:
    kernel = kernel_of(
        "kernel k(M, N = 64, F = N / 2) { in x : mxfp4[M, N]; out y : f32[M, F]; g, u = unzip(x, N -> F); y = g }"
    )
    fixed = specialize(kernel, {"M": 7, "N": 128})
    assert {d.name: d.value for d in fixed.dims} == {"M": 7, "N": 128, "F": None}
    for sizes, code in (({"N": 33}, "FP2017"), ({"Q": 1}, "FP2001"), ({"F": 1}, "FP2016"), ({"M": 0}, "FP2016")):
        with pytest.raises(DiagnosticError) as caught:
            specialize(kernel, sizes)
        assert code in [d.code for d in caught.value.diagnostics]


def test_check_raises_without_a_collector() -> None:
    with pytest.raises(DiagnosticError) as caught:
        check(parse(Source("t", "kernel k(M) { in x : f32[M]; out y : f32[M]; y = z }")))
    assert [d.code for d in caught.value.diagnostics] == ["FP2001"]


def test_schedules_belong_to_kernels_in_order() -> None:
    first, second = kernel_of(
        "kernel k(M) { in x : f32[M]; out y : f32[M]; y = x }\n"
        "schedule k on sm_100a when M <= 128 { tile 128 x 64 x 256; swap_ab yes; raster 8 }\n"
        "schedule k on sm_100a { stages auto; reduce atomic }\n"
    ).schedules
    assert first.when == ("le", "M", 128)
    assert dict(first.fields) == {"tile": (128, 64, 256), "swap_ab": (True,), "raster": (8,)}
    assert dict(second.fields) == {"stages": ("auto",), "reduce": ("atomic",)}


def test_one_mistake_is_one_error() -> None:
    text = (
        "kernel k(M, N) {\n in x : f33[M, N]\n out y : f32[M, N]\n h = x + 1\n"
        " g = exp(h) @ h.T\n y = quantize(g)\n z = sum(g, over = Q)\n}\n"
    )
    assert [d.code for d in analyze(Source("t", text)).diagnostics] == ["FP2019", "FP3014"]


def test_a_number_times_the_old_value_is_a_product() -> None:
    kernel = kernel_of("kernel k(M) { in x : f32[M]; inout c : f32[M]; c = x + 2 * c }")
    assert ops(kernel) == ["arg", "arg", "const", "mul", "add"]
