"""Floating-point instructions against exact rational arithmetic and numpy."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

CANONICAL_NAN = 0x7FFF_FFFF
TINY = 2.0**-126


def special() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Zeros, subnormals, limits, infinities, NaN, and values near ties of narrower formats, with both signs."""
    bits = np.array(
        [
            0,
            1,
            2,
            0x007FFFFF,
            0x00800000,
            0x00800001,
            0x33800000,
            0x34000000,
            0x3EFFFFFF,
            0x3F000000,
            0x3F7FFFFF,
            0x3F800000,
            0x3F800001,
            0x3F808000,
            0x3F818000,
            0x3F800FFF,
            0x3F801000,
            0x40490FDB,
            0x477FE000,
            0x477FF000,
            0x43E00000,
            0x47600000,
            0x7F7FFFFF,
            0x7F7F8000,
            0x7F800000,
            0x7FC00000,
            0x7F800001,
            0x4B000000,
        ],
        np.uint32,
    )
    return np.concatenate([bits, bits | 0x8000_0000]).astype(np.uint32).view(np.float32)


def operands(rng: np.random.Generator, arity: int, count: int = 1500) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """All pairs of special values, then random bit patterns, then values of like exponents (where sums cancel)."""
    table = special()
    first = np.meshgrid(*[table] * 2)
    columns = [g.reshape(-1) for g in first]
    while len(columns) < arity:
        columns.append(rng.permutation(columns[0]))
    random = [rng.integers(0, 1 << 32, count, dtype=np.uint32).view(np.float32) for _ in range(arity)]
    near = [
        (rng.integers(-(1 << 24), 1 << 24, count) * 2.0 ** rng.integers(-3, 3, count)).astype(np.float32)
        for _ in range(arity)
    ]
    return [np.concatenate(parts) for parts in zip(columns[:arity], random, near, strict=True)]


def round_exact(value: Fraction, zero_sign: float, mode: str = "rn") -> float:
    """The f32 nearest to (or, by mode, next to) a rational; `zero_sign` for an exact zero."""
    if value == 0:
        return math.copysign(0.0, zero_sign)
    sign, magnitude = (-1 if value < 0 else 1), abs(value)
    exponent = max(math.frexp(float(magnitude))[1] - 1 if float(magnitude) else -200, -126)
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while exponent > -126 and magnitude < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** (exponent - 23)
    units, rest = divmod(magnitude, step)
    up = {
        "rn": 2 * rest > step or (2 * rest == step and units % 2 == 1),
        "rz": False,
        "rp": rest > 0 and sign > 0,
        "rm": rest > 0 and sign < 0,
    }[mode]
    result = (units + up) * step
    if result > Fraction(np.finfo(np.float32).max.item()):
        infinite = mode == "rn" or (mode == "rp" and sign > 0) or (mode == "rm" and sign < 0)
        return sign * (math.inf if infinite else np.finfo(np.float32).max.item())
    return sign * float(result)


