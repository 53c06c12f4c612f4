"""The op table: what exact operations do to signed zeros, NaN and infinities, and that the table is whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from fp4rt.ops import OPS

NAN, INF = float("nan"), float("inf")


def apply(op: str, *operands: float) -> float:
    meaning = OPS[op].numpy
    assert meaning is not None
    return meaning(*(np.float32(o) for o in operands)).item()


@pytest.mark.parametrize("op, operands, wanted", [
    ("min", (NAN, 1.0), 1.0), ("min", (1.0, NAN), 1.0), ("min", (NAN, NAN), NAN), ("min", (0.0, -0.0), -0.0),
    ("max", (NAN, 1.0), 1.0), ("max", (-0.0, 0.0), 0.0), ("max", (-0.0, -0.0), -0.0), ("max", (-INF, NAN), -INF),
    ("relu", (NAN,), 0.0), ("relu", (-0.0,), 0.0), ("relu", (-3.0,), 0.0), ("relu", (3.0,), 3.0),
    ("sign", (-0.0,), 0.0), ("sign", (-5.0,), -1.0), ("sign", (NAN,), NAN), ("neg", (0.0,), -0.0),
    ("abs", (-0.0,), 0.0), ("div", (1.0, 0.0), INF), ("div", (0.0, 0.0), NAN), ("sqrt", (-1.0,), NAN),
    ("sqrt", (2.0,), 1.4142135381698608), ("fma", (1.0 + 2.0**-23, 1.0 + 2.0**-23, -1.0), 2.384185791015625e-07),
    ("lt", (NAN, 1.0), False), ("ne", (NAN, NAN), True), ("eq", (0.0, -0.0), True), ("isnan", (NAN,), True),
])  # fmt: skip
def test_special_values(op: str, operands: tuple[float, ...], wanted: float) -> None:
    found = apply(op, *operands)
    assert (np.isnan(found) and np.isnan(wanted)) or (found == wanted and np.signbit(found) == np.signbit(wanted))


def test_results_are_f32_or_bool() -> None:
    for op in OPS.values():
        if op.kind != "elementwise" or op.numpy is None or op.name == "where":
            continue
        made = op.numpy(*(np.full((2, 3), 0.5, np.float32 if op.takes != "bool" else bool) for _ in range(op.arity[0])))
        assert made.shape == (2, 3)
        assert made.dtype == (np.bool_ if op.result == "bool" else np.float32), op.name


def test_the_table_is_whole() -> None:
    for name, op in OPS.items():
        assert op.name == name and op.doc
        assert op.arity[0] <= op.arity[1]
        assert op.exact == (op.ulp == 0.0) or op.kind == "tensor"
        if op.kind == "elementwise":
            assert op.numpy is not None or op.name == "cast"
        if op.kind == "leaf":
            assert op.arity == (0, 0)


# The stated bounds over all f32 numbers.

BOUNDED = sorted(name for name, op in OPS.items() if op.kind == "elementwise" and not op.exact)
#: Where values of interest meet: overflow, underflow, the ends of the programs' own ranges.
EDGES = [0.0, -0.0, INF, -INF, NAN, 1e-45, -1e-45, 2.0**-126, -(2.0**-126), 3.4028235e38, -3.4028235e38, 88.72, 88.73,
         -87.3, -88.35, -88.4, -103.9, -104.0, -108.5, -110.0, 6.0, -6.0, -10.7, 10.0, -16.7]  # fmt: skip


def numbers(count: int, seed: int) -> NDArray[np.float32]:
    """Any f32 there is, by its bits: subnormals, infinities and NaN too; as many of moderate size; and the edges."""
    rng = np.random.default_rng(seed)
    anything = rng.integers(0, 1 << 32, count, np.uint32).view(np.float32)
    parts = [anything, rng.uniform(-115, 95, count), rng.uniform(-12, 12, count), np.asarray(EDGES)]
    return np.concatenate([part.astype(np.float32) for part in parts])


def in_f64(name: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The function with an error far below f32's."""

    def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1.0) / (1.0 + e)

    def times(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        return np.where(x == -np.inf, -0.0, x * y)

    return {
        "exp": np.exp,
        "log": np.log,
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "sigmoid": sigmoid,
        "silu": lambda x: times(x, sigmoid(x)),
        "tanh": np.tanh,
        "erf": np.vectorize(math.erf, otypes=[float]),
        "gelu": lambda x: times(x, np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2)) / 2),
        "gelu_tanh": lambda x: times(x, sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    }[name]


