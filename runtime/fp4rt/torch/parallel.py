"""Tensor parallelism: linear layers whose quantized weights are cut over the ranks of a process group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.distributed as dist  # pyright: ignore[reportMissingImports]

from fp4num import BlockFormat, Quantized, scale_arrays
from fp4num.tensors import to_tensor
from fp4rt import recipes, supply
from fp4rt.errors import TorchError
from fp4rt.recipes import Recipe
from fp4rt.torch.convert import check_layer, linear_layers, put_layers, quantized_weight
from fp4rt.torch.kernels import RecipeKernels
from fp4rt.torch.linear import Linear

How = Literal["column", "gathered", "row"]


class RowParallelLinear(torch.nn.Module):  # pyright: ignore[reportUntypedBaseClass]
    """y = x @ weight.T + bias where each rank has some columns of the weight, and those of x: x [.., K / ranks].

    Products of the ranks are f32 and are added up in f32, then rounded to bf16: where sums are exact, y is that of the
    whole layer, bit for bit. The tensor scale of x is that of the largest magnitude of all ranks.
    """

    bias: Any

    def __init__(self, local: _OneScale, bias: Any, group: Any = None) -> None:
        super().__init__()
        self.local = local
        self.group = group
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Any) -> Any:
        """[.., K / ranks] to [.., N], the same on all ranks."""
        y = self.local(x)
        dist.all_reduce(y, group=self.group)
        y = y.to(torch.bfloat16)
        return y if self.bias is None else y + self.bias


def parallelize(
    model: Any,
    recipe: str | Recipe,
    plan: Mapping[str, How],
    *,
    group: Any = None,
    device: str | None = None,
    target: str | None = None,
    artifacts: supply.Source = None,
) -> Any:
    """Convert linear layers of a model for inference and cut them over the ranks of a group; returns the model.

    Args:
        model: the whole model, the same on every rank.
        recipe: one for inference.
        plan: patterns of names (`blocks.*.up`) and how these layers are cut: "column" gives each rank some outputs and
            takes the whole of x; "gathered" is the same of an x whose first axis is cut over the ranks, and gathers it
            in quantized form; "row" takes the part of x that such a layer gives, and adds up the outputs. A layer
            that no pattern names stays as it is; the first pattern that does decides.
        group: a process group of torch.distributed; None: the default one.
        device, target, artifacts: as `convert` takes them.

    Raises:
        TorchError: FP6142 for no such recipe or none for inference, FP6143 for a layer or a pattern that does not fit,
            FP6146 for a weight that cannot be cut at whole scale blocks and atoms of its scale layout.
    """
    chosen = recipes.of_kind(recipe, "inference", "and layers are cut for inference")
    ranks, rank = dist.get_world_size(group), dist.get_rank(group)
    kernels = RecipeKernels(chosen, device, target, artifacts)
    places = list(linear_layers(model, lambda name, _: _how(name, plan) is not None))
    for pattern in plan:
        if not any(fnmatchcase(name, pattern) for name, _, _ in places):
            raise TorchError(f"no torch.nn.Linear of the model is called {pattern!r}", code="FP6143")
    for name, layer, _ in places:
        check_layer(name, layer, kernels)
    made = [_cut(name, layer, _how(name, plan), kernels, rank, ranks, group) for name, layer, _ in places]
    put_layers(places, made)
    return model


class _OneScale(Linear):
    """A layer whose activations are quantized by one tensor scale for all ranks, as those of a whole layer are."""

    def __init__(self, *args: Any, group: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._group = group

    def _found(self, largest: Any) -> Any:
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self._group)
        return largest


class GatheredLinear(_OneScale):
    """A column-parallel layer of which each rank has some rows of x: x [S / ranks, .., K] to y [S, .., N / ranks].

    The ranks exchange codes and scales, not bf16, and x is quantized by the largest magnitude of all of them: so y is
    that of the whole x. All ranks have the same number of rows. Where the recipe does not quantize x, it is gathered
    as it is.
    """

    def _leading(self, x: Any) -> tuple[int, ...]:
        if x.ndim < 2:
            raise TorchError(
                f"x of shape {list(x.shape)} has no axis of rows that ranks could share", code="FP6144",
                help='x [S / ranks, .., K]; a layer that takes the whole of x is cut by "column"',
            )  # fmt: skip
        return (x.shape[0] * dist.get_world_size(self._group), *x.shape[1:-1])

    def _operand(self, rows: Any, f: BlockFormat | None) -> Any:
        own = super()._operand(rows, f)
        return _joined(rows, self._group) if f is None else gather_rows(own, self._group)


def gather_rows(q: Quantized, group: Any = None) -> Quantized:
    """The matrices [M, K] of all ranks, one below another: [ranks * M, K], the same on all of them.

    Codes and scales are exchanged as they are. All ranks have the same M, and the same tensor scale: that of the
    largest magnitude of all.
    """
    ranks, (rows, columns) = dist.get_world_size(group), q.shape
    whole = (ranks * rows, columns)
    codes, scales = _joined(q.codes, group), _joined(q.scales, group)
    if (moves := _moves(q.format, (rows, columns), ranks, str(scales.device))) is not None:
        have, want = moves
        laid = scales.new_full((q.format.scales_size(whole),), q.format.layout.pad)
        laid[want] = scales[have]
        scales = laid
    return Quantized(codes, scales, q.tensor_scale, q.format, whole)


@lru_cache(maxsize=256)
def _moves(f: BlockFormat, shape: tuple[int, int], ranks: int, device: str) -> tuple[Any, Any] | None:
    """Where scales of ranks' matrices, buffer after buffer, lie in that of the whole; None: at the same places."""
    if f.scale is None:
        return None
    own = scale_arrays.places(f, shape, None).reshape(-1)
    want = scale_arrays.places(f, (ranks * shape[0], shape[1]), None).reshape(-1)
    have = np.concatenate([own + rank * f.scales_size(shape) for rank in range(ranks)])
    if f.scales_size((ranks * shape[0], shape[1])) == ranks * f.scales_size(shape) and np.array_equal(have, want):
        return None
    return to_tensor(have, device), to_tensor(want, device)


