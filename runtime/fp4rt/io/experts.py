"""Layers of single experts, as most checkpoints have them, stacked into the operand of a grouped product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import BlockFormat, Quantized, tensors
from fp4num.formats import block_format
from fp4rt import arrays
from fp4rt.errors import CheckpointError
from fp4rt.io import convert
from fp4rt.io.convert import Linear


def stack_experts(layers: Sequence[Linear | Quantized], fmt: BlockFormat | str) -> Linear:
    """One layer of E experts: weight [E, N, K] of `fmt`, and bias [E, N], input_scale [E], pre_quant_scale [E, K] where
    all experts have them.

    `fmt` is the experts' format, but for its name and layout; its tensor scale is one for each batch (`nvfp4_experts`),
    so that each expert keeps its own, or one for all where all experts have the same. Codes and scales are moved, never
    requantized. Torch tensors give torch tensors on their device. Raises `CheckpointError` FP6405 for another format
    or a tensor scale that would be lost, FP6404 for experts of different shapes and for no expert, and FP6406 for
    something that only some experts have.
    """
    f = block_format(fmt)
    if not layers:
        raise CheckpointError("there is no expert to stack", code="FP6404")
    linears = [layer if isinstance(layer, Linear) else Linear(layer) for layer in layers]
    given = [convert.on_host(linear.weight) for linear in linears]
    for i, q in enumerate(given):
        _check(i, q, given[0], f)
    shape = (len(given), *given[0].shape)
    codes = np.stack([q.codes for q in given])
    grid: NDArray[Any] = np.empty(0, np.uint8)
    if f.scale is not None:
        grid = np.concatenate([q.scale_grid() for q in given])
    scales = [convert.positive(q.tensor_scale, f"expert {i}'s tensor scale") for i, q in enumerate(given)
              if q.tensor_scale is not None]  # fmt: skip
    weight = Quantized.from_linear(codes, grid.reshape(-1), _factor(scales, f), f, shape, nan_blocks=True)
    source = linears[0].weight.codes
    rest = (_each(linears, name) for name in ("input_scale", "pre_quant_scale", "bias"))
    stacked = Linear(weight, *rest)
    return stacked.to(source.device) if tensors.is_tensor(source) else stacked


def _check(i: int, q: Quantized, first: Quantized, f: BlockFormat) -> None:
    have, want = q.format, f
    same = ("element", "scale", "block", "stored", "tensor_scale")
    if len(q.shape) != 2 or q.shape != first.shape:
        raise CheckpointError(
            f"expert {i} has the shape {list(q.shape)}, the first one {list(first.shape)}: all are the same [N, K]",
            code="FP6404",
        )
    for name in same:
        if getattr(have, name) != getattr(want, name):
            raise CheckpointError(
                f"expert {i} is {have.name}, whose {name} is {getattr(have, name)}; that of {want.name} is "
                f"{getattr(want, name)}",
                code="FP6405",
            )


def _factor(scales: list[np.float32], f: BlockFormat) -> Any:
    if f.tensor_scale is None:
        return None
    if f.each_batch:
        return np.array(scales, np.float32)
    if len(set(scales)) > 1:
        raise CheckpointError(
            f"the experts have tensor scales of their own, and {f.name} has one for all of them",
            code="FP6405",
            help="stack them in a format with a tensor scale for each batch: nvfp4_experts, or "
            f"`tensor_scale f32 {f.tensor_scale} per batch`",
        )
    return np.asarray(scales[0])


def _each(linears: Sequence[Linear], name: str) -> Any:
    found = [getattr(linear, name) for linear in linears]
    missing = [i for i, x in enumerate(found) if x is None]
    if len(missing) == len(found):
        return None
    if missing:
        raise CheckpointError(f"expert {missing[0]} has no {name}, and others have one", code="FP6406")
    parts = [np.asarray(arrays.to_host(convert.np_or_tensor(x)), np.float32) for x in found]
    if len({x.shape for x in parts}) > 1:
        raise CheckpointError(f"{name} has not the same shape in all experts", code="FP6404")
    return np.stack(parts)