def exactly(name: str) -> Callable[[float], float]:
    """The function in 100 bits, as f64; the limits at infinities."""
    mp = mpmath.mp.clone()
    mp.prec = 100

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + mp.exp(-x))

    functions: dict[str, Callable[[Any], Any]] = {
        "exp": mp.exp,
        "log": lambda x: mp.log(x) if x >= 0 else mp.nan,
        "rsqrt": lambda x: mp.nan if x < 0 else 1 / mp.sqrt(x),
        "sigmoid": sigmoid,
        "silu": lambda x: x * sigmoid(x),
        "tanh": mp.tanh,
        "erf": mp.erf,
        "gelu": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
        "gelu_tanh": lambda x: x * sigmoid(2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)),
    }

    def value(x: float) -> float:
        if x == -INF and name in ("silu", "gelu", "gelu_tanh"):
            return -0.0
        if name == "rsqrt" and x == 0:  # mpmath has no zero with a sign; IEEE 754's root keeps it
            return math.copysign(INF, x)
        if math.isnan(x) or (abs(x) > 130 and name not in ("log", "rsqrt")):  # at its limit long before
            return float(in_f64(name)(np.asarray(x)))
        return float(functions[name](mp.mpf(x)))

    return value


def check_bound(name: str, x: NDArray[np.float32], true: NDArray[Any]) -> None:
    """No value is further from the true one than the table says; infinities and NaN are where they should be."""
    op = OPS[name]
    assert op.numpy is not None
    found = op.numpy(x).astype(np.float64)
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(true), op.floor * np.abs(x.astype(np.float64)))
        unit = 2.0 ** np.maximum(np.floor(np.log2(np.where(np.isfinite(size), size, 1))) - 23, -149)
        error = np.abs(found - true) / unit
        overflow = np.isinf(true.astype(np.float32))
    assert (np.isnan(found) == np.isnan(true)).all()
    assert (found[overflow] == true.astype(np.float32)[overflow]).all()
    rest = ~overflow & ~np.isnan(true)
    worst = x[rest][np.argmax(error[rest])]
    assert np.max(error[rest]) <= op.ulp, f"{name}({worst!r}) is {np.max(error[rest]):.4g} ulp off"


@pytest.mark.parametrize("name", BOUNDED)
def test_stated_bounds_hold_everywhere(name: str) -> None:
    x = numbers(20_000, 3)
    with np.errstate(all="ignore"):
        check_bound(name, x, in_f64(name)(x.astype(np.float64)))


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDED)
def test_stated_bounds_hold_everywhere_against_mpmath(name: str) -> None:
    x, value = numbers(10_000, 4), exactly(name)
    with np.errstate(all="ignore"):
        check_bound(name, x, np.array([value(number) for number in x.tolist()]))


def test_exact_operations_are_those_of_the_real_numbers_rounded_once() -> None:
    """relu, sign, abs and neg of every kind of number; a NaN to relu gives +0, to the others NaN."""
    x = np.concatenate([numbers(2000, 5), np.array([0x7FC00001, 0xFFC00001, 0x7F800001], np.uint32).view(np.float32)])
    nan = np.isnan(x)
    relu = OPS["relu"].numpy(x)
    assert (relu[nan].view(np.uint32) == 0).all()
    assert (relu[~nan] == np.where(x[~nan] > 0, x[~nan], 0)).all() and not np.signbit(relu).any()
    assert np.isnan(OPS["sign"].numpy(x)[nan]).all()
    assert (OPS["sign"].numpy(x)[~nan] == np.sign(x[~nan])).all()
    assert (OPS["neg"].numpy(x).view(np.uint32) == x.view(np.uint32) ^ 0x80000000).all()
