"""What stands around the grouped products of a mixture of experts: routing, and the way to rows by expert and back.

Routing is no part of fp4cc's language. These functions compute it in numpy; `fp4rt.torch` has the same ones for
tensors, which never wait for the device. Rows are (token, expert) pairs sorted by expert, those of an expert by token,
so that `offsets` divide them as `M by offsets` of the language says:

    routing = route(logits, top=8)
    y = down(x=gate_up(x=x[routing.rows], offsets=routing.offsets, ...)["h"], offsets=routing.offsets, ...)["y"]
    out = combine(y, routing)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fp4num import decode, encode
from fp4num.dtypes import raw_codes
from fp4num.tensors import is_tensor
from fp4rt.errors import ArgumentError

Scores: TypeAlias = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, slots=True)
class Routing:
    """Which experts tokens take, T tokens of which each takes k of E. All arrays are numpy's, or all torch tensors.

    Attributes:
        experts: i32[T, k], the experts of each token, that with the largest score first; of equal scores the expert
            with the lower number comes first.
        weights: f32[T, k], what the experts' outputs are multiplied by.
        offsets: i32[E + 1], the first row of each expert, and R, the number of rows.
        rows: i32[R], the token of each row. Rows are sorted by expert, those of one expert by token. R is T * k, and
            more where the rows of each expert are padded (`align`): such rows are at its end, and have token 0.
        places: i32[T, k], the row of each token's expert: `rows[places[t, j]] == t`.
    """

    experts: Any
    weights: Any
    offsets: Any
    rows: Any
    places: Any


def route(
    logits: Any,
    top: int,
    *,
    scores: Scores = "softmax",
    renormalize: bool = True,
    bias: Any = None,
    scale: float = 1.0,
    align: int = 1,
) -> Routing:
    """The `top` experts of each token with the largest scores.

    Args:
        logits: f32[T, E]. A NaN is below all numbers.
        top: how many experts a token takes, 1 to E.
        scores: softmax over all experts, or sigmoid of each.
        renormalize: weights are divided by their sum over the chosen experts. With softmax that is the softmax of the
            chosen ones' logits (Mixtral, gpt-oss); without, weights are those of the softmax over all.
        bias: f32[E], added to the scores for the choice alone (DeepSeek-V3's correction).
        scale: what weights are multiplied by at last.
        align: as of `by_expert`.

    Raises ArgumentError FP6125 for logits that are no matrix, for too many experts, and for tensors of torch.
    """
    check_routing(logits, top, scores, bias)
    check_align(align)
    x = np.asarray(logits, np.float32)
    with np.errstate(all="ignore"):
        chosen = _scores(x, scores) if bias is not None or scores == "sigmoid" else x
        ranked = chosen if bias is None else chosen + np.asarray(bias, np.float32)
        key = np.where(np.isnan(ranked), np.float32(-np.inf), ranked)
        experts = np.argsort(-key, axis=1, kind="stable")[:, :top]
        if scores == "softmax" and renormalize:
            weights = _scores(np.take_along_axis(x, experts, 1), "softmax")
        else:
            weights = np.take_along_axis(_scores(x, scores), experts, 1)
            if renormalize:
                weights = weights / weights.sum(axis=1, keepdims=True)
    return by_expert(experts, weights * np.float32(scale), x.shape[1], align=align)


def by_expert(experts: Any, weights: Any, count: int, *, align: int = 1) -> Routing:
    """The routing of a choice that was made elsewhere: experts[T, k] of `count` and weights[T, k].

    `align`: each expert's first row, and R, is a multiple of it, as blocks of scales along rows need it (32). R is the
    least that every choice fits in (`padded_rows`); rows that no expert needs are padding of the last one.
    Raises ArgumentError FP6125 for arrays of other shapes, and for an expert that there is not.
    """
    check_choice(experts, weights)
    check_align(align)
    chosen = np.asarray(experts).astype(np.int32)
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < count:
        raise _wrong(f"experts are {chosen.min()} to {chosen.max()}, and there are {count}: numbers from 0 on")
    flat = chosen.reshape(-1)
    order = np.argsort(flat, kind="stable")
    sorted_by, counts = flat[order], np.bincount(flat, minlength=count)
    first, starts = (np.cumsum(each) - each for each in (counts, -(-counts // align) * align))
    own = np.arange(flat.size) - first[sorted_by] + starts[sorted_by]
    rows = np.zeros(padded_rows(flat.size, count, align), np.int32)
    places = np.empty_like(order)
    rows[own], places[order] = order // max(chosen.shape[1], 1), own
    return Routing(
        experts=chosen,
        weights=np.asarray(weights, np.float32),
        offsets=np.append(starts, rows.size).astype(np.int32),
        rows=rows,
        places=places.reshape(chosen.shape).astype(np.int32),
    )


def padded_rows(pairs: int, count: int, align: int) -> int:
    """The rows that any division of so many (token, expert) pairs among `count` experts fits in, padded to `align`."""
    return (pairs + min(count, pairs) * (align - 1)) // align * align


def combine(y: NDArray[Any], routing: Routing) -> NDArray[Any]:
    """[T, N] of y[R, N], f32, f16 or codes of bf16: each token's rows times their weights, added.

    In f32, in the order of a token's experts, the first first, and rounded once to y's type. Raises ArgumentError
    FP6125 for another number of rows.
    """
    check_rows(y, routing)
    floats = y.dtype.kind == "f"
    values = y.astype(np.float32) if floats else decode(raw_codes(y, "bf16"), "bf16")
    total = np.zeros((len(routing.places), values.shape[1]), np.float32)
    for j in range(routing.places.shape[1]):
        part = values[routing.places[:, j]] * routing.weights[:, j, None]
        total = part if j == 0 else total + part
    return total.astype(y.dtype) if floats else np.asarray(encode(total, "bf16")).view(y.dtype)


def check_routing(logits: Any, top: int, scores: str, bias: Any, *, torch: bool = False) -> None:
    """Raise ArgumentError FP6125 for what `route` does not take."""
    if is_tensor(logits) != torch:
        here, there = ("fp4rt.experts", "fp4rt.torch") if is_tensor(logits) else ("fp4rt.torch", "fp4rt.experts")
        raise _wrong(f"{here}.route takes {'tensors' if torch else 'numpy arrays'}", help=f"call {there}.route")
    shape = tuple(np.shape(logits))
    if len(shape) != 2:
        raise _wrong(f"logits are [tokens, experts], not of shape {list(shape)}")
    if type(top) is not int or not 1 <= top <= shape[1]:
        raise _wrong(f"a token takes 1 to {shape[1]} of {shape[1]} experts, not {top!r}")
    if scores not in ("softmax", "sigmoid"):
        raise _wrong(f"scores are 'softmax' or 'sigmoid', not {scores!r}")
    if bias is not None and tuple(np.shape(bias)) != shape[1:]:
        raise _wrong(f"bias has the shape {list(np.shape(bias))}: it is one number for each of {shape[1]} experts")


def spread(d: NDArray[Any], routing: Routing) -> NDArray[Any]:
    """The gradient [R, N] of `combine`'s rows, of d[T, N], that of its result: f32, f16 or codes of bf16.

    A row's is its token's times its weight, rounded once; padding has 0. Raises ArgumentError FP6125 for another number
    of tokens.
    """
    check_tokens(d, routing)
    floats = d.dtype.kind == "f"
    values = d.astype(np.float32) if floats else decode(raw_codes(d, "bf16"), "bf16")
    found = np.zeros((len(routing.rows), values.shape[1]), np.float32)
    found[routing.places] = values[:, None, :] * routing.weights[:, :, None]
    return found.astype(d.dtype) if floats else np.asarray(encode(found, "bf16")).view(d.dtype)


def check_align(align: int) -> None:
    """Raise ArgumentError FP6125 for what rows cannot be padded to."""
    if type(align) is not int or align < 1:
        raise _wrong(f"align is a number of rows from 1 on, not {align!r}")


def check_tokens(d: Any, routing: Routing) -> None:
    """Raise ArgumentError FP6125 for tokens that are not those of a routing."""
    tokens = routing.places.shape[0]
    if len(d.shape) != 2 or d.shape[0] != tokens:
        raise _wrong(f"tokens of the shape {list(d.shape)}: the routing is of {tokens}")


def check_choice(experts: Any, weights: Any) -> None:
    """Raise ArgumentError FP6125 for what `by_expert` does not take."""
    if len(np.shape(experts)) != 2 or np.shape(experts) != np.shape(weights):
        raise _wrong(
            f"experts and weights are [tokens, top], not of shape {list(experts.shape)}, {list(weights.shape)}"
        )


def check_rows(y: Any, routing: Routing) -> None:
    """Raise ArgumentError FP6125 for rows that are not those of a routing."""
    (tokens, top), rows = routing.places.shape, routing.rows.shape[0]
    if len(y.shape) != 2 or y.shape[0] != rows:
        raise _wrong(f"rows of the shape {list(y.shape)}: {tokens} tokens take {top} experts each, {rows} rows")


def _scores(x: NDArray[np.float32], kind: Scores) -> NDArray[np.float32]:
    if kind == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-x)), np.float32)
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _wrong(text: str, help: str = "") -> ArgumentError:
    return ArgumentError(text, code="FP6125", help=help)
