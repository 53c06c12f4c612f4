"""`convert`: a model's `torch.nn.Linear` layers become layers of a recipe, by compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch  # pyright: ignore[reportMissingImports]

from fp4num import Quantized
from fp4rt import recipes, supply
from fp4rt.errors import ConstraintError, TorchError
from fp4rt.recipes import Recipe
from fp4rt.torch.kernels import RecipeKernels
from fp4rt.torch.linear import Linear
from fp4rt.torch.qat import QatLinear
from fp4rt.torch.training import TrainingLinear

Filter = Callable[[str, Any], bool]
Place: TypeAlias = "tuple[str, Any, list[tuple[Any, str]]]"
#: The kernels of each kind of recipe whose conditions say which sizes a layer may have.
_SIZED = {"inference": ("linear",), "training": ("fprop", "dgrad", "wgrad"), "qat": ("fake",)}


def convert(
    model: Any,
    recipe: str | Recipe,
    filter: Filter | None = None,
    *,
    device: str | None = None,
    target: str | None = None,
    artifacts: supply.Source = None,
) -> Any:
    """Replace the linear layers of a model, in place, by layers of a recipe; returns the model.

    Args:
        model: a module. Its layers of exactly the class `torch.nn.Linear` are meant: what is derived from it may read
            its weight in ways of its own.
        recipe: a name of `fp4rt.recipes.RECIPES`. Inference: weights are quantized now, and no gradient passes.
            Training, quantization-aware or not: parameters stay the same objects, and are quantized in each step.
        filter: told the name and the module of each such layer, says whether it is converted; None: all are.
        device: where kernels run: "cuda", "reference", "emulator"; None: where each weight is, the reference for the
            CPU's. A model that is to run on a GPU is moved there first.
        target: what kernels are compiled for; None: the GPU's own.
        artifacts: a folder made by `fp4cc recipes build`, or a function (`fp4rt.supply.Supplier`); None:
            FP4RT_ARTIFACTS or the installed compiler.

    Raises:
        TorchError: FP6142 for no such recipe, FP6143 for a layer that cannot be converted, by name, before any is.
        ArtifactError: FP6140 where nobody has kernels, FP6141 where a folder lacks one.
        DeviceError: FP6147 for a GPU for which nothing is compiled.
    """
    chosen = recipes.find(recipe)
    if chosen.kind == "experts":
        raise TorchError(
            f"{chosen.name} is a recipe for layers of experts, and `convert` makes linear layers",
            code="FP6142",
            help=f"call fp4rt.torch.experts(..., recipe={chosen.name!r})",
        )
    kernels = RecipeKernels(chosen, device, target, artifacts)
    places = list(linear_layers(model, filter))
    if not places:
        raise TorchError(
            "the model has no torch.nn.Linear" + ("" if filter is None else " that the filter takes"),
            code="FP6143",
            help="subclasses of torch.nn.Linear are left alone; a layer itself is converted within a module",
        )
    for name, layer, _ in places:
        check_layer(name, layer, kernels)
    make = {"inference": _inference, "training": _training, "qat": _aware}[chosen.kind]
    made = [make(name, layer, kernels) for name, layer, _ in places]
    put_layers(places, made)
    return model


def put_layers(places: Sequence[Place], made: Sequence[Any]) -> None:
    """Put new layers where those of `linear_layers` stand: a layer with several names stays one layer."""
    for new, (_, _, owners) in zip(made, places, strict=True):
        for owner, attribute in owners:
            setattr(owner, attribute, new)


def linear_layers(model: Any, filter: Filter | None) -> Iterator[Place]:
    """Each linear layer that is to be converted: its first name, itself, and the places where it stands."""
    found: dict[int, Place] = {}
    for path, owner in model.named_modules():
        for attribute, layer in owner._modules.items():  # named_children has each module once
            if type(layer) is torch.nn.Linear:
                name = f"{path}.{attribute}" if path else attribute
                found.setdefault(id(layer), (name, layer, []))[2].append((owner, attribute))
    for name, layer, owners in found.values():
        if filter is None or filter(name, layer):
            yield name, layer, owners


def check_layer(name: str, layer: Any, kernels: RecipeKernels) -> None:
    """TorchError FP6143 for a layer that cannot be one of the recipe's."""
    weight, training = layer.weight, kernels.recipe.kind != "inference"
    if weight.dtype != torch.bfloat16 and not (training and weight.dtype == torch.float32):
        allowed = "bfloat16 or float32" if training else "bfloat16"
        raise wrong_layer(name, layer, f"its weight is {weight.dtype}, not {allowed}", "model.to(torch.bfloat16)")
    check_place(name, layer, kernels)


def check_place(name: str, layer: Any, kernels: RecipeKernels) -> None:
    """TorchError FP6143 for a layer that cannot be replaced by one of the recipe's, whatever its weight holds."""
    if layer.weight.is_meta:
        raise wrong_layer(name, layer, "its weight is on the device meta", "load the weights first")
    hooks = [kind for kind in vars(layer) if kind.endswith("_hooks") and getattr(layer, kind)]
    if hooks:
        raise wrong_layer(
            name, layer, f"it has {hooks[0].strip('_').replace('_', ' ')}", "remove them, or convert first"
        )
    n, k = layer.weight.shape
    for role in _SIZED[kernels.recipe.kind]:
        operator = kernels.of(role, layer.weight)
        assert operator is not None
        sizes = {"M": 128, "N": n, "K": k}
        try:
            operator.kernel.resolve({d.name: sizes[d.name] for d in operator.kernel.manifest.kernel.dims})
        except ConstraintError as error:
            raise wrong_layer(name, layer, error.message, "leave it out by filter, or pad the layer") from error


def _inference(name: str, layer: Any, kernels: RecipeKernels) -> Linear:
    weight, product = layer.weight.detach(), kernels.of("linear", layer.weight)
    assert product is not None
    return Linear(
        product,
        quantized_weight(name, layer, kernels),
        bias=None if layer.bias is None else layer.bias.detach(),
        quantizer=kernels.of("input", weight),
        largest=kernels.of("largest_input", weight),
    ).train(layer.training)


def quantized_weight(name: str, layer: Any, kernels: RecipeKernels) -> Quantized:
    """The weight of a layer as the recipe for inference has it. TorchError FP6143 for values that are not finite."""
    weight = layer.weight.detach().contiguous()
    if not bool(torch.isfinite(weight).all()):
        raise wrong_layer(name, layer, "its weight has values that are not finite", "leave it out by filter")
    quantizer, largest = kernels.of("weight", weight), kernels.of("largest_weight", weight)
    assert quantizer is not None
    (source,) = (a.name for a in quantizer.kernel.manifest.kernel.args if a.direction == "in" and len(a.axes) == 2)
    given = {} if largest is None else {"amax": largest(x=weight)["amax"]}
    return quantizer(**{source: weight}, **given)["q"]


def _training(name: str, layer: Any, kernels: RecipeKernels) -> TrainingLinear:
    return TrainingLinear(layer.weight, layer.bias, kernels).train(layer.training)


def _aware(name: str, layer: Any, kernels: RecipeKernels) -> QatLinear:
    return QatLinear(layer.weight, layer.bias, kernels).train(layer.training)


def wrong_layer(name: str, layer: Any, what: str, help: str) -> TorchError:
    """The error for a layer that cannot be converted."""
    n, k = layer.weight.shape
    return TorchError(f"{name}, a linear layer [{n}, {k}]: {what}", code="FP6143", help=help)
