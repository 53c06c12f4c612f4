"""The language's functions as programs of f32 operations with one rounding each.

They use no approximate instruction, so a kernel on a GPU, the emulator and the reference give the same bits; how close
those are to the true function is in each docstring as an error in units of the last place of the result (ulp), found
by dense comparison with mpmath (tests/fp4num/test_functions.py). The compiler copies the text of these functions into
the kernels that use them. Coefficients: benchmarks/fit_functions.py.

NaN gives NaN. A magnitude below 2^-126 is subnormal and kept, except where a docstring says otherwise.
"""

from __future__ import annotations

from typing import Any

from fp4num.f32 import (
    absolute,
    add,
    at_least,
    at_most,
    bits,
    copysign,
    div,
    fma,
    from_bits,
    isnan,
    lt,
    maximum,
    mul,
    neg,
    rcp,
    sqrt,
    sub,
    where,
)

LOG2_E = 1.4426950408889634
LN2_HIGH = 0.693145751953125  # 16 bits of ln 2: times an integer below 2^8 it is exact
LN2_LOW = 1.42860682030941723212e-6
ROUNDER = 12582912.0  # 1.5 * 2^23: adding it rounds to an integer, which is then in the low bits
ROUNDER_BITS = 0x4B400000
SQRT_HALF = 0.7071067811865476
SQRT_2 = 1.4142135623730951
TWO_OVER_SQRT_PI = 1.1283791670955126
GELU_1 = 1.5957691216057308  # 2 * sqrt(2 / pi)
GELU_3 = 0.07135481627613502  # GELU_1 * 0.044715


def power_of_2(n: Any) -> Any:
    """2^n for an integer n of -126..127."""
    return from_bits((n + 127) << 23)


def scale_by_power_of_2(x: Any, n: Any) -> Any:
    """x * 2^n for n of -252..254, rounded once where the result is subnormal."""
    half = n >> 1
    return mul(mul(x, power_of_2(half)), power_of_2(n - half))


def expm1_reduced(r: Any) -> Any:
    """e^r - 1 for |r| <= ln(2) / 2."""
    q = fma(0.0013940651, r, 0.008366402)
    q = fma(q, r, 0.041666403)
    q = fma(q, r, 0.16666545)
    q = fma(q, r, 0.5)
    return fma(mul(r, r), q, r)


def exp(x: Any) -> Any:
    """e^x within 1.1 ulp."""
    x = at_most(at_least(x, -104.0), 89.0)
    rounded = fma(x, LOG2_E, ROUNDER)
    n = sub(rounded, ROUNDER)
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    return scale_by_power_of_2(add(expm1_reduced(r), 1.0), bits(rounded) - ROUNDER_BITS)


def log(x: Any) -> Any:
    """The natural logarithm within 1 ulp; -inf at 0, NaN below."""
    tiny = lt(x, 1.1754943508222875e-38)
    scaled = where(tiny, mul(x, 8388608.0), x)
    # The exponent that leaves a mantissa of sqrt(1/2)..sqrt(2), by an integer subtraction of sqrt(1/2).
    n = (bits(scaled) - 0x3F3504F3) >> 23
    f = sub(from_bits(bits(scaled) - (n << 23)), 1.0)
    k = sub(from_bits(n + ROUNDER_BITS), where(tiny, add(ROUNDER, 23.0), ROUNDER))
    p = fma(0.06891811, f, -0.117928214)
    p = fma(p, f, 0.11883548)
    p = fma(p, f, -0.12384762)
    p = fma(p, f, 0.14217608)
    p = fma(p, f, -0.16669185)
    p = fma(p, f, 0.20002255)
    p = fma(p, f, -0.24999988)
    p = fma(p, f, 0.3333331)
    square = mul(f, f)
    rest = fma(mul(square, f), p, fma(square, -0.5, mul(k, LN2_LOW)))
    result = fma(k, LN2_HIGH, add(f, rest))
    result = where(lt(x, float("inf")), result, x)
    result = where(lt(0.0, x), result, where(lt(x, 0.0), float("nan"), -float("inf")))
    return where(isnan(x), x, result)


