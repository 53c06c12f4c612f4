"""`experts`: the feed-forward layer of a mixture of experts, by grouped kernels of a recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from fp4num import Quantized
from fp4rt import recipes, supply
from fp4rt.errors import TorchError
from fp4rt.experts import Routing
from fp4rt.recipes import Recipe
from fp4rt.torch.kernels import RecipeKernels
from fp4rt.torch.operators import Operator
from fp4rt.torch.routing import combine


@cache
def _loaded(
    kernels: tuple[tuple[str, str], ...],
    device: str | None,
    target: str | None,
    artifacts: Any,
    folders: str | None,
) -> RecipeKernels:
    """Kernels by role, loaded once for all calls. `folders` is where they are looked for if `artifacts` does not say it
    (`fp4rt.supply`)."""
    return RecipeKernels(Recipe("", "experts", "", dict(kernels)), device, target, artifacts)


def experts(
    x: Any,
    routing: Routing,
    gate_up: Quantized,
    down: Quantized,
    *,
    recipe: str | Recipe = "nvfp4_experts",
    scales: tuple[Any, Any] | None = None,
    biases: tuple[Any, Any] | None = None,
    device: str | None = None,
    target: str | None = None,
    artifacts: supply.Source = None,
) -> Any:
    """[T, D] of x bf16[T, D]: each token through its experts, and their results by the routing's weights.

    Nothing waits for the device, and no size depends on the routing, so a CUDA graph that holds the call replays with
    another routing. For inference: a gradient is refused (FP6118).

    Args:
        x: bf16[T, D].
        routing: that of x's tokens (`fp4rt.torch.route` or `by_expert`): E experts, k for each token.
        gate_up: [E, 2 F, D] in the recipe's format, row 2 i of an expert gate i and row 2 i + 1 up i; for
            `deepseek_experts` all of gate before all of up.
        down: [E, D, F].
        recipe: one of kind "experts". Its kernels take arguments by their names: `offsets`, `x`, `w`, and where they
            have them `ts` and `bias`. Each gives one output.
        scales: the tensor scales of x and of the hidden tensor, f32[] from calibration, of a recipe that takes them.
        biases: those of both products, [E, 2 F] and [E, D] in the type that the kernels take, of a recipe with them.
        device, target, artifacts: as of `fp4rt.torch.convert`.

    Raises:
        TorchError: FP6142 for no such recipe, FP6126 for scales or biases that the recipe's kernels take and that are
            not given, or the other way around.
        ArgumentError: for tensors that do not fit the kernels or the routing.
    """
    chosen = recipes.of_kind(recipe, "experts", "not for experts")
    folders = os.environ.get(supply.FOLDERS)
    known = _loaded(tuple(chosen.kernels.items()), device, target, artifacts, folders)
    kernels = known.all_of(gate_up.codes)
    given = _given(kernels, chosen, scales, biases)
    offsets = routing.offsets
    rows = x.index_select(0, routing.rows)
    if "quantize" in kernels:
        rows = _one(kernels["quantize"](offsets=offsets, x=rows, **given["quantize"]))
    hidden = _one(kernels["gate_up"](offsets=offsets, x=rows, w=gate_up, **given["gate_up"]))
    if "activation" in kernels:
        hidden = _one(kernels["activation"](offsets=offsets, x=hidden))
    return combine(_one(kernels["down"](offsets=offsets, x=hidden, w=down, **given["down"])), routing)


def _one(outputs: Mapping[str, Any]) -> Any:
    (output,) = outputs.values()
    return output


def _given(
    kernels: Mapping[str, Operator], recipe: Recipe, scales: tuple[Any, Any] | None, biases: tuple[Any, Any] | None
) -> dict[str, dict[str, Any]]:
    """The arguments of each kernel besides rows and weights. TorchError FP6126 unless there is what they take."""
    found: dict[str, dict[str, Any]] = {role: {} for role in kernels}
    for what, name, roles, values in (
        ("scales", "ts", ("quantize", "gate_up"), scales),
        ("biases", "bias", ("gate_up", "down"), biases),
    ):
        takes = [role for role in roles if role in kernels and name in _arguments(kernels[role])]
        if bool(takes) != (values is not None):
            says = f"take no {what}, and some are given" if not takes else f"take {what}, and none are given"
            raise TorchError(f"the kernels of {recipe.name} {says}", code="FP6126",
                             help=f"{what}: one for each of {', '.join(roles)}")  # fmt: skip
        for role in takes:
            assert values is not None
            found[role][name] = values[roles.index(role)]
    return found


def _arguments(operator: Operator) -> set[str]:
    return {arg.name for arg in operator.kernel.manifest.kernel.args}
