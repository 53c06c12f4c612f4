"""Routing in numpy against plain loops over tokens and experts."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4num import decode, encode
from fp4num.dtypes import codes_dtype
from fp4rt import ArgumentError
from fp4rt.experts import Scores, by_expert, combine, padded_rows, route, spread


def loop(logits: np.ndarray, top: int, bias: np.ndarray | None, scores: Scores) -> tuple[list[list[int]], list[int]]:
    """The experts of each token, and the tokens of all rows."""
    chosen: list[list[int]] = []
    for token in logits.astype(np.float64):
        kept = [-np.inf if np.isnan(x) else x for x in token]
        if scores == "sigmoid":
            kept = [float(np.float32(1) / (np.float32(1) + np.exp(np.float32(-x)))) for x in kept]
        if bias is not None:
            kept = [float(np.float32(k) + b) for k, b in zip(kept, bias, strict=True)]
        chosen.append(sorted(range(len(kept)), key=lambda e: (-kept[e], e))[:top])
    return chosen, [t for e in range(logits.shape[1]) for t, mine in enumerate(chosen) if e in mine]


@settings(max_examples=60)
@given(st.integers(0, 30), st.integers(1, 12), st.integers(0, 99), st.sampled_from(["plain", "sigmoid", "bias"]))
def test_routing_is_what_loops_do(tokens: int, count: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    top = int(rng.integers(1, count + 1))
    logits = rng.integers(-3, 4, (tokens, count)).astype(np.float32)  # many ties
    logits[rng.random(logits.shape) < 0.05] = np.nan if kind == "plain" else -np.inf
    scores: Scores = "softmax" if kind == "plain" else "sigmoid"
    bias = rng.integers(-2, 3, count).astype(np.float32) if kind == "bias" else None
    found = route(logits, top, scores=scores, bias=bias)
    experts, rows = loop(logits, top, bias, scores)
    assert found.experts.tolist() == experts
    assert found.rows.tolist() == rows
    assert found.offsets.tolist() == [0, *np.cumsum([sum(e in mine for mine in experts) for e in range(count)])]
    assert (found.rows[found.places] == np.arange(tokens)[:, None]).all()
    for e in range(count):
        own = slice(found.offsets[e], found.offsets[e + 1])
        assert {tuple(x) for x in np.argwhere(found.experts == e)} == {
            tuple(x) for x in np.argwhere((found.places >= own.start) & (found.places < own.stop))
        }
    assert all(a.dtype == np.int32 for a in (found.experts, found.offsets, found.rows, found.places))


@settings(max_examples=30)
@given(st.integers(0, 30), st.integers(1, 12), st.integers(0, 99), st.sampled_from([2, 8, 32]))
def test_rows_of_experts_are_padded(tokens: int, count: int, seed: int, align: int) -> None:
    rng = np.random.default_rng(seed)
    top = int(rng.integers(1, count + 1))
    logits = rng.normal(size=(tokens, count)).astype(np.float32)
    plain, padded = route(logits, top), route(logits, top, align=align)
    assert (padded.experts == plain.experts).all() and (padded.weights == plain.weights).all()
    assert (padded.offsets % align == 0).all() and padded.offsets[-1] == len(padded.rows)
    assert len(padded.rows) == padded_rows(tokens * top, count, align) >= tokens * top
    for e in range(count):
        n = plain.offsets[e + 1] - plain.offsets[e]
        first = padded.offsets[e]
        own = padded.rows[first : padded.offsets[e + 1]]
        assert (own[:n] == plain.rows[plain.offsets[e] : plain.offsets[e + 1]]).all() and not own[n:].any()
        assert e == count - 1 or len(own) - n < align
    assert (padded.rows[padded.places] == np.arange(tokens)[:, None]).all()
    assert (np.searchsorted(padded.offsets, padded.places, side="right") - 1 == padded.experts).all()
    y = rng.integers(-4, 5, (tokens * top, 3)).astype(np.float32)
    wide = np.full((len(padded.rows), 3), np.nan, np.float32)
    wide[padded.places] = y[plain.places]
    np.testing.assert_array_equal(combine(wide, padded), combine(y, plain))


def test_gradients_go_to_the_rows_of_a_token() -> None:
    rng = np.random.default_rng(5)
    routing = route(rng.normal(size=(9, 5)).astype(np.float32), 3, align=8)
    d = rng.normal(size=(9, 6)).astype(np.float32)
    found, wanted = spread(d, routing), np.zeros((len(routing.rows), 6), np.float32)
    for t in range(9):
        for j in range(3):
            wanted[routing.places[t, j]] = routing.weights[t, j] * d[t]
    assert (found == wanted).all()
    codes = np.asarray(encode(d, "bf16"))
    exact = spread(decode(codes, "bf16"), routing)
    assert (spread(codes, routing) == encode(exact, "bf16")).all()


def test_the_weights_of_each_kind_of_model() -> None:
    logits = np.array([[1.0, 3.0, 2.0, -1.0]], np.float32)
    powers = np.exp(logits[0].astype(np.float64))
    mixtral, whole = route(logits, 2), route(logits, 2, renormalize=False)
    assert mixtral.experts.tolist() == [[1, 2]]
    np.testing.assert_allclose(mixtral.weights[0], powers[[1, 2]] / powers[[1, 2]].sum(), rtol=1e-6)
    np.testing.assert_allclose(whole.weights[0], powers[[1, 2]] / powers.sum(), rtol=1e-6)
    chosen = route(logits, 2, scores="sigmoid", bias=np.array([0, 0, 0, 9], np.float32), scale=2.5)
    sigmoids = powers / (1 + powers)
    assert chosen.experts.tolist() == [[3, 1]]  # the bias decides the choice, and is no part of the weight
    np.testing.assert_allclose(chosen.weights[0], 2.5 * sigmoids[[3, 1]] / sigmoids[[3, 1]].sum(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "codes"])
def test_rows_are_added_in_the_order_of_a_tokens_experts(dtype: str) -> None:
    rng = np.random.default_rng(2)
    routing = route(rng.normal(size=(9, 5)).astype(np.float32), 3)
    y = rng.normal(size=(27, 6)).astype(np.float16 if dtype == "f16" else np.float32)
    values = y.astype(np.float32)
    if dtype in ("bf16", "codes"):
        y = np.asarray(encode(y, "bf16"))
        values = decode(y, "bf16")
        y = y.view(codes_dtype("bf16")) if dtype == "bf16" else y
    wanted = np.zeros((9, 6), np.float32)
    for t in range(9):
        for j in range(3):
            wanted[t] += routing.weights[t, j] * values[routing.places[t, j]]
    found = combine(y, routing)
    assert found.dtype == y.dtype
    if dtype in ("bf16", "codes"):
        assert (found.view(np.uint16) == encode(wanted, "bf16")).all()
    else:
        assert (found == wanted.astype(y.dtype)).all()


@pytest.mark.parametrize(("call", "message"), [
    (lambda x: route(x[0], 1), r"logits are \[tokens, experts\], not of shape \[4\]"),
    (lambda x: route(x, 5), "a token takes 1 to 4 of 4 experts, not 5"),
    (lambda x: route(x, True), "a token takes 1 to 4 of 4 experts, not True"),
    (lambda x: route(x, 1, scores=cast("Scores", "max")), "scores are 'softmax' or 'sigmoid', not 'max'"),
    (lambda x: route(x, 1, bias=x), "bias has the shape"),
    (lambda x: by_expert(np.array([[0, 4]]), np.ones((1, 2)), 4), "experts are 0 to 4, and there are 4"),
    (lambda x: by_expert(np.array([[0, 1]]), np.ones((1, 3)), 4), r"\[tokens, top\], not of shape \[1, 2\], \[1, 3\]"),
    (lambda x: route(x, 1, align=0), "align is a number of rows from 1 on, not 0"),
    (lambda x: spread(x[1:], route(x, 1)), r"tokens of the shape \[2, 4\]: the routing is of 3"),
    (lambda x: combine(x, route(x, 2)), "3 tokens take 2 experts each, 6 rows"),
])  # fmt: skip
def test_what_cannot_be_routed(call: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"FP6125: .*{message}"):
        call(np.zeros((3, 4), np.float32))
