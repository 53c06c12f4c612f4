"""The reference interpreter against plain numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fp4num
import fp4rt
from fp4num import FORMATS, BlockFormat
from fp4rt import DeviceError, Kernel
from fp4rt.ops import OPS
from fp4rt.reference.tensorops import ordered_sum
from fp4rt.typed import Arg, Axis, Constraint, Dim, Store, TypedKernel, Value

Load = Callable[[TypedKernel], Kernel]
RNG = np.random.default_rng(1)


def axes(*names: str) -> tuple[Axis, ...]:
    return tuple(Axis(n, n) for n in names)


def build(args: Sequence[Arg], values: Sequence[Value], stores: Sequence[Store], dims: str = "M N") -> TypedKernel:
    none: tuple[Constraint, ...] = ()
    return TypedKernel("k", tuple(Dim(d) for d in dims.split()), tuple(args), tuple(values), tuple(stores), none)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", list(FORMATS))
def test_gemm_of_every_format(make_gemm: Callable[..., TypedKernel], reference: Load, name: str) -> None:
    fmt = FORMATS[name]
    kernel = make_gemm(fmt, fmt, "f32")
    args = fp4rt.random_inputs(kernel, {"M": 40, "N": 24, "K": 256}, seed=2)
    a, b = (fp4num.operand_values(args[n]) for n in "ab")
    with np.errstate(invalid="ignore"):
        expected = (a @ b.T).astype(np.float32)
    if fmt.tensor_scale:
        expected = expected * np.float32(args["a"].tensor_scale * args["b"].tensor_scale)
    np.testing.assert_array_equal(reference(kernel)(**args)["c"], expected)


@pytest.mark.parametrize(("m", "n", "k"), [(0, 8, 32), (8, 0, 32), (5, 7, 0)])
def test_empty_gemms(make_gemm: Callable[..., TypedKernel], reference: Load, m: int, n: int, k: int) -> None:
    kernel = make_gemm(out="f32")
    out = reference(kernel)(**fp4rt.random_inputs(kernel, {"M": m, "N": n, "K": k}))["c"]
    assert out.shape == (m, n)
    assert not out.any()


def test_broadcasting_is_by_name(reference: Load) -> None:
    """x[M, N] + row[M] * column[N]: with M = N a positional rule could not tell them apart."""
    kernel = build(
        [
            Arg("x", "in", "f32", axes("M", "N")),
            Arg("row", "in", "f32", axes("M")),
            Arg("col", "in", "f32", axes("N")),
            Arg("y", "out", "f32", axes("M", "N")),
            Arg("t", "out", "f32", axes("N", "M")),
        ],
        [
            Value("arg", (), "f32", ("M", "N"), {"name": "x"}),
            Value("arg", (), "f32", ("M",), {"name": "row"}),
            Value("arg", (), "f32", ("N",), {"name": "col"}),
            Value("mul", (1, 2), "f32", ("M", "N")),
            Value("add", (0, 3), "f32", ("M", "N")),
            Value("transpose", (4,), "f32", ("N", "M")),
        ],
        [Store("y", 4), Store("t", 5)],
    )
    x, row, col = normal(6, 6), normal(6), normal(6)
    out = reference(kernel)(x=x, row=row, col=col)
    np.testing.assert_array_equal(out["y"], x + row[:, None] * col[None, :])
    np.testing.assert_array_equal(out["t"], out["y"].T)


def test_a_value_is_broadcast_where_it_is_stored(reference: Load) -> None:
    kernel = build(
        [
            Arg("col", "in", "f32", axes("N")),
            Arg("like", "in", "f32", axes("M")),
            Arg("y", "out", "bf16", axes("M", "N")),
        ],
        [Value("arg", (), "f32", ("N",), {"name": "col"})],
        [Store("y", 0)],
    )
    col = normal(8)
    y = reference(kernel)(col=col, like=normal(3))["y"]
    np.testing.assert_array_equal(y.view(np.uint16), np.tile(fp4num.encode(col, "bf16"), (3, 1)))


@pytest.mark.parametrize("shared", [False, True])
def test_batched_gemm(reference: Load, shared: bool) -> None:
    fmt = FORMATS["mxfp8_e4m3"]
    b_axes = ("N", "K") if shared else ("L", "N", "K")
    t_axes = ("K", "N") if shared else ("L", "K", "N")
    kernel = build(
        [
            Arg("a", "in", fmt, axes("L", "M", "K")),
            Arg("b", "in", fmt, axes(*b_axes)),
            Arg("c", "out", "f32", axes("L", "M", "N")),
        ],
        [
            Value("arg", (), fmt, ("L", "M", "K"), {"name": "a"}),
            Value("arg", (), fmt, b_axes, {"name": "b"}),
            Value("transpose", (1,), fmt, t_axes),
            Value("matmul", (0, 2), "f32", ("L", "M", "N"), {"k": "K"}),
        ],
        [Store("c", 3)],
        "L M N K",
    )
    args = fp4rt.random_inputs(kernel, {"L": 3, "M": 10, "N": 12, "K": 64})
    a, b = (fp4num.dequantize(args[n]).astype(np.float64) for n in "ab")
    np.testing.assert_array_equal(reference(kernel)(**args)["c"], a @ np.swapaxes(b, -1, -2))


def test_inout_is_read_and_written_in_place(reference: Load) -> None:
    """c = x + (0 where beta == 0, else beta * c): what the checker writes for `x + beta * c`."""
    m_n = ("M", "N")
    kernel = build(
        [
            Arg("x", "in", "f32", axes(*m_n)),
            Arg("beta", "param", "f32", (), 0.0),
            Arg("c", "inout", "bf16", axes(*m_n)),
        ],
        [
            Value("arg", (), "f32", m_n, {"name": "x"}),
            Value("arg", (), "f32", (), {"name": "beta"}),
            Value("arg", (), "bf16", m_n, {"name": "c"}),
            Value("cast", (2,), "f32", m_n),
            Value("mul", (1, 3), "f32", m_n),
            Value("const", (), "f32", (), {"value": 0.0}),
            Value("eq", (1, 5), "bool", ()),
            Value("where", (6, 5, 4), "f32", m_n),
            Value("add", (0, 7), "f32", m_n),
        ],
        [Store("c", 8)],
    )
    x = np.ones((4, 8), np.float32)
    c = np.full((4, 8), 0x7FC0, np.uint16)  # NaN
    run = reference(kernel)
    assert run(x=x, c=c)["c"] is c
    assert (c == 0x3F80).all()
    run(x=x, c=c, beta=2.0)
    assert (fp4num.decode(c, "bf16") == 3).all()


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        ("max", lambda x: x.max(1)),
        ("min", lambda x: x.min(1)),
        ("sum", lambda x: x.astype(np.float64).sum(1).astype(np.float32)),
        ("mean", lambda x: x.astype(np.float64).mean(1).astype(np.float32)),
        ("mean_square", lambda x: (x.astype(np.float64) ** 2).mean(1).astype(np.float32)),
    ],
)
def test_reductions(reference: Load, kind: str, meaning: Callable[[Any], Any]) -> None:
    kernel = build(
        [Arg("x", "in", "f32", axes("M", "N")), Arg("y", "out", "f32", axes("M"))],
        [
            Value("arg", (), "f32", ("M", "N"), {"name": "x"}),
            Value("reduce", (0,), "f32", ("M",), {"kind": kind, "over": ("N",)}),
        ],
        [Store("y", 1)],
    )
    x = normal(5, 900)
    found = reference(kernel)(x=x)["y"]
    if kind in ("max", "min"):
        np.testing.assert_array_equal(found, meaning(x))
    else:
        np.testing.assert_array_less(np.abs(found - meaning(x)), 40 * 2.0**-24 * np.abs(x).sum(1))


def test_the_order_of_sums() -> None:
    x = normal(70, 45)
    padded = np.zeros((96, 64), np.float32)
    padded[:70, :45] = x

    def halves(v: np.ndarray[Any, Any]) -> np.float32:
        while len(v) > 1:
            v = v[: len(v) // 2] + v[len(v) // 2 :]
        return v[0]

    row = halves(padded[3, :32]) + halves(padded[3, 32:])
    assert ordered_sum(x, (1,))[3] == row
    column = halves(padded[:32, 7]) + halves(padded[32:64, 7]) + halves(padded[64:, 7])
    assert ordered_sum(x, (0,))[7] == column
    blocks = [
        [halves(np.array([halves(r) for r in padded[i : i + 32, j : j + 32]])) for j in (0, 32)] for i in (0, 32, 64)
    ]
    rows = np.zeros(32, np.float32)
    rows[:3] = [a + b for a, b in blocks]
    assert ordered_sum(x, (0, 1)) == halves(rows)


def test_max_of_numbers_and_nan(reference: Load) -> None:
    kernel = build(
        [Arg("x", "in", "f32", axes("M", "N")), Arg("y", "out", "f32", axes("M"))],
        [
            Value("arg", (), "f32", ("M", "N"), {"name": "x"}),
            Value("reduce", (0,), "f32", ("M",), {"kind": "max", "over": ("N",)}),
        ],
        [Store("y", 1)],
    )
    nan = np.nan
    y = reference(kernel)(x=np.array([[nan, 1, 2], [nan, nan, nan]], np.float32))["y"]
    assert y[0] == 2
    assert np.isnan(y[1])


@pytest.mark.parametrize("group", [1, 4, 8])
def test_unzip(reference: Load, group: int) -> None:
    def half(part: int) -> Value:
        attrs = {"axis": "N", "into": "F", "group": group, "part": part}
        return Value("unzip", (0,), "f32", ("M", "F"), attrs)

    kernel = TypedKernel(
        "k",
        (Dim("M"), Dim("N"), Dim("F", expr=("div", "N", 2))),
        (
            Arg("x", "in", "f32", axes("M", "N")),
            Arg("g", "out", "f32", axes("M", "F")),
            Arg("u", "out", "f32", axes("M", "F")),
        ),
        (Value("arg", (), "f32", ("M", "N"), {"name": "x"}), half(0), half(1)),
        (Store("g", 1), Store("u", 2)),
    )
    x = normal(3, 16)
    out = reference(kernel)(x=x)
    parts = x.reshape(3, -1, 2, group)
    np.testing.assert_array_equal(out["g"], parts[:, :, 0].reshape(3, 8))
    np.testing.assert_array_equal(out["u"], parts[:, :, 1].reshape(3, 8))


def test_hadamard_is_the_sylvester_matrix(reference: Load) -> None:
    kernel = build(
        [
            Arg("x", "in", "f32", axes("M", "N")),
            Arg("signs", "in", "f32", (Axis(None, 16),)),
            Arg("y", "out", "f32", axes("M", "N")),
        ],
        [
            Value("arg", (), "f32", ("M", "N"), {"name": "x"}),
            Value("arg", (), "f32", (), {"name": "signs"}),
            Value("hadamard", (0, 1), "f32", ("M", "N"), {"axis": "N", "size": 16}),
        ],
        [Store("y", 2)],
    )
    h = np.ones((1, 1))
    while len(h) < 16:
        h = np.block([[h, h], [h, -h]])
    x = RNG.integers(-8, 8, (4, 32)).astype(np.float32)
    signs = RNG.choice([-1.0, 1.0], 16).astype(np.float32)
    expected = ((x.reshape(4, 2, 16) * signs) @ h / 4).reshape(4, 32)
    np.testing.assert_array_equal(reference(kernel)(x=x, signs=signs)["y"], expected)


def test_uniform_is_philox(reference: Load) -> None:
    kernel = build(
        [
            Arg("rng", "in", "u64", (Axis(None, 2),)),
            Arg("m", "in", "f32", axes("M")),
            Arg("n", "in", "f32", axes("N")),
            Arg("y", "out", "f32", axes("M", "N")),
        ],
        [Value("arg", (), "u64", (), {"name": "rng"}), Value("uniform", (0,), "f32", ("M", "N"), {"stream": 1})],
        [Store("y", 1)],
    )
    rng = np.array([1, 2], np.uint64)
    y = reference(kernel)(rng=rng, m=normal(3), n=normal(5))["y"]
    np.testing.assert_array_equal(y, fp4num.philox.uniform((3, 5), rng, 1))  # type: ignore[attr-defined]


def test_casts(reference: Load) -> None:
    kernel = build(
        [
            Arg("x", "in", "f32", axes("M")),
            Arg("i", "out", "i32", axes("M")),
            Arg("h", "out", "f16", axes("M")),
            Arg("e", "out", "e4m3", axes("M")),
            Arg("n", "out", "f32", axes("M")),
        ],
        [
            Value("arg", (), "f32", ("M",), {"name": "x"}),
            Value("cast", (0,), "i32", ("M",)),
            Value("cast", (0,), "bf16", ("M",)),
            Value("dim", (), "i32", (), {"expr": ("mul", "M", 2)}),
            Value("cast", (3,), "f32", ()),
        ],
        [Store("i", 1), Store("h", 2), Store("e", 0), Store("n", 4)],
        "M",
    )
    x = np.array([1.7, -1.7, 3e9, -np.inf, np.nan, 1.00390625], np.float32)
    out = reference(kernel)(x=x)
    assert out["i"].tolist() == [1, -1, 2**31 - 1, -(2**31), 0, 1]
    assert out["h"][5] == 1.0  # rounded to bf16 on the way
    np.testing.assert_array_equal(out["e"].view(np.uint8), fp4num.encode(x, "e4m3"))
    assert (out["n"] == 12).all()


def test_an_unknown_operation_is_named(reference: Load) -> None:
    kernel = build(
        [Arg("x", "in", "f32", axes("M")), Arg("y", "out", "f32", axes("M"))],
        [Value("arg", (), "f32", ("M",), {"name": "x"}), Value("frobnicate", (0,), "f32", ("M",))],
        [Store("y", 1)],
        "M",
    )
    with pytest.raises(DeviceError, match="FP6307: the reference has no operation 'frobnicate'"):
        reference(kernel)(x=normal(3))


def test_ragged_product(reference: Load) -> None:
    fmt: BlockFormat = FORMATS["mxfp8_e4m3"]
    kernel = build(
        [
            Arg("offsets", "in", "i32", (Axis(None, ("add", "E", 1)),)),
            Arg("x", "in", "f32", (Axis("M", "M", by="offsets"), Axis("K", "K"))),
            Arg("w", "in", fmt, axes("E", "N", "K")),
            Arg("y", "out", "f32", (Axis("M", "M", by="offsets"), Axis("N", "N"))),
        ],
        [
            Value("arg", (), "f32", ("M", "K"), {"name": "x"}),
            Value("arg", (), fmt, ("E", "N", "K"), {"name": "w"}),
            Value("transpose", (1,), fmt, ("E", "K", "N")),
            Value("matmul", (0, 2), "f32", ("M", "N"), {"k": "K", "ragged": "offsets", "groups": "E"}),
        ],
        [Store("y", 3)],
        "E M N K",
    )
    args = fp4rt.random_inputs(kernel, {"E": 3, "M": 20, "N": 8, "K": 32})
    args["offsets"] = np.array([0, 5, 5, 20], np.int32)
    w = fp4num.dequantize(args["w"]).astype(np.float64)
    y = reference(kernel)(**args)["y"]
    np.testing.assert_array_equal(y[:5], args["x"][:5] @ w[0].T)
    np.testing.assert_array_equal(y[5:], args["x"][5:] @ w[2].T)


def test_products_are_not_rounded_before_they_are_added(make_gemm: Callable[..., TypedKernel], reference: Load) -> None:
    """6 * 2^127 is above f32, and 6 * 2^127 * 1 * 2^-127 is 6."""
    fmt = FORMATS["mxfp4"]
    kernel = make_gemm(fmt, fmt, "f32")
    args = fp4rt.random_inputs(kernel, {"M": 8, "N": 8, "K": 32})
    args["a"].codes[:], args["a"].scales[:] = 0x77, 0xFE
    args["b"].codes[:], args["b"].scales[:] = 0x22, 0x00
    np.testing.assert_array_equal(reference(kernel)(**args)["c"], np.full((8, 8), 32 * 6.0, np.float32))
    args["b"].scales[1] = 0xFF  # padding, whose NaN a tensor core would multiply by zero
    with pytest.raises(fp4rt.ArgumentError, match="padding, at element 1"):
        reference(kernel)(**args)
    args["b"].scales[1], args["b"].scales[16] = 0x00, 0xFF  # row 1
    assert (np.isnan(reference(kernel)(**args)["c"]) == (np.arange(8) == 1)).all()


def test_beside_a_plain_operand_values_are_f32(make_gemm: Callable[..., TypedKernel], reference: Load) -> None:
    fmt = FORMATS["mxfp4"]
    made = make_gemm(fmt, fmt, "f32")
    plain = replace(made.args[0], dtype="bf16")
    values = [replace(v, dtype="bf16") if v.attrs.get("name") == "a" else v for v in made.values]
    kernel = replace(made, args=(plain, *made.args[1:]), values=tuple(values))
    args = fp4rt.random_inputs(kernel, {"M": 8, "N": 8, "K": 32})
    args["a"][:] = 0x3F80
    args["b"].codes[:], args["b"].scales[:] = 0x77, 0xFE
    assert (reference(kernel)(**args)["c"] == np.inf).all()


@pytest.mark.parametrize("kind", ["max", "min"])
def test_extremes_of_zeros_are_those_of_the_elementwise_operation(reference: Load, kind: str) -> None:
    """In any order, and of a NaN and a number the number."""
    kernel = build(
        [Arg("x", "in", "f32", axes("M", "N")), Arg("y", "out", "f32", axes("M"))],
        [
            Value("arg", (), "f32", ("M", "N"), {"name": "x"}),
            Value("reduce", (0,), "f32", ("M",), {"kind": kind, "over": ("N",)}),
        ],
        [Store("y", 1)],
    )
    chosen = np.array([0.0, -0.0, np.nan], np.float32)
    signaling = np.array([0x7F800001], np.uint32).view(np.float32)
    x = np.random.default_rng(0).choice(np.concatenate([chosen, signaling]), (200, 9))
    expected = x[:, 0]
    for column in range(1, 9):
        expected = OPS[kind].numpy(expected, x[:, column])
    found = reference(kernel)(x=x)["y"]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found[~np.isnan(found)]), np.signbit(expected[~np.isnan(found)]))
    assert {np.signbit(v).item() for v in found if v == 0} == {True, False}


@pytest.mark.parametrize("shape", [(0, 64), (64, 0), (0, 0)], ids=str)
def test_sums_and_transforms_of_nothing(reference: Load, shape: tuple[int, int]) -> None:
    axes, x = ("M", "N"), Arg("x", "in", "f32", (Axis("M", "M"), Axis("N", "N")))
    leaf = Value("arg", (), "f32", axes, {"name": "x"})
    turned = Value("hadamard", (0,), "f32", axes, {"axis": "N", "size": 16})
    values = (leaf, turned, *(Value("reduce", (1,), "f32", kept, {"kind": "sum", "over": over})
                              for kept, over in ((("M",), "N"), (("N",), "M"), ((), axes))))  # fmt: skip
    outs = (Arg("h", "out", "f32", x.axes), Arg("r", "out", "f32", x.axes[:1]), Arg("c", "out", "f32", x.axes[1:]),
            Arg("t", "out", "f32", ()))  # fmt: skip
    stores = tuple(Store(arg.name, i) for i, arg in enumerate(outs, 1))
    kernel = TypedKernel("sums", (Dim("M"), Dim("N")), (x, *outs), values, stores)
    found = reference(kernel)(x=np.zeros(shape, np.float32))
    assert [found[a.name].shape for a in outs] == [shape, shape[:1], shape[1:], ()]
    assert all((found[name] == 0).all() for name in "rct")
