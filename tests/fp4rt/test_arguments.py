"""What a call accepts, and what each wrong argument is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

import fp4rt
from fp4num import FORMATS, LAYOUTS, DataError, Quantized
from fp4num.quantize import operand_values
from fp4rt import ArgumentError, ConstraintError, Kernel
from fp4rt.typed import Arg, Axis, Constraint, Dim, Store, TypedKernel, Value

Load = Callable[[TypedKernel], Kernel]
RNG = np.random.default_rng(0)


def q(rows: int, columns: int, fmt: str = "nvfp4") -> Quantized:
    return fp4rt.quantize(RNG.standard_normal((rows, columns)).astype(np.float32), fmt)


@pytest.fixture
def kernel(gemm: TypedKernel, reference: Load) -> Kernel:
    return reference(gemm)


def broken(**changes: Any) -> Quantized:
    good = q(8, 64)
    fields: dict[str, Any] = {
        name: getattr(good, name) for name in ("codes", "scales", "tensor_scale", "format", "shape")
    }
    return Quantized(**{**fields, **changes})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"a": q(8, 64)}, "FP6102: gemm needs 'b'"),
        ({"a": q(8, 64), "b": q(8, 64), "x": 1}, "FP6101: 'x' is not an argument of gemm; arguments: a, b"),
        ({"a": q(8, 64), "b": q(8, 64), "c": 1}, r"FP6101: 'c' is an output of gemm(.|\n)*out=\{'c': array\}"),
        ({"a": np.zeros((8, 64)), "b": q(8, 64)}, r"FP6103: 'a' is nvfp4\[M, K\]: expected a Quantized, found ndarray"),
        ({"a": q(8, 64), "b": q(8, 64, "mxfp4")}, "FP6108: .*mxfp4: scale e4m3 is expected, e8m0 found"),
        ({"a": q(8, 64), "b": q(8, 32)}, "FP6105: 'b' has K = 32, but 'a' has 64"),
        ({"a": broken(codes=np.zeros((8, 64), np.uint8)), "b": q(8, 64)}, r"FP6105: a\.codes has shape \(8, 64\)"),
        ({"a": broken(scales=np.zeros(32, np.uint8)), "b": q(8, 64)}, r"FP6105: a\.scales .*\(32,\).*has \(512,\)"),
        ({"a": broken(scales=np.zeros(512, np.int8)), "b": q(8, 64)}, r"FP6104: 'a\.scales' has dtype int8"),
        ({"a": broken(tensor_scale=None), "b": q(8, 64)}, "FP6103: 'a' has no tensor scale"),
        ({"a": broken(tensor_scale=np.zeros(2, np.float32)), "b": q(8, 64)}, "FP6105: .*it is one number"),
        ({"a": broken(tensor_scale=1.0), "b": q(8, 64)}, r"FP6103: a\.tensor_scale is a float"),
        (
            {"a": broken(codes=np.zeros((32, 8), np.uint8).T), "b": q(8, 64)},
            r"FP6106: 'a\.codes' is not contiguous(.|\n)*np\.ascontiguousarray",
        ),
    ],
)
def test_wrong_arguments(kernel: Kernel, args: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        kernel(**args)


def test_a_format_of_the_same_meaning_is_accepted(kernel: Kernel) -> None:
    from dataclasses import replace

    renamed = replace(
        FORMATS["nvfp4"], name="mine", quantizer="modelopt", layout=replace(LAYOUTS["blocked_128x4"], name="l")
    )
    a = q(8, 64)
    same = Quantized(a.codes, a.scales, a.tensor_scale, renamed, a.shape)
    np.testing.assert_array_equal(kernel(a=same, b=a)["c"], kernel(a=a, b=a)["c"])


def test_another_layout_is_named(kernel: Kernel) -> None:
    from dataclasses import replace

    linear = replace(FORMATS["nvfp4"], layout=LAYOUTS["linear"])
    with pytest.raises(ArgumentError, match=r"FP6108: .*layout blocked_128x4 is expected, linear found"):
        kernel(a=q(8, 64), b=fp4rt.quantize(np.ones((8, 64), np.float32), linear))


def test_a_constraint_names_its_text_place_and_sizes(make_gemm: Callable[..., TypedKernel], reference: Load) -> None:
    rule = Constraint(("eq", ("mod", "K", 64), 0), "K % 64 == 0", "gemm.fp4:1:30", "a row of codes is 32 bytes")
    kernel = reference(make_gemm(constraints=(rule,)))
    kernel(a=q(8, 64), b=q(8, 64))
    with pytest.raises(
        ConstraintError, match=r"FP6201: constraint 'K % 64 == 0' \(gemm.fp4:1:30\) does not hold: K = 32; a row"
    ):
        kernel(a=q(8, 32), b=q(8, 32))


# plain arguments: y = x * gain + shift, with derived and static dims


def _plain(x_dtype: str = "f32") -> TypedKernel:
    m, n = Axis("M", "M"), Axis("N", "N")
    args = (
        Arg("x", "in", x_dtype, (m, n)),
        Arg("half", "in", "f32", (Axis("H", "H"),)),
        Arg("edges", "in", "i32", (Axis(None, ("add", "M", 1)),)),
        Arg("shift", "in", "f32", ()),
        Arg("gain", "param", "f32", (), 2.0),
        Arg("steps", "param", "i32", (), 1.0),
        Arg("y", "out", "f32", (m, n)),
    )
    values = (
        Value("arg", (), x_dtype, ("M", "N"), {"name": "x"}),
        Value("arg", (), "f32", (), {"name": "gain"}),
        Value("mul", (0, 1), "f32", ("M", "N")),
        Value("arg", (), "f32", (), {"name": "shift"}),
        Value("add", (2, 3), "f32", ("M", "N")),
    )
    dims = (Dim("M"), Dim("N", 8), Dim("H", expr=("div", "M", 2)))
    return TypedKernel("plain", dims, args, values, (Store("y", 4),))


def plain_args(rows: int = 4, **changes: Any) -> dict[str, Any]:
    good = {
        "x": np.ones((rows, 8), np.float32),
        "half": np.zeros(rows // 2, np.float32),
        "edges": np.zeros(rows + 1, np.int32),
        "shift": np.float32(1),
    }
    return {**good, **changes}


@pytest.fixture
def plain(reference: Load) -> Kernel:
    return reference(_plain())


def test_plain_call(plain: Kernel) -> None:
    assert (plain(**plain_args())["y"] == 3).all()
    assert (plain(**plain_args(gain=np.float64(4), shift=0.5))["y"] == 4.5).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones((4, 8))}, r"FP6104: 'x' has dtype float64; expected float32(.|\n)*x\.astype\(np\.float32\)"),
        ({"x": np.ones((8, 4), np.float32).T}, "FP6106: 'x' is not contiguous"),
        ({"x": np.ones((4, 9), np.float32)}, "FP6105: 'x' has N = 9, but the spec has 8"),
        ({"x": np.ones(8, np.float32)}, r"FP6105: 'x' has 1 axes \(8,\); its type is f32\[M, N\]"),
        ({"x": [[1.0]]}, "FP6103: 'x' is .*found list"),
        ({"x": q(4, 16)}, "FP6103: 'x' is .*found Quantized"),
        ({"half": np.zeros(3, np.float32)}, "FP6105: H = M / 2 is 2, but the shapes say 3"),
        ({"edges": np.zeros(4, np.int32)}, r"FP6105: 'edges' has shape \(4,\); i32\[M \+ 1\] is \(5,\) here"),
        ({"shift": np.zeros(1, np.float32)}, r"FP6105: 'shift' has 1 axes"),
        (
            {"gain": np.zeros(1, np.float32)},
            "FP6103: param 'gain' is passed by value: expected a number, found ndarray",
        ),
        ({"gain": True}, "FP6103: param 'gain'.*found bool"),
        ({"steps": 1.5}, "FP6103: param 'steps' is i32: 1.5 is not an integer"),
        ({"steps": float("nan")}, "FP6103: param 'steps' is i32: nan is not an integer"),
        ({"steps": float("inf")}, "FP6103: param 'steps' is i32: inf is not an integer"),
        ({"steps": 2**31}, "FP6103: param 'steps' is i32: 2147483648 is outside"),
        ({"gain": 1e300}, "FP6103: param 'gain' is f32: its value is too large"),
        ({"gain": 10**400}, "FP6103: param 'gain' is f32: its value is too large"),
        ({"shift": 1e300}, r"FP6103: 'shift' is f32\[\]: its value is too large"),
        ({"shift": 10**400}, r"FP6103: 'shift' is f32\[\]: its value is too large"),
        ({"x": np.ones((4, 8), np.float32).astype(">f4")}, "FP6104: 'x' has dtype float32 of the other byte order"),
        ({"out": [1]}, "FP6103: out is a dict from output names to arrays, not list"),
        ({"out": {"y": np.empty((4, 7), np.float32)}}, r"FP6105: out: 'y' has shape \(4, 7\); f32\[M, N\] is \(4, 8\)"),
        ({"out": {"z": 1}}, "FP6101: out: 'z' is not an output of plain; outputs: y"),
        ({"workspace": "x"}, "FP6111: workspace: expected"),
        ({"gains": 1}, r"FP6101: 'gains' is not an argument(.|\n)*did you mean 'gain'\?"),
    ],
)
def test_wrong_plain_arguments(plain: Kernel, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        plain(**plain_args(**changes))


def test_a_derived_dim_must_divide(plain: Kernel) -> None:
    args = plain_args(4)
    args.update(x=np.ones((5, 8), np.float32), edges=np.zeros(6, np.int32))
    with pytest.raises(ArgumentError, match=r"FP6110: H = M / 2: 5 / 2 leaves a remainder of 1"):
        plain(**args)


def test_read_only_outputs_are_refused(plain: Kernel) -> None:
    y = np.empty((4, 8), np.float32)
    y.flags.writeable = False
    with pytest.raises(ArgumentError, match="FP6103: 'y' is read-only"):
        plain(**plain_args(out={"y": y}))


def test_overlaps_are_refused(plain: Kernel) -> None:
    memory = np.zeros(64, np.float32)
    x, y = memory[:32].reshape(4, 8), memory[28:60].reshape(4, 8)
    with pytest.raises(ArgumentError, match="FP6107: output 'y' overlaps 'x'"):
        plain(**plain_args(x=x, out={"y": y}))
    plain(**plain_args(x=x, out={"y": memory[32:].reshape(4, 8)}))


def test_outputs_given_are_returned(plain: Kernel) -> None:
    y = np.empty((4, 8), np.float32)
    assert plain(**plain_args(out={"y": y}))["y"] is y


def test_bind_reads_the_memory_again(plain: Kernel) -> None:
    args = plain_args()
    bound = plain.bind(**args)
    assert (bound()["y"] == 3).all()
    args["x"][:] = 5
    assert (bound()["y"] == 11).all()
    assert bound()["y"] is bound.outputs["y"]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("bf16", np.array([[0x3F80, 0xC000]], np.uint16)),
        ("f16", np.array([[1, -2]], np.float16)),
        ("e4m3", np.array([[0x38, 0xC0]], np.uint8)),
        ("e5m2", np.array([[0x3C, 0xC0]], np.uint8)),
    ],
)
def test_narrow_floats(reference: Load, dtype: str, values: np.ndarray) -> None:
    x = np.tile(values, (4, 4))
    y = reference(_plain(dtype))(**plain_args(x=x))["y"]
    assert y.tolist() == [[3.0, -3.0] * 4] * 4
    with pytest.raises(ArgumentError, match="FP6104"):
        reference(_plain(dtype))(**plain_args())


def test_ml_dtypes_arrays_are_accepted(reference: Load) -> None:
    import ml_dtypes

    x = np.ones((4, 8), ml_dtypes.bfloat16)
    assert (reference(_plain("bf16"))(**plain_args(x=x))["y"] == 3).all()


def test_workspace_size_needs_all_dims(plain: Kernel) -> None:
    assert plain.workspace_size(M=4) == 0
    with pytest.raises(ArgumentError, match="FP6110: no argument determines the dim M"):
        plain.workspace_size()
    with pytest.raises(ArgumentError, match="FP6101: plain has no dim 'Q'"):
        plain.workspace_size(Q=1)
    for wrong in ("4", 4.0, True, None):
        with pytest.raises(ArgumentError, match="FP6110: M is .*: a dim is a whole number"):
            plain.workspace_size(M=cast("int", wrong))


def test_a_dim_that_stands_with_a_number_alone(reference: Load) -> None:
    """`offsets : i32[E + 1]` says how many groups there are where nothing else does."""
    m, e = Axis("M", "M", by="offsets"), Axis(None, ("add", "E", 1))
    args = (Arg("offsets", "in", "i32", (e,)), Arg("x", "in", "f32", (m,)), Arg("y", "out", "f32", (m,)))
    values = (Value("arg", (), "f32", ("M",), {"name": "x"}),)
    kernel = TypedKernel("groups", (Dim("E"), Dim("M")), args, values, (Store("y", 0),))
    loaded = reference(kernel)
    for groups in (1, 2, 5):
        offsets = np.linspace(0, 20, groups + 1).astype(np.int32)
        call = loaded.signature.inputs({"offsets": offsets, "x": np.ones(20, np.float32)})
        assert call.dims == {"E": groups, "M": 20}
    with pytest.raises(ArgumentError, match=r"FP6105: 'offsets' would have E = -1: .*i32\[E \+ 1\]"):
        loaded(offsets=np.zeros(0, np.int32), x=np.zeros(20, np.float32))
    twice = replace(kernel, args=(*args, Arg("g", "in", "f32", (e,))))
    with pytest.raises(ArgumentError, match=r"FP6105: 'g'"):
        reference(twice)(offsets=np.array([0, 20], np.int32), x=np.ones(20, np.float32), g=np.ones(3, np.float32))


def test_a_workspace_that_is_too_small(plain: Kernel) -> None:
    small = np.empty(3, np.uint8)
    plain(**plain_args(workspace=small))  # none is needed


def test_ragged_and_masked_arguments_are_checked(reference: Load) -> None:
    args = (
        Arg("offsets", "in", "i32", (Axis(None, ("add", "E", 1)),)),
        Arg("e", "in", "f32", (Axis("E", "E"),)),
        Arg("x", "in", "f32", (Axis("M", "M", by="offsets"),)),
        Arg("y", "out", "f32", (Axis("M", "M", by="offsets"),)),
    )
    values = (Value("arg", (), "f32", ("M",), {"name": "x"}),)
    kernel = reference(TypedKernel("ragged", (Dim("E"), Dim("M")), args, values, (Store("y", 0),)))
    x, e = np.ones(7, np.float32), np.zeros(2, np.float32)
    kernel(x=x, e=e, offsets=np.array([0, 7, 7], np.int32))
    for bad in ([0, 8, 7], [1, 3, 7], [0, 3, 6]):
        with pytest.raises(ArgumentError, match=r"FP6112: 'offsets' must start at 0, .* end at M = 7"):
            kernel(x=x, e=e, offsets=np.array(bad, np.int32))


def test_masked_outputs_go_to_the_device_with_what_they_hold(reference: Load) -> None:
    """Rows past a group's are not written: what they held has to come back."""
    rows = (Axis("E", "E"), Axis("M", "M", upto="counts"))
    args = (
        Arg("counts", "in", "i32", (Axis("E", "E"),)),
        Arg("x", "in", "f32", rows),
        Arg("z", "inout", "f32", (Axis("E", "E"),)),
        *(Arg(name, "out", "f32", axes) for name, axes in (("y", rows), ("top", (Axis("E", "E"),)))),
    )
    x = Value("arg", (), "f32", ("E", "M"), {"name": "x"})
    top = Value("max", (0,), "f32", ("E",), {"over": "M"})
    kernel = reference(TypedKernel("masked", (Dim("E"), Dim("M")), args, (x, top), (Store("y", 0), Store("top", 1))))
    given = {"x": np.ones((2, 3), np.float32), "counts": np.array([1, 3], np.int32), "z": np.zeros(2, np.float32)}
    call, _ = kernel.checked(given)
    assert {name: call.copied_in(name) for name in call.parts} == {
        "counts": True, "x": True, "z": True, "y": True, "top": False
    }  # fmt: skip