def expect(values: list[float]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    bits = np.array(values, np.float32).view(np.uint32).copy()
    bits[np.isnan(np.array(values, np.float32))] = CANONICAL_NAN
    return bits


def fma_reference(a: float, b: float, c: float, mode: str = "rn") -> float:
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        with np.errstate(all="ignore"):
            return float(np.float64(a) * np.float64(b) + np.float64(c))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    with np.errstate(all="ignore"):
        product_sign = math.copysign(1, a) * math.copysign(1, b)
    zero = product_sign if product_sign == math.copysign(1, c) else (-1.0 if mode == "rm" else 1.0)
    if exact == 0 and (Fraction(a) * Fraction(b) != 0 or c != 0):
        zero = -1.0 if mode == "rm" else 1.0
    return round_exact(exact, zero, mode)


def test_fma_is_rounded_once(lanes: Any, rng: np.random.Generator) -> None:
    a, b, c = operands(rng, 3)
    got = lanes("fma.rn.f32 %out0, %in0, %in1, %in2;", a, b, c)
    np.testing.assert_array_equal(
        got, expect([fma_reference(float(x), float(y), float(z)) for x, y, z in zip(a, b, c, strict=True)])
    )


def test_fma_where_rounding_twice_is_wrong(lanes: Any) -> None:
    """(1 + 2^-12)^2 + 2^-60: the exact sum lies just above a tie of f32, which f64 arithmetic rounds onto."""
    a = np.array([1 + 2**-12, 1 + 2**-23], np.float32)
    c = np.array([2.0**-60, -(2.0**-80)], np.float32)
    b = np.array([1 + 2**-12, 0.5 + 2**-24], np.float32)
    got = lanes("fma.rn.f32 %out0, %in0, %in1, %in2;", a, b, c)
    want = [fma_reference(float(x), float(y), float(z)) for x, y, z in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(got, expect(want))


@pytest.mark.parametrize("mode", ["rz", "rp", "rm"])
def test_directed_rounding(mode: str, lanes: Any, rng: np.random.Generator) -> None:
    a, b, c = operands(rng, 3, 400)
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    a, b, c = a[finite], b[finite], c[finite]
    code = (
        f"fma.{mode}.f32 %out0, %in0, %in1, %in2; add.{mode}.f32 %out1, %in0, %in1; mul.{mode}.f32 %out2, %in0, %in1;"
    )
    fused, total, product = lanes(code, a, b, c, out=[np.uint32] * 3)
    triples = [(float(x), float(y), float(z)) for x, y, z in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(
        product,
        expect(
            [
                round_exact(Fraction(x) * Fraction(y), math.copysign(1, x) * math.copysign(1, y), mode)
                for x, y, _ in triples
            ]
        ),
    )
    np.testing.assert_array_equal(total, expect([fma_reference(x, 1.0, y, mode) for x, y, _ in triples]))
    np.testing.assert_array_equal(fused, expect([fma_reference(x, y, z, mode) for x, y, z in triples]))


@pytest.mark.parametrize("mode", ["rn", "rz", "rp", "rm"])
def test_division_and_root(mode: str, lanes: Any, rng: np.random.Generator) -> None:
    a, b = operands(rng, 2, 600)
    keep = np.isfinite(a) & np.isfinite(b) & (b != 0)
    a, b = a[keep], b[keep]
    quotient, root = lanes(
        f"div.{mode}.f32 %out0, %in0, %in1; abs.f32 %r0, %in0; sqrt.{mode}.f32 %out1, %r0;", a, b, out=[np.uint32] * 2
    )
    pairs = [(float(x), float(y)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(
        quotient,
        expect(
            [round_exact(Fraction(x) / Fraction(y), math.copysign(1, x) * math.copysign(1, y), mode) for x, y in pairs]
        ),
    )
    roots: list[float] = []
    for x, _ in pairs:
        value = Fraction(abs(x))
        scale = 1 << 200
        whole = math.isqrt(value.numerator * scale * scale // value.denominator)
        exact = whole * whole * value.denominator == value.numerator * scale * scale
        roots.append(round_exact(Fraction(2 * whole + (not exact), 2 * scale), 1.0, mode))
    np.testing.assert_array_equal(root, expect(roots))


@pytest.mark.parametrize(
    ("opcode", "function"), [("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("div", np.divide)]
)
@pytest.mark.parametrize("ftz", [False, True])
def test_nearest(opcode: str, function: Any, ftz: bool, lanes: Any, rng: np.random.Generator) -> None:
    a, b = operands(rng, 2)
    got = lanes(f"{opcode}.rn.{'ftz.' if ftz else ''}f32 %out0, %in0, %in1;", a, b)

    def flush(x: Any) -> Any:
        return np.where(np.abs(x) < TINY, np.copysign(np.float32(0), x), x).astype(np.float32) if ftz else x

    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, expect(flush(function(flush(a), flush(b))).tolist()))


def test_packed_pairs_equal_single_ones(lanes: Any, rng: np.random.Generator) -> None:
    a, b, c = operands(rng, 3, 500)
    code = (
        "mov.b64 %rd0, {%in0, %in1}; mov.b64 %rd1, {%in1, %in2}; mov.b64 %rd2, {%in2, %in0};"
        "fma.rn.f32x2 %rd3, %rd0, %rd1, %rd2; mov.b64 {%out0, %out1}, %rd3;"
        "add.rn.f32x2 %rd4, %rd0, %rd1; mov.b64 {%out2, %r0}, %rd4; mul.rn.f32x2 %rd5, %rd0, %rd1; "
        "mov.b64 {%r1, %out3}, %rd5;"
    )
    packed = lanes(code, a, b, c, out=[np.uint32] * 4)
    single = lanes(
        "fma.rn.f32 %out0, %in0, %in1, %in2; fma.rn.f32 %out1, %in1, %in2, %in0; add.rn.f32 %out2, %in0, %in1; "
        "mul.rn.f32 %out3, %in1, %in2;",
        a,
        b,
        c,
        out=[np.uint32] * 4,
    )
    for got, want in zip(packed, single, strict=True):
        np.testing.assert_array_equal(got, want)


def test_min_and_max(lanes: Any, rng: np.random.Generator) -> None:
    a, b = operands(rng, 2)
    low, high, low_nan, xorsign = lanes(
        "min.f32 %out0, %in0, %in1; max.f32 %out1, %in0, %in1; min.NaN.f32 %out2, %in0, %in1; "
        "max.xorsign.abs.f32 %out3, %in0, %in1;",
        a,
        b,
        out=[np.uint32] * 4,
    )

    def pick(x: float, y: float, least: bool, propagate: bool = False) -> float:
        if math.isnan(x) or math.isnan(y):
            return math.nan if propagate or (math.isnan(x) and math.isnan(y)) else (y if math.isnan(x) else x)
        key = lambda v: (v, math.copysign(1, v))  # noqa: E731
        return min(x, y, key=key) if least else max(x, y, key=key)

    pairs = [(float(x), float(y)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(low, expect([pick(x, y, True) for x, y in pairs]))
    np.testing.assert_array_equal(high, expect([pick(x, y, False) for x, y in pairs]))
    np.testing.assert_array_equal(low_nan, expect([pick(x, y, True, True) for x, y in pairs]))
    signs = [math.copysign(1, x) * math.copysign(1, y) for x, y in pairs]
    np.testing.assert_array_equal(
        xorsign, expect([math.copysign(pick(abs(x), abs(y), False), s) for (x, y), s in zip(pairs, signs, strict=True)])
    )


def test_saturation(lanes: Any) -> None:
    a = special()
    got = lanes("add.sat.f32 %out0, %in0, 0f00000000;", a)
    want = np.where(np.isnan(a), 0, np.clip(a, 0, 1)).astype(np.float32)
    np.testing.assert_array_equal(got.view(np.float32), want)


APPROXIMATE = {
    "ex2.approx.ftz.f32": (np.exp2, -120.0, 120.0),
    "lg2.approx.f32": (np.log2, 0.01, 1e6),
    "rcp.approx.f32": (lambda x: 1 / x, 0.01, 1e6),
    "rsqrt.approx.f32": (lambda x: 1 / np.sqrt(x), 0.01, 1e6),
    "sqrt.approx.f32": (np.sqrt, 0.01, 1e6),
    "sin.approx.f32": (np.sin, -3.0, 3.0),
    "cos.approx.f32": (np.cos, -3.0, 3.0),
    "tanh.approx.f32": (np.tanh, -5.0, 5.0),
}


@pytest.mark.parametrize("opcode", APPROXIMATE)
def test_approximate_functions_are_rounded_to_nearest(opcode: str, lanes: Any, rng: np.random.Generator) -> None:
    function, low, high = APPROXIMATE[opcode]
    x = rng.uniform(low, high, 500).astype(np.float32)
    got = lanes(f"{opcode} %out0, %in0;", x, out=np.float32)
    want = function(x.astype(np.float64))
    np.testing.assert_array_less(np.abs(got - want), np.abs(want) * 2.0**-23.9)


def test_sign_operations_keep_nan_payloads(lanes: Any) -> None:
    a = special()
    negative, positive = lanes("neg.f32 %out0, %in0; abs.f32 %out1, %in0;", a, out=[np.uint32] * 2)
    np.testing.assert_array_equal(negative, a.view(np.uint32) ^ 0x8000_0000)
    np.testing.assert_array_equal(positive, a.view(np.uint32) & 0x7FFF_FFFF)


@pytest.mark.parametrize(
    "op", ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"]
)
def test_comparisons(op: str, lanes: Any, rng: np.random.Generator) -> None:
    a, b = operands(rng, 2, 200)
    got = lanes(f"setp.{op}.f32 %p0, %in0, %in1; selp.b32 %out0, 1, 0, %p0;", a, b)
    unordered = np.isnan(a) | np.isnan(b)
    ordered: dict[str, Any] = {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}
    want = {"num": ~unordered, "nan": unordered}.get(op)
    if want is None:
        want = (
            ordered[op[:2]] & ~unordered
            if len(op) == 2
            else ordered[{"equ": "eq", "neu": "ne"}.get(op, op[:2])] | unordered
        )
    np.testing.assert_array_equal(got, want.astype(np.uint32))


@pytest.mark.parametrize(("suffix", "dtype"), [("f16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_half_arithmetic(suffix: str, dtype: Any, lanes: Any, rng: np.random.Generator) -> None:
    """f64 holds sums and products of these formats exactly, and one fma to a sticky bit: the expectation rounds
    once."""
    a, b, c = (rng.integers(0, 1 << 16, 2000, dtype=np.uint16) for _ in range(3))
    near = [rng.integers(0x3C00, 0x4400, 1000, dtype=np.uint16) for _ in range(3)]
    a, b, c = (np.concatenate(pair) for pair in zip((a, b, c), near, strict=True))
    total, product, fused = lanes(
        f"add.rn.{suffix} %out0, %in0, %in1; mul.rn.{suffix} %out1, %in0, %in1; "
        f"fma.rn.{suffix} %out2, %in0, %in1, %in2;",
        a,
        b,
        c,
        out=[np.uint16] * 3,
    )
    with np.errstate(all="ignore"):
        x, y, z = (v.view(dtype).astype(np.float64) for v in (a, b, c))
        for got, exact in ((total, x + y), (product, x * y)):
            check_half(got, exact, dtype)
        wide = np.longdouble(x) * np.longdouble(y) + np.longdouble(z)
        check_half(fused, wide, dtype)


def check_half(got: Any, exact: Any, dtype: Any) -> None:
    """Each result is a value of the format nearest to the exact one."""
    value = got.view(dtype).astype(np.float64)
    nan = np.isnan(np.asarray(exact, np.float64))
    np.testing.assert_array_equal(got[nan], np.full(int(nan.sum()), 0x7FFF, np.uint16))
    finite = ~nan & np.isfinite(value)
    for neighbor in (-1, 1):
        other = (got.astype(np.int64) + neighbor).astype(np.uint16).view(dtype).astype(np.float64)
        usable = finite & np.isfinite(other) & (((got & 0x7FFF) != 0) | (neighbor > 0))
        assert (np.abs(value - exact)[usable] <= np.abs(other - exact)[usable]).all()
    limit = float(np.finfo(np.float16).max) if dtype is np.float16 else float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    assert (np.abs(np.asarray(exact, np.float64)[~nan & np.isinf(value)]) > limit).all()


def test_packed_half_equals_single(lanes: Any, rng: np.random.Generator) -> None:
    a, b, c = (rng.integers(0, 1 << 32, 500, dtype=np.uint32) for _ in range(3))
    code = (
        "fma.rn.bf16x2 %out0, %in0, %in1, %in2; mov.b32 {%h0, %h1}, %in0; mov.b32 {%h2, %h3}, %in1; "
        "mov.b32 {%h4, %h5}, %in2; "
        "fma.rn.bf16 %h6, %h0, %h2, %h4; fma.rn.bf16 %h7, %h1, %h3, %h5; mov.b32 %out1, {%h6, %h7};"
    )
    packed, single = lanes(code, a, b, c, out=[np.uint32] * 2)
    np.testing.assert_array_equal(packed, single)


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize(("suffix", "dtype"), [("f16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_mixed_precision(suffix: str, dtype: Any, mode: str, lanes: Any, rng: np.random.Generator) -> None:
    """The f32 instruction on the narrow sources made wide by `cvt`, which f32 tests compare with exact arithmetic."""
    a, b = (rng.integers(0, 1 << 16, 3000, dtype=np.uint16) for _ in range(2))
    c = rng.integers(0, 1 << 32, 3000, dtype=np.uint32).view(np.float32)
    near = rng.standard_normal(3000).astype(np.float32)
    a, b = (np.concatenate((x, near.astype(dtype).view(np.uint16))) for x in (a, b))
    c = np.concatenate((c, rng.standard_normal(3000).astype(np.float32)))
    code = (
        f"add.{mode}.f32.{suffix} %out0, %in0, %in2; sub.{mode}.f32.{suffix} %out1, %in0, %in2; "
        f"fma.{mode}.f32.{suffix} %out2, %in0, %in1, %in2; fma.{mode}.sat.f32.{suffix} %out3, %in0, %in1, %in2;"
    )
    wide = [x.view(dtype).astype(np.float32) for x in (a, b)]
    plain = code.replace(f".{suffix}", "")
    found = lanes(code, a, b, c, out=[np.uint32] * 4)
    expected = lanes(plain, *wide, c, out=[np.uint32] * 4)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