def _joined(part: Any, group: Any) -> Any:
    """A tensor of all ranks, along the first axis."""
    whole = part.new_empty((dist.get_world_size(group) * part.shape[0], *part.shape[1:]))
    dist.all_gather_into_tensor(whole, part.contiguous(), group=group)
    return whole


def _how(name: str, plan: Mapping[str, How]) -> How | None:
    return next((how for pattern, how in plan.items() if fnmatchcase(name, pattern)), None)


def _cut(name: str, layer: Any, how: How | None, kernels: RecipeKernels, rank: int, ranks: int, group: Any) -> Any:
    """This rank's part of a layer, whose weight was quantized whole: so it is the whole's bytes."""
    weight = quantized_weight(name, layer, kernels)
    size = _share(name, weight, 1 if how == "row" else 0, ranks)
    part = slice(rank * size, (rank + 1) * size)
    options: dict[str, Any] = {
        "quantizer": kernels.of("input", layer.weight),
        "largest": kernels.of("largest_input", layer.weight),
    }
    bias = None if layer.bias is None else layer.bias.detach()
    if how != "row":
        product = kernels.of("linear", layer.weight)
        assert product is not None
        options["bias"] = None if bias is None else bias[part]
        if how == "gathered":
            return GatheredLinear(product, weight[part], group=group, **options).train(layer.training)
        return Linear(product, weight[part], **options).train(layer.training)
    product = kernels.of("partial", layer.weight)
    assert product is not None
    local = _OneScale(product, weight[:, part], group=group, **options)
    return RowParallelLinear(local, bias, group).train(layer.training)


def _share(name: str, weight: Quantized, axis: int, ranks: int) -> int:
    """The rows or columns of a rank. TorchError FP6146 where they are no whole blocks and atoms."""
    size, unit = weight.shape[axis], unit_of(weight.format)[axis]
    if size % (ranks * unit):
        what = ("rows", "columns")[axis]
        raise TorchError(
            f"{name}: {size} {what} of {weight.format.name} cannot be cut for {ranks} ranks: each has a multiple of "
            f"{unit} of them, whole scale blocks and whole atoms of the layout {weight.format.layout.name}",
            code="FP6146",
            help=f"a layer with a multiple of {ranks * unit} {what}, or fewer ranks",
        )
    return size // ranks


def unit_of(f: BlockFormat) -> tuple[int, int]:
    """The rows and columns of which a part of a tensor is a multiple if its bytes are a part of the tensor's."""
    (tall, wide), (stored_tall, stored_wide) = f.block, f.stored
    assert "all" not in (tall, wide, stored_tall, stored_wide)  # no recipe has a scale for a whole row
    extent = f.layout.extent
    rows = math.lcm(int(tall), extent("row") * int(stored_tall))
    return rows, math.lcm(int(wide), extent("k") * int(stored_wide))