def rsqrt(x: Any) -> Any:
    """1 / sqrt(x) within 1.5 ulp: two correctly rounded steps."""
    return rcp(sqrt(x))


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x) within 2.5 ulp."""
    e = exp(neg(absolute(x)))
    return div(where(lt(x, 0.0), e, 1.0), add(e, 1.0))


def times_sigmoid(x: Any, y: Any) -> Any:
    """x / (1 + e^-y) for x and y of one sign, with 2.95 ulp of its own; -0 where x or y is below -110.

    For y < 0 it is x p / (1 + e^y) times 2^n, e^y = p 2^n: e^y itself has few bits where it is subnormal and the result
    is not.
    """
    below = lt(y, 0.0)
    t = at_least(neg(absolute(y)), -110.0)
    rounded = fma(t, LOG2_E, ROUNDER)
    n = sub(rounded, ROUNDER)
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, t))
    p = add(expm1_reduced(r), 1.0)
    e = scale_by_power_of_2(p, bits(rounded) - ROUNDER_BITS)
    unscaled = mul(at_least(x, -110.0), div(where(below, p, 1.0), add(e, 1.0)))
    return scale_by_power_of_2(unscaled, bits(where(below, rounded, ROUNDER)) - ROUNDER_BITS)


def silu(x: Any) -> Any:
    """x * sigmoid(x) within 3 ulp; -0 at -inf."""
    return times_sigmoid(x, x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent within 2.5 ulp: e / (e + 2) with e = e^(2|x|) - 1."""
    y = at_most(absolute(x), 10.0)
    y = add(y, y)
    rounded = fma(y, LOG2_E, ROUNDER)
    n = sub(rounded, ROUNDER)
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, y))
    power = power_of_2(bits(rounded) - ROUNDER_BITS)
    e = fma(power, expm1_reduced(r), sub(power, 1.0))
    return copysign(div(e, add(e, 2.0)), x)


def normal_tail(t: Any) -> Any:
    """The normal distribution function at -t, t >= 0, with a relative error under 2^-22; for t > 6 its value at 6.

    It is e^(p(t) - t^2 / 2) / 8 with a polynomial p; the square is carried in two parts.
    """
    t = at_most(t, 6.0)
    y = fma(t, 0.33333334, -1.0)
    p = fma(-8.8610774e-05, y, 0.00025095066)
    p = fma(p, y, -0.00021656834)
    p = fma(p, y, -7.213891e-05)
    p = fma(p, y, 0.0008706164)
    p = fma(p, y, -0.0035647554)
    p = fma(p, y, 0.0107941)
    p = fma(p, y, -0.027512826)
    p = fma(p, y, 0.06389241)
    p = fma(p, y, -0.14161608)
    p = fma(p, y, 0.3175162)
    p = fma(p, y, -0.84929603)
    p = fma(p, y, -0.028284678)
    square = mul(t, t)
    p = fma(fma(t, t, neg(square)), -0.5, p)
    rounded = fma(fma(square, -0.5, p), LOG2_E, ROUNDER)
    n = sub(rounded, ROUNDER)
    r = fma(n, -LN2_LOW, add(fma(n, -LN2_HIGH, mul(square, -0.5)), p))
    return mul(add(expm1_reduced(r), 1.0), power_of_2(bits(rounded) - (ROUNDER_BITS + 3)))


def gelu(x: Any) -> Any:
    """x times the normal distribution function at x, within 4.5 ulp for x >= -6; 0 below, where it is above -6e-9."""
    t = absolute(x)
    positive = maximum(x, 0.0)
    return where(lt(6.0, t), positive, fma(neg(t), normal_tail(t), positive))


def gelu_tanh(x: Any) -> Any:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), as x * sigmoid(2 sqrt(2 / pi) * (...)).

    Within 3 ulp for x >= -1; further left the relative error grows with the exponent, to 200 ulp (2^-15) at -10, from
    where on results are subnormal.
    """
    return times_sigmoid(x, mul(x, fma(mul(x, x), GELU_3, GELU_1)))


def erf(x: Any) -> Any:
    """The error function within 1.5 ulp."""
    t = absolute(x)
    s = mul(t, t)
    p = fma(-8.463554e-06, s, 0.00010861919)
    p = fma(p, s, -0.00084314414)
    p = fma(p, s, 0.005217697)
    p = fma(p, s, -0.026864383)
    p = fma(p, s, 0.11283768)
    p = fma(p, s, -0.37612638)
    near = fma(t, TWO_OVER_SQRT_PI - 1.0, fma(mul(s, t), p, t))
    far = fma(normal_tail(mul(t, SQRT_2)), -2.0, 1.0)
    return copysign(where(lt(t, 1.0), near, far), x)
