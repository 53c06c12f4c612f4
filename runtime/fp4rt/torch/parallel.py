"""Tensor parallelism: linear layers whose quantized weights are cut over the ranks of a process group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch  # pyright: ignore[reportMissingImports]
import torch.distributed as dist  # pyright: ignore[reportMissingImports]

from fp4num import BlockFormat, Quantized
from fp4rt import recipes, supply
from fp4rt.errors import TorchError
from fp4rt.recipes import Recipe
from fp4rt.torch.convert import check_layer, linear_layers, put_layers, quantized_weight
from fp4rt.torch.kernels import RecipeKernels
from fp4rt.torch.linear import Linear

How = Literal["column", "row"]


class RowParallelLinear(torch.nn.Module):  # pyright: ignore[reportUntypedBaseClass]
    """y = x @ weight.T + bias where each rank has some columns of the weight, and those of x: x [.., K / ranks].

    Products of the ranks are f32 and are added up in f32, then rounded to bf16: where sums are exact, y is that of the
    whole layer, bit for bit. The tensor scale of x is that of the largest magnitude of all ranks.
    """

    bias: Any

    def __init__(self, local: _Partial, bias: Any, group: Any = None) -> None:
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
            takes the whole of x; "row" takes the part of x that such a layer gives, and adds up the outputs. A layer
            that no pattern names stays as it is; the first pattern that does decides.
        group: a process group of torch.distributed; None: the default one.
        device, target, artifacts: as `convert` takes them.

    Raises:
        TorchError: FP6142 for no such recipe or none for inference, FP6143 for a layer or a pattern that does not fit,
            FP6146 for a weight that cannot be cut at whole scale blocks and atoms of its scale layout.
    """
    chosen = recipes.find(recipe)
    if chosen.kind != "inference":
        raise TorchError(
            f"{chosen.name} is a recipe for {chosen.kind}, and layers are cut for inference",
            code="FP6142",
            help=f"one of {', '.join(name for name, r in recipes.RECIPES.items() if r.kind == 'inference')}",
        )
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


class _Partial(Linear):
    """A part of a row-parallel layer: its activations are quantized as those of all ranks together."""

    def __init__(self, *args: Any, group: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._group = group

    def _found(self, largest: Any) -> Any:
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self._group)
        return largest


def _how(name: str, plan: Mapping[str, How]) -> How | None:
    return next((how for pattern, how in plan.items() if fnmatchcase(name, pattern)), None)


def _cut(name: str, layer: Any, how: How | None, kernels: RecipeKernels, rank: int, ranks: int, group: Any) -> Any:
    """This rank's part of a layer, whose weight was quantized whole: so it is the whole's bytes."""
    weight = quantized_weight(name, layer, kernels)
    size = _share(name, weight, 0 if how == "column" else 1, ranks)
    part = slice(rank * size, (rank + 1) * size)
    options = {"quantizer": kernels.of("input", layer.weight), "largest": kernels.of("largest_input", layer.weight)}
    bias = None if layer.bias is None else layer.bias.detach()
    if how == "column":
        product = kernels.of("linear", layer.weight)
        assert product is not None
        return Linear(product, weight[part], bias=None if bias is None else bias[part], **options).train(layer.training)
    product = kernels.of("partial", layer.weight)
    assert product is not None
    local = _Partial(product, weight[:, part], group=group, **options)
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
