"""What a plan's condition says of the dims, as engines are told."""

from __future__ import annotations

import random

import pytest

from fp4cc.ir.kernel import Expr
from fp4cc.passes.choice.cases import Bounds
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt.sizes import evaluate

KERNEL = (
    "kernel k(M, N, K = 64, F = N / 2) where M <= 512 and N % 2 == 0 { "
    "in a : bf16[M, K]; in b : bf16[N, K]; out c : bf16[M, N]; c = a @ b.T }\n"
)


def bounds(when: Expr | None = None) -> Bounds:
    return Bounds.of(analyze(Source("k.fp4", KERNEL)).raise_errors().kernels[0], when)


@pytest.mark.parametrize(
    ("when", "least", "most"),
    [
        (None, 0, 512),
        (("le", "M", 16), 0, 16),
        (("lt", "M", 16), 0, 15),
        (("ge", 16, "M"), 0, 16),
        (("eq", "M", 7), 7, 7),
        (("gt", "M", 7), 8, 512),
        (("le", "M", 1000), 0, 512),
        (("and", ("gt", "M", 3), ("le", "M", 9), ("le", "N", 5)), 4, 9),
        (("or", ("and", ("gt", "M", 3), ("le", "M", 9)), ("eq", "M", 30)), 4, 30),
        (("or", ("le", "M", 9), ("le", "N", 9)), 0, 512),
        (("not", ("gt", "M", 9)), 0, 512),
        (("le", ("mul", "M", "N"), 9), 0, 512),
        (("lt", "N", "M"), 0, 512),
    ],
)  # fmt: skip
def test_a_condition_bounds_a_dim(when: Expr | None, least: int, most: int) -> None:
    found = bounds(when)
    assert (found.least("M"), found.most("M")) == (least, most)


def test_sizes_are_bounded_through_their_dims() -> None:
    found = bounds(("le", "N", 100))
    assert found.most("K") == found.least("K") == 64
    assert found.most("F") == 50
    assert found.most(("ceildiv", "M", 128)) == 4
    assert found.most(("mul", "M", "N")) == 51200
    assert found.most(("min", "M", "L")) == 512
    assert found.most("L") is None
    assert found.most(("add", "L", 1)) is None
    assert found.least(("add", "L", 1)) == 1


def test_no_size_that_meets_a_condition_is_out_of_bounds() -> None:
    """Random conditions and sizes: what an engine is told is never narrower than what can be called."""
    draw = random.Random(7)

    def condition(depth: int) -> Expr:
        kind = draw.choice(("and", "or", "not")) if depth and draw.random() < 0.7 else "compare"
        if kind == "compare":
            name, number = draw.choice("MN"), draw.randrange(40)
            operands = (name, number) if draw.random() < 0.7 else (number, name)
            return (draw.choice(("lt", "le", "gt", "ge", "eq", "ne")), *operands)
        if kind == "not":
            return ("not", condition(depth - 1))
        return (kind, condition(depth - 1), condition(depth - 1))

    sizes: list[Expr] = ["M", "N", ("add", "M", "N"), ("mul", "M", "N"), ("ceildiv", "M", 7), ("max", "M", "N")]
    sizes += [("min", "M", "N"), ("floordiv", "N", 3), ("sub", "M", "N")]
    for _ in range(300):
        when = condition(3)
        found = bounds(when)
        for _ in range(8):
            dims = {"M": draw.randrange(40), "N": draw.randrange(40)}
            if not evaluate(when, dims):
                continue
            for size in sizes:
                value, most = int(evaluate(size, dims)), found.most(size)
                assert most is None or value <= most, (when, dims, size)
                assert size == ("sub", "M", "N") or found.least(size) <= value, (when, dims, size)