def test_arguments_may_be_called_as_the_calls_own(reference: Load) -> None:
    m = (Axis("M", "M"),)
    args = [Arg(n, "in", "f32", m) for n in ("self", "stream", "workspace")]
    values = [Value("arg", (), "f32", ("M",), {"name": a.name}) for a in args]
    values += [Value("add", (0, 1), "f32", ("M",)), Value("add", (2, 3), "f32", ("M",))]
    kernel = reference(
        TypedKernel("k", (Dim("M"),), (*args, Arg("y", "out", "f32", m)), tuple(values), (Store("y", 4),))
    )
    one = np.ones(3, np.float32)
    assert kernel(self=one, stream=one, workspace=one)["y"].tolist() == [3, 3, 3]
    with pytest.raises(ArgumentError, match="FP6102: k needs 'stream'"):
        kernel(self=one, workspace=one)


def test_every_error_has_a_listed_code() -> None:
    from fp4rt.errors import CODES

    error = ArgumentError("x", argument="x")
    assert error.code in CODES
    assert error.title == "argument has the wrong kind of value"
    assert str(ConstraintError("x", help="do y")) == "FP6201: x\n  help: do y"


# scales that are none, and ragged arguments


@pytest.mark.parametrize("byte", [0x80, 0xB8, 0xFF])
def test_negative_scales_are_one_error_on_every_device(kernel: Kernel, byte: int) -> None:
    good, kind = q(8, 64), "NaN" if byte == 0xFF else "negative"
    scales = good.scales.copy()
    scales[good.scale_places()[0, 7, 1]] = byte
    with pytest.raises(ArgumentError, match=rf"FP6114: a\.scales of nvfp4.* 0x{byte:02X}, which is {kind}, at block"):
        kernel(a=broken(scales=scales), b=good)


