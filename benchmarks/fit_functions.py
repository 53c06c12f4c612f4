"""Compute the polynomial coefficients of `fp4num.functions`.

Method: the near-minimax polynomial of a given degree on Chebyshev nodes by Lawson's iteratively reweighted least
squares, the error measured relative to the function that the polynomial ends up in. Coefficients are rounded to f32
one at a time from the lowest order up, and the rest is fitted again after each rounding, so that the low-order
rounding errors are absorbed by the higher orders. Truth comes from mpmath with 120 bits.

Run `python benchmarks/fit_functions.py`; it prints each coefficient list and the error left, in bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mpmath  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

mpmath.mp.prec = 120
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """One polynomial: `sum c_k y^k` is to match `target(x)`, with `y = variable(x)`, under the weight `weight(x)`."""

    name: str
    degree: int
    low: float
    high: float
    target: Callable[[float], float]
    weight: Callable[[float], float]
    variable: Callable[[float], float] = lambda x: x


def _exp_tail(r: float) -> float:
    """(e^r - 1 - r) / r^2."""
    if r == 0.0:
        return 0.5
    exact = mpmath.mpf(r)
    return float((mpmath.expm1(exact) - exact) / exact**2)


def _log_tail(f: float) -> float:
    """(log(1 + f) - f + f^2 / 2) / f^3."""
    if f == 0.0:
        return 1.0 / 3.0
    exact = mpmath.mpf(f)
    return float((mpmath.log1p(exact) - exact + exact**2 / 2) / exact**3)


def _erf_tail(s: float) -> float:
    """(erf(x) / x - 2 / sqrt(pi)) / x^2 as a function of s = x^2."""
    if s == 0.0:
        return float(-2 / (3 * mpmath.sqrt(mpmath.pi)))
    x = mpmath.sqrt(mpmath.mpf(s))
    return float((mpmath.erf(x) / x - 2 / mpmath.sqrt(mpmath.pi)) / mpmath.mpf(s))


def _normal_tail(t: float) -> float:
    """log(8 Phi(-t)) + t^2 / 2, Phi the normal distribution function: what is left of the tail beside its Gaussian."""
    exact = mpmath.mpf(t)
    return float(mpmath.log(4 * mpmath.erfc(exact / mpmath.sqrt(2))) + exact**2 / 2)


FITS = (
    Fit("EXP", 4, -0.3467, 0.3467, _exp_tail, lambda r: abs(r) + 1e-3),
    Fit("LOG", 8, 2**-0.5 - 1, 2**0.5 - 1, _log_tail, lambda f: f * f + 1e-3),
    Fit("ERF", 6, 0.0, 1.0, _erf_tail, lambda s: s + 1e-2),
    Fit("TAIL", 12, 0.0, 6.0, _normal_tail, lambda _: 1.0, lambda t: t * (1.0 / 3.0) - 1.0),
)


def fit(spec: Fit, nodes: int = 1500, rounds: int = 80) -> tuple[Array, float]:
    """Coefficients (exact f32 values) from the lowest order up, and the largest weighted error."""
    angle = (np.arange(nodes) + 0.5) * np.pi / nodes
    x = (spec.high + spec.low) / 2 + (spec.high - spec.low) / 2 * np.cos(angle)
    goal = np.array([spec.target(float(v)) for v in x])
    weight = np.array([spec.weight(float(v)) for v in x])
    y = np.array([spec.variable(float(v)) for v in x])
    powers = np.vander(y, spec.degree + 1, increasing=True)
    done = np.zeros(spec.degree + 1)
    for fixed in range(spec.degree + 1):
        rest = goal - powers[:, :fixed] @ done[:fixed]
        lawson = np.ones(nodes)
        free = done[fixed:]
        for _ in range(rounds):
            scale = weight * np.sqrt(lawson)
            free = np.linalg.lstsq(powers[:, fixed:] * scale[:, None], rest * scale, rcond=None)[0]
            error = np.abs(rest - powers[:, fixed:] @ free) * weight
            if not error.max():
                break
            lawson = lawson * error
            lawson /= lawson.mean()
        done[fixed] = np.float64(np.float32(free[0]))
    return done, float(np.max(np.abs(goal - powers @ done) * weight))


def main() -> None:
    """Print every fit."""
    for spec in FITS:
        coefficients, error = fit(spec)
        print(f"{spec.name}: degree {spec.degree}, error 2^{np.log2(error):.1f}")
        print("   ", ", ".join(f"{np.float32(c)!s}" for c in coefficients))


if __name__ == "__main__":
    main()
