"""Random inputs whose sums are exact, and comparisons that name the first difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import fp4num
import fp4rt
from fp4num import FORMATS, LAYOUTS, Quantized
from fp4rt.compare import compare_arrays, compare_outputs
from fp4rt.typed import Arg, Axis, Dim, TypedKernel


@pytest.mark.parametrize("k", [32, 512, 4096])
@pytest.mark.parametrize("name", list(FORMATS))
def test_sums_are_exact_in_any_order(make_gemm: Callable[..., TypedKernel], name: str, k: int) -> None:
    fmt = FORMATS[name]
    args = fp4rt.random_inputs(make_gemm(fmt, fmt), {"M": 9, "N": 7, "K": max(k, 128)}, seed=k)
    a, b = (fp4num.operand_values(args[n]) for n in "ab")
    with np.errstate(invalid="ignore"):
        exact = a @ b.T
        for seed in range(2):
            total = np.zeros(exact.shape, np.float32)
            for i in np.random.default_rng(seed).permutation(a.shape[1]):
                total += np.outer(a[:, i], b[:, i]).astype(np.float32)
            np.testing.assert_array_equal(total, exact)
    assert np.count_nonzero(exact) > exact.size // 2


@pytest.mark.parametrize("name", list(FORMATS))
def test_scales_cover_the_whole_range_of_their_type(make_gemm: Callable[..., TypedKernel], name: str) -> None:
    """Over some seeds: every code of e8m0 with the NaN, all but a few of e4m3, f32 from 2^-100 to 2^100."""
    fmt = FORMATS[name]
    kernel = make_gemm(fmt, fmt)
    found = [fp4rt.random_inputs(kernel, {"M": 256, "N": 8, "K": 256}, seed=s)["a"].scale_grid() for s in range(60)]
    scales = np.unique(np.concatenate([x.reshape(-1) for x in found]))
    if fmt.scale == "e8m0":
        assert len(scales) == 256
    elif fmt.scale == "e4m3":
        assert {1, 8, 0x7E} <= set(scales.tolist()) and len(scales) > 100
    else:
        assert np.log2(scales.min()) < -95 and np.log2(scales.max()) > 95


def test_some_rows_are_special(make_gemm: Callable[..., TypedKernel]) -> None:
    """Zeros of both signs, the greatest code, and in some calls one scale that is NaN."""
    fmt = FORMATS["mxfp4"]
    kernel = make_gemm(fmt, fmt)
    all_a = [fp4rt.random_inputs(kernel, {"M": 64, "N": 8, "K": 256}, seed=s)["a"] for s in range(16)]
    for a in all_a:
        codes = fp4num.unpack(a.codes, 4)
        assert ((codes & 7) == 0).all(axis=1).any() or (codes == 7).all(axis=1).any()
    assert 0 < sum((a.scale_grid() == 0xFF).any() for a in all_a) < 16
    assert max((a.scale_grid() == 0xFF).sum() for a in all_a) == 1


def test_the_two_operands_of_a_product_are_shifted_oppositely(make_gemm: Callable[..., TypedKernel]) -> None:
    """So that most results are of moderate size, wherever the scales lie."""
    fmt = FORMATS["mxfp8_e4m3"]
    kernel = make_gemm(fmt, fmt, "f32")
    for seed in range(8):
        args = fp4rt.random_inputs(kernel, {"M": 64, "N": 64, "K": 256}, seed=seed)
        a, b = (fp4num.operand_values(args[n]) for n in "ab")
        with np.errstate(invalid="ignore"):
            sums = np.abs(a @ b.T)
        sums = sums[np.isfinite(sums) & (sums > 0)]
        assert 2.0**-30 < np.median(sums) < 2.0**30
        assert sums.min() > 2.0**-149 and sums.max() < 2.0**128


@pytest.mark.parametrize("name", ["nvfp4", "mxfp8_e4m3", "mxfp6_e2m3"])
def test_all_codes_and_many_scales_occur(make_gemm: Callable[..., TypedKernel], name: str) -> None:
    fmt = FORMATS[name]
    a = fp4rt.random_inputs(make_gemm(fmt, fmt), {"M": 256, "N": 8, "K": 1024})["a"]
    codes = fp4num.unpack(a.codes, fmt.bits)
    assert len(np.unique(codes)) == {4: 16, 6: 64, 8: 254}[fmt.bits]
    assert len(np.unique(a.scale_grid())) > 4


def test_padding_is_what_the_layout_says(make_gemm: Callable[..., TypedKernel]) -> None:
    fmt = replace(FORMATS["nvfp4"], layout=replace(LAYOUTS["blocked_128x4"], pad=0))
    a = fp4rt.random_inputs(make_gemm(fmt, fmt), {"M": 5, "N": 5, "K": 96})["a"]
    assert np.count_nonzero(a.scales) == 5 * 6


def test_the_seed_decides(gemm: TypedKernel) -> None:
    one, two, three = (fp4rt.random_inputs(gemm, {"M": 8, "N": 8, "K": 64}, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one["a"].codes, two["a"].codes)
    assert (one["a"].codes != three["a"].codes).any()
    assert (one["a"].codes != one["b"].codes).any()


def test_every_kind_of_argument() -> None:
    args = (
        Arg("offsets", "in", "i32", (Axis(None, ("add", "E", 1)),)),
        Arg("counts", "in", "i32", (Axis("E", "E"),)),
        Arg("x", "in", "bf16", (Axis("M", "M", by="offsets"),)),
        Arg("w", "in", "f16", (Axis("E", "E"), Axis("N", "N", upto="counts"))),
        Arg("mask", "in", "bool", (Axis("M", "M"),)),
        Arg("rng", "in", "u64", (Axis(None, 2),)),
        Arg("s", "in", "f32", ()),
        Arg("gain", "param", "f32", ()),
        Arg("beta", "param", "f32", (), 0.0),
        Arg("c", "inout", "e4m3", (Axis("M", "M"),)),
        Arg("y", "out", "f32", (Axis("M", "M"),)),
    )
    kernel = TypedKernel("k", (Dim("E"), Dim("M"), Dim("N", 40)), args, (), ())
    out = fp4rt.random_inputs(kernel, {"E": 4, "M": 100})
    assert out["offsets"].dtype == np.int32 and out["offsets"][0] == 0 and out["offsets"][-1] == 100
    assert len(out["offsets"]) == 5 and (np.diff(out["offsets"]) >= 0).all()
    assert ((out["counts"] >= 0) & (out["counts"] <= 40)).all()
    assert out["x"].dtype == np.uint16 and out["w"].dtype == np.float16 and out["c"].dtype == np.uint8
    assert out["mask"].dtype == np.bool_ and out["rng"].dtype == np.uint64
    assert out["s"].shape == () and isinstance(out["gain"], float)
    assert "beta" not in out and "y" not in out
    assert "beta" in fp4rt.random_inputs(kernel, {"E": 4, "M": 100}, defaults=False)


def test_equal_arrays() -> None:
    x = np.array([1.0, np.nan], np.float32)
    y = np.array([0x3F800000, 0x7FFFFFFF], np.uint32).view(np.float32)
    result = compare_arrays("c", "f32", x, y)
    assert result.equal
    assert str(result) == "c: 2 elements equal"


def test_the_first_difference_is_named() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    y = x.copy()
    y[1, 2] = np.nextafter(np.float32(6), np.float32(7))
    y[2, 3] = 0
    result = compare_arrays("c", "f32", y, x)
    assert (result.wrong, result.first) == (2, (1, 2))
    assert str(result).startswith("c[1, 2]: expected 0x40c00000 (6), found 0x40c00001 (6.00000048); 2 of 12 differ")


@pytest.mark.parametrize(
    ("dtype", "a", "b", "distance"),
    [
        ("bf16", 0x3F80, 0x3F82, 2),
        ("bf16", 0x0001, 0x8001, 2),
        ("bf16", 0x0000, 0x8000, 1),
        ("e4m3", 0x38, 0x39, 1),
        ("e4m3", 0x7F, 0xFF, 0),
        ("f16", 0x3C00, 0x3BFF, 1),
    ],
)
def test_ulp_distances(dtype: str, a: int, b: int, distance: int) -> None:
    width = np.uint8 if dtype == "e4m3" else np.uint16
    x, y = np.array([a], width), np.array([b], width)
    if dtype == "f16":
        x, y = x.view(np.float16), y.view(np.float16)
    assert compare_arrays("c", dtype, x, y).largest == distance
    assert compare_arrays("c", dtype, x, y, ulp=distance).equal


def test_a_number_is_far_from_nan() -> None:
    assert not compare_arrays("c", "f32", np.float32([1]), np.float32([np.nan]), ulp=1000).equal


def test_another_shape_is_a_difference() -> None:
    result = compare_arrays("c", "f32", np.zeros(3, np.float32), np.zeros(4, np.float32))
    assert "expected shape (4,), found shape (3,)" in str(result)


def quantized_kernel() -> TypedKernel:
    args = (Arg("q", "out", FORMATS["nvfp4"], (Axis("M", "M"), Axis("N", "N"))),)
    return TypedKernel("k", (Dim("M"), Dim("N")), args, (), ())


def test_quantized_outputs_are_compared_code_by_code() -> None:
    good = fp4rt.quantize(np.random.default_rng(0).standard_normal((8, 32)).astype(np.float32), "nvfp4")
    codes, scales = good.codes.copy(), good.scales.copy()
    codes[2, 3] ^= 0x10
    scales[4 * 16 + 1] += 2
    bad = Quantized(codes, scales, good.tensor_scale, good.format, good.shape)
    results = {c.name: c for c in compare_outputs(quantized_kernel(), {"q": bad}, {"q": good})}
    assert results["q.codes"].first == (2, 7)
    assert results["q.tensor_scale"].equal
    assert "block (batch, row, k) = (0, 4, 1)" in str(results["q.scales"])
    scales[4 * 16 + 1] -= 2
    scales[2] = 9
    results = {c.name: c for c in compare_outputs(quantized_kernel(), {"q": bad}, {"q": good})}
    assert "(padding), found 0x09" in str(results["q.scales"])