@pytest.mark.parametrize(("fmt", "byte"), [("nvfp4", 0x7F), ("nvfp4", 0xB8), ("mxfp8", 0xFF)])
def test_nan_in_the_padding_would_spoil_what_lies_beside_it(
    make_gemm: Callable[..., TypedKernel], reference: Load, fmt: str, byte: int
) -> None:
    """Where K ends within an atom, a kernel multiplies zeros by the padding: 0 * NaN."""
    good = q(8, 96, fmt)
    scales = np.full_like(good.scales, byte)
    scales[good.scale_places()] = good.scale_grid()
    bad = Quantized(good.codes, scales, good.tensor_scale, good.format, good.shape)
    with pytest.raises(ArgumentError, match=rf"FP6114: a\.scales of .* 0x{byte:02X} in their padding"):
        reference(make_gemm(FORMATS[fmt], FORMATS[fmt]))(a=bad, b=good)
    with pytest.raises(DataError, match="in their padding"):
        Quantized.from_parts(good.codes, scales, good.tensor_scale, fmt, good.shape)


def ragged_kernel(fmt: Any) -> TypedKernel:
    """y = x @ w.T for each group; copy = the decoded x, quantized again."""
    m, k = Axis("M", "M", by="offsets"), Axis("K", "K")
    args = (
        Arg("offsets", "in", "i32", (Axis(None, ("add", "E", 1)),)),
        Arg("x", "in", fmt, (m, k)),
        Arg("w", "in", "f32", (Axis("E", "E"), Axis("N", "N"), k)),
        Arg("y", "out", "f32", (m, Axis("N", "N"))),
        Arg("copy", "out", fmt, (m, k)),
    )
    values = (
        Value("arg", (), fmt, ("M", "K"), {"name": "x"}),
        Value("arg", (), "f32", ("E", "N", "K"), {"name": "w"}),
        Value("transpose", (1,), "f32", ("E", "K", "N")),
        Value("matmul", (0, 2), "f32", ("M", "N"), {"k": "K", "ragged": "offsets", "groups": "E"}),
        Value("dequantize", (0,), "f32", ("M", "K")),
        Value("quantize", (4,), fmt, ("M", "K"), {"mode": "none"}),
    )
    dims = (Dim("E"), Dim("M"), Dim("N"), Dim("K"))
    return TypedKernel("ragged", dims, args, values, (Store("y", 3), Store("copy", 5)))


