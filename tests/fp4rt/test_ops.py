"""The op table: what exact operations do to signed zeros, NaN and infinities, and that the table is whole."""

from __future__ import annotations

import numpy as np
import pytest

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
