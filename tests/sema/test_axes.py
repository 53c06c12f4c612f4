"""The order of merged axes does not see the order of operands, nor how an expression is grouped."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4cc.ir.kernel import Kernel
from fp4cc.sema import analyze
from fp4cc.sema.axes import merged
from fp4cc.source import Source

DIMS = ("L", "M", "N", "P")
#: Orders of axes that agree with the head, as those of most kernels do.
AGREEING = st.lists(st.sampled_from(DIMS), unique=True, min_size=1).map(lambda names: tuple(sorted(names)))
ANY = st.lists(st.sampled_from(DIMS), unique=True, min_size=1).map(tuple)
TYPES = {"h": "L, M, N", "v": "M, N", "u": "L, N", "w": "M", "s": ""}


def kernels(body: str, head: str = "L, M, N", out: str = "L, M, N") -> tuple[Kernel, ...]:
    inputs = "; ".join(f"in {name} : f32[{axes}]" for name, axes in TYPES.items())
    text = f"kernel k({head}) {{ {inputs}; in rng : u64[2]; out y : f32[{out}]; y = {body} }}"
    return analyze(Source("s.fp4", text)).raise_errors().kernels


def axes(kernel: Kernel) -> tuple[str, ...]:
    return kernel.values[kernel.stores[0].value].axes


@pytest.mark.parametrize("head", [", ".join(p) for p in permutations("LMN")])
@pytest.mark.parametrize(
    "body", ["min(v + u, h)", "min(h, v + u)", "min(u + v, h)", "h + (v - u)", "(u - h) * v", "where(v > u, h, u)",
             "where(h > 0, v, u)", "fma(u, v, h)", "fma(h, u, v)", "max(bf16(v + u), h)"]
)  # fmt: skip
def test_operands_in_any_order_and_group(head: str, body: str) -> None:
    (kernel,) = kernels(body, head)
    assert axes(kernel) == ("L", "M", "N")  # the order of `h`, whatever the head and the operands' order are


@settings(max_examples=60)
@given(st.lists(ANY, min_size=1, max_size=4), st.permutations(DIMS))
def test_permutations_of_operands(orders: list[tuple[str, ...]], head: list[str]) -> None:
    results = {merged(permuted, tuple(head)) for permuted in permutations(orders)}
    (result,) = results
    assert sorted(result) == sorted({name for order in orders for name in order})


@settings(max_examples=60)
@given(st.lists(AGREEING, min_size=1, max_size=4))
def test_orders_that_agree_with_the_head_give_the_head(orders: list[tuple[str, ...]]) -> None:
    names = {name for order in orders for name in order}
    assert merged(orders, DIMS) == tuple(name for name in DIMS if name in names)


@settings(max_examples=60)
@given(st.lists(ANY, min_size=1, max_size=4), st.permutations(DIMS))
def test_what_all_orders_agree_on_is_kept(orders: list[tuple[str, ...]], head: list[str]) -> None:
    result = merged(orders, tuple(head))
    longest = [order for order in orders if len(order) == max(map(len, orders))]
    if len(set(longest)) == 1:
        assert tuple(name for name in result if name in longest[0]) == longest[0]


@pytest.mark.parametrize("body", ["x + z.T", "z.T + x", "z + x.T", "x.T + z"])
def test_contradicting_orders(body: str) -> None:
    """Of two orders as long as each other the head's first counts, whichever operand comes first."""
    text = f"kernel k(M, N) {{ in x : f32[M, N]; in z : f32[M, N]; out y : f32[M, N]; y = {body} }}"
    (kernel,) = analyze(Source("s.fp4", text)).raise_errors().kernels
    assert axes(kernel) == ("M", "N")


@pytest.mark.parametrize("body", ["uniform(rng) + v + u", "v + (u + uniform(rng))", "u + uniform(rng) + v"])
def test_random_numbers_do_not_depend_on_the_order(body: str) -> None:
    (kernel,) = kernels(body)
    (drawn,) = (value for value in kernel.values if value.op == "uniform")
    assert drawn.axes == ("L", "M", "N")