@pytest.mark.parametrize("name", ["mxfp8", "ds_act"])
def test_ragged_arguments_and_outputs_lie_group_by_group(reference: Load, name: str) -> None:
    fmt = FORMATS[name]
    kernel = reference(ragged_kernel(fmt))
    offsets = np.array([0, 100, 100, 200], np.int32)
    rows = np.exp2(RNG.integers(-9, 9, (200, 1))).astype(np.float32)
    x = RNG.standard_normal((200, 128)).astype(np.float32) * rows
    w = RNG.integers(-3, 4, (3, 5, 128)).astype(np.float32)
    value = fp4rt.quantize(x, fmt, offsets=offsets)
    out = kernel(offsets=offsets, x=value, w=w)
    plain = operand_values(fp4rt.quantize(x, fmt))
    for e in range(3):
        group = slice(offsets[e], offsets[e + 1])
        np.testing.assert_array_equal(out["y"][group], (plain[group] @ w[e].T.astype(np.float64)).astype(np.float32))
    again = out["copy"]
    assert again.offsets is offsets and again.scales.shape == fp4rt.quantize(x, fmt, offsets=offsets).scales.shape
    np.testing.assert_array_equal(fp4rt.dequantize(again), fp4rt.dequantize(value))
    given = Quantized(np.empty_like(again.codes), np.empty_like(again.scales), None, fmt, (200, 128), offsets.copy())
    kernel(offsets=offsets, x=value, w=w, out={"copy": given})
    np.testing.assert_array_equal(given.scales, again.scales)


