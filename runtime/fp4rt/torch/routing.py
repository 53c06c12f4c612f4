"""Routing of tokens to experts for tensors: `fp4rt.experts` without a wait for the device.

No size depends on what tensors hold and nothing of them is read on the host, so all of it can be captured in a CUDA
graph and traced by `torch.compile`. Ties and rows are in the same order as numpy's: sorts are stable.
"""

from __future__ import annotations

from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4rt.experts import (
    Routing,
    Scores,
    check_align,
    check_choice,
    check_routing,
    check_rows,
    check_tokens,
    padded_rows,
)


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
    """`fp4rt.experts.route` of a tensor logits[T, E], of any type of floats; a routing of tensors beside it.

    Computed in f32; weights differ from numpy's by the rounding of `exp`. Raises ArgumentError FP6125 as that does.
    """
    check_routing(logits, top, scores, bias, torch=True)
    check_align(align)
    x = logits.float()
    ranked = _scores(x, scores) if bias is not None or scores == "sigmoid" else x
    if bias is not None:
        ranked = ranked + bias.float()
    key = torch.where(torch.isnan(ranked), -torch.inf, ranked)
    experts = torch.sort(key, dim=1, descending=True, stable=True).indices[:, :top]
    if scores == "softmax" and renormalize:
        weights = _scores(x.gather(1, experts), scores)
    else:
        weights = _scores(x, scores).gather(1, experts)
        if renormalize:
            weights = weights / weights.sum(dim=1, keepdim=True)
    return by_expert(experts, weights * scale, logits.shape[1], align=align)


def by_expert(experts: Any, weights: Any, count: int, *, align: int = 1) -> Routing:
    """`fp4rt.experts.by_expert` of tensors. That experts are numbers from 0 to `count` - 1 is the caller's word: to
    look would be to wait for the device. Raises ArgumentError FP6125 for tensors of other shapes."""
    check_choice(experts, weights)
    check_align(align)
    tokens, top = experts.shape
    flat = experts.reshape(-1)
    order = torch.sort(flat, stable=True).indices
    number, one = torch.arange(tokens * top, device=flat.device), torch.ones_like(flat, dtype=torch.int64)
    counts = torch.zeros(count, dtype=torch.int64, device=flat.device).scatter_add_(0, flat.long(), one)
    padded = (counts + (align - 1)) // align * align
    ends, starts = torch.cumsum(counts, 0), torch.cumsum(padded, 0) - padded
    own = number + (starts - ends + counts).index_select(0, flat.long().index_select(0, order))
    total = padded_rows(tokens * top, count, align)
    rows = torch.zeros(total, dtype=torch.int64, device=flat.device).scatter_(0, own, order // max(top, 1))
    return Routing(
        experts=experts.int(),
        weights=weights.float(),
        offsets=torch.nn.functional.pad(starts, (0, 1), value=total).int(),
        rows=rows.int(),
        places=torch.empty_like(order).scatter_(0, order, own).reshape(experts.shape).int(),
    )


def combine(y: Any, routing: Routing) -> Any:
    """`fp4rt.experts.combine` of a tensor y[R, N] of floats: the same sums in the same order, and one rounding."""
    check_rows(y, routing)
    total = torch.zeros((routing.places.shape[0], y.shape[1]), dtype=torch.float32, device=y.device)
    for j in range(routing.places.shape[1]):
        part = y.index_select(0, routing.places[:, j]).float() * routing.weights[:, j, None]
        total = part if j == 0 else total + part
    return total.to(y.dtype)


def spread(d: Any, routing: Routing) -> Any:
    """`fp4rt.experts.spread` of a tensor d[T, N] of floats."""
    check_tokens(d, routing)
    shares = (d.float()[:, None, :] * routing.weights[:, :, None]).reshape(-1, d.shape[1])
    found = torch.zeros((routing.rows.shape[0], d.shape[1]), dtype=torch.float32, device=d.device)
    return found.index_copy_(0, routing.places.reshape(-1).long(), shares).to(d.dtype)


def _scores(x: Any, kind: Scores) -> Any:
    return torch.sigmoid(x) if kind == "sigmoid" else torch.softmax(x, dim=1)