def test_groups_of_a_value_are_those_of_the_call(reference: Load) -> None:
    fmt = FORMATS["mxfp8"]
    kernel, offsets = reference(ragged_kernel(fmt)), np.array([0, 3, 8], np.int32)
    w, x = np.ones((2, 5, 64), np.float32), np.ones((8, 64), np.float32)
    with pytest.raises(ArgumentError, match=r"FP6113: .*M by offsets.*made without offsets(.|\n)*offsets=offsets"):
        kernel(offsets=offsets, x=fp4rt.quantize(x, fmt), w=w)
    for other in ([0, 4, 8], [0, 3, 8, 8], [0, 8]):
        with pytest.raises(ArgumentError, match="FP6113: 'x' was made with other offsets than 'offsets'"):
            kernel(offsets=offsets, x=fp4rt.quantize(x, fmt, offsets=other), w=w)
    for out in (fp4rt.quantize(x, fmt), fp4rt.quantize(x, fmt, offsets=[0, 4, 8])):
        with pytest.raises(ArgumentError, match="FP6113"):
            kernel(offsets=offsets, x=fp4rt.quantize(x, fmt, offsets=offsets), w=w, out={"copy": out})


def test_a_plain_argument_takes_no_groups(kernel: Kernel) -> None:
    grouped = fp4rt.quantize(np.ones((8, 64), np.float32), "nvfp4", offsets=[0, 3, 8])
    with pytest.raises(ArgumentError, match="FP6113: 'a' .*start anew for each group of rows"):
        kernel(a=grouped, b=q(8, 64))


def test_the_last_axis_of_a_quantized_tensor_has_no_groups(reference: Load) -> None:
    fmt = FORMATS["mxfp8"]
    args = (
        Arg("offsets", "in", "i32", (Axis(None, ("add", "E", 1)),)),
        Arg("x", "in", fmt, (Axis("M", "M"), Axis("K", "K", by="offsets"))),
        Arg("y", "out", "f32", (Axis("M", "M"), Axis("K", "K", by="offsets"))),
    )
    values = (
        Value("arg", (), fmt, ("M", "K"), {"name": "x"}),
        Value("dequantize", (0,), "f32", ("M", "K")),
    )
    dims = (Dim("E"), Dim("M"), Dim("K"))
    kernel = reference(TypedKernel("columns", dims, args, values, (Store("y", 1),)))
    with pytest.raises(ArgumentError, match="FP6113: .*its last axis, which cannot be ragged"):
        kernel(offsets=np.array([0, 64], np.int32), x=q(8, 64, "mxfp8"))


def test_random_ragged_inputs_go_by_their_offsets(reference: Load) -> None:
    for name in ("mxfp8", "ds_act", "ds_weight"):
        kernel = ragged_kernel(FORMATS[name])
        for seed in range(3):
            args = fp4rt.random_inputs(kernel, {"E": 3, "M": 300, "N": 8, "K": 128}, seed)
            reference(kernel)(**args)
        own = np.array([0, 5, 200, 300], np.int32)
        args = fp4rt.random_inputs(kernel, {"E": 3, "M": 300, "N": 8, "K": 128}, given={"offsets": own})
        assert args["x"].offsets is own
        reference(kernel)(**{**args, "offsets": own})


@pytest.mark.parametrize("module", ["ml_dtypes", "none"])
@pytest.mark.parametrize("dtype", ["bf16", "e4m3", "e5m2"])
def test_outputs_say_what_they_hold(
    reference: Load, make_gemm: Callable[..., TypedKernel], monkeypatch: pytest.MonkeyPatch, dtype: str, module: str
) -> None:
    from fp4num.dtypes import codes_dtype, element_of

    if module == "none":
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    codes_dtype.cache_clear()
    kernel = reference(make_gemm(out=dtype))
    c = kernel(a=q(8, 64), b=q(32, 64))["c"]
    codes_dtype.cache_clear()
    assert element_of(c.dtype) == dtype and (c.dtype.names is None) == (module == "ml_dtypes")
    values = fp4rt.decode(c, dtype)
    assert values.dtype == np.float32 and values.any()
    again = fp4rt.quantize(c, "nvfp4")
    np.testing.assert_array_equal(again.codes, fp4rt.quantize(values, "nvfp4").codes)
    with pytest.raises(DataError, match="integers are no numbers"):
        fp4rt.quantize(c.view(np.uint8 if dtype != "bf16" else np.uint16), "nvfp4")
    # It is an input of its own type, and of no other.
    into = lambda name: reference(_plain(name))(**plain_args(x=c[:4, :8].copy()))["y"]  # noqa: E731
    np.testing.assert_array_equal(into(dtype), values[:4, :8] * 2 + 1)
    other = "e5m2" if dtype == "e4m3" else "e4m3"
    with pytest.raises(ArgumentError, match="FP6104: 'x' has dtype"):
        into(other)
