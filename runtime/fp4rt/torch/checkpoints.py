"""`load_quantized`: a model takes a quantized checkpoint; its quantized layers become layers of a recipe."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

import torch  # pyright: ignore[reportMissingImports]

from fp4num import BlockFormat
from fp4num.tensors import to_tensor
from fp4rt import io, recipes, supply
from fp4rt.errors import TorchError
from fp4rt.io.compressed_tensors import Scheme
from fp4rt.io.tensors import Tensor, as_tensor
from fp4rt.recipes import Recipe
from fp4rt.torch.convert import Filter, Place, check_place, linear_layers, put_layers, wrong_layer
from fp4rt.torch.kernels import RecipeKernels
from fp4rt.torch.linear import Linear, weight_format

#: Reads the layer of a name in the format that a kernel wants: `reader(tensors, name, fmt)`.
Reader = Callable[[Mapping[str, Any], str, BlockFormat], io.Linear]


def _modelopt(tensors: Mapping[str, Any], name: str, fmt: BlockFormat) -> io.Linear:
    return io.from_modelopt(tensors, name, fmt, family="torch")


def _compressed(tensors: Mapping[str, Any], name: str, fmt: BlockFormat, *, scheme: Scheme) -> io.Linear:
    return io.from_compressed_tensors(tensors, name, scheme, fmt, family="torch")


CONVENTIONS: Mapping[str, Reader] = {
    "modelopt": _modelopt,
    **{scheme: functools.partial(_compressed, scheme=scheme) for scheme in get_args(Scheme)},
}
#: What torch calls those dtypes of a checkpoint that numpy lacks, and holds as integers.
_VIEWS = {
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def load_quantized(
    model: Any,
    checkpoint: str | os.PathLike[str] | Mapping[str, Any],
    recipe: str | Recipe,
    convention: str | Reader,
    filter: Filter | None = None,
    *,
    ignoring: Iterable[str] = (),
    device: str | None = None,
    target: str | None = None,
    artifacts: supply.Source = None,
) -> Any:
    """Load a checkpoint into a model, in place; returns the model.

    A layer of exactly the class `torch.nn.Linear` for which the checkpoint has NAME.weight_scale becomes the recipe's,
    with the checkpoint's codes and scales as they are: nothing is quantized anew. A calibrated scale of the
    activations is used where the recipe quantizes them by a tensor scale. All other tensors go into the model's
    parameters and buffers of their names, in the types that these have.

    Args:
        model: on the device where it is to run, with its weights in memory (not on the device meta).
        checkpoint: a .safetensors file, an index of shards or the folder of either, or tensors by name.
        recipe: a name of `fp4rt.recipes.RECIPES` for inference, whose weights have the checkpoint's format.
        convention: "modelopt", or a scheme of compressed-tensors ("nvfp4-pack-quantized", ..); or a function of the
            tensors, a layer's name and the format that the kernel wants.
        filter: told the name and the module of each layer, says whether it may be replaced; None: all may.
        ignoring: tensors of the checkpoint for which the model has no place, by name.
        device, target, artifacts: as `fp4rt.torch.convert` takes them.

    Raises:
        TorchError: FP6142 for no such recipe, FP6143 for a layer that cannot be the recipe's, FP6149 where names or
            shapes of the checkpoint and the model differ. The model is then as it was.
        CheckpointError: FP6402 to FP6408 for a quantized layer that does not follow the convention.
        ArtifactError: FP6140 where nobody has kernels, FP6141 where a folder lacks one.
    """
    chosen = recipes.of_kind(recipe, "inference", "and a quantized checkpoint is for inference")
    reader = _reader(convention)
    tensors = io.open_checkpoint(checkpoint) if isinstance(checkpoint, (str, os.PathLike)) else checkpoint
    kernels = RecipeKernels(chosen, device, target, artifacts)
    places = [place for place in linear_layers(model, filter) if f"{place[0]}.weight_scale" in tensors]
    named = [name for name, _, _ in places]
    rest = _matched(model, tensors, named, set(ignoring))
    made = [_layer(place, tensors, reader, kernels) for place in places]
    put_layers(places, made)
    with torch.no_grad():
        for held, tensor in rest:
            held.copy_(tensor)
    return model


def _reader(convention: str | Reader) -> Reader:
    if not isinstance(convention, str):
        return convention
    if (found := CONVENTIONS.get(convention)) is None:
        raise TorchError(
            f"no convention of checkpoints is called {convention!r}",
            code="FP6149",
            help=f"one of {', '.join(CONVENTIONS)}, or a function of the tensors, a layer's name and its format",
        )
    return found


def _layer(place: Place, tensors: Mapping[str, Any], reader: Reader, kernels: RecipeKernels) -> Linear:
    name, layer, _ = place
    check_place(name, layer, kernels)
    product = kernels.of("linear", layer.weight)
    assert product is not None
    read = reader(tensors, name, weight_format(product)).to(layer.weight.device)
    if tuple(read.weight.shape) != tuple(layer.weight.shape):
        shape = list(read.weight.shape)
        raise wrong_layer(name, layer, f"its weight in the checkpoint is {shape}", "make the model of its own config")
    if (read.bias is None) != (layer.bias is None):
        has, lacks = ("checkpoint", "model") if layer.bias is None else ("model", "checkpoint")
        raise wrong_layer(
            name, layer, f"the {has} has a bias for it, the {lacks} none", "make the model of its own config"
        )
    scaled = None if read.input_scale is None else kernels.of("scaled_input", layer.weight)
    return Linear(
        product,
        read.weight,
        bias=read.bias,
        quantizer=scaled or kernels.of("input", layer.weight),
        largest=None if scaled is not None else kernels.of("largest_input", layer.weight),
        input_scale=None if scaled is None else read.input_scale,
        pre_quant_scale=read.pre_quant_scale,
    ).train(layer.training)


def _matched(
    model: Any, tensors: Mapping[str, Any], quantized: list[str], ignoring: set[str]
) -> list[tuple[Any, torch.Tensor]]:
    """What of the model each tensor beside the quantized layers goes to. FP6149 where there is not one for each."""
    prefixes = tuple(f"{name}." for name in quantized)
    held = {n: t for n, t in model.state_dict(keep_vars=True).items() if not n.startswith(prefixes)}
    found = {name: tensors[name] for name in tensors if not name.startswith(prefixes) and name not in ignoring}
    ours = {id(held[name]) for name in found.keys() & held.keys()}
    missing = sorted(name for name in held.keys() - found.keys() if id(held[name]) not in ours)  # tied ones have one
    if extra := sorted(found.keys() - held.keys()):
        raise TorchError(
            f"the checkpoint has {_some(extra)}, for which the model has no place",
            code="FP6149",
            help="if the model computes the same without: ignoring=(..); else make it of the checkpoint's own config",
        )
    if missing:
        raise TorchError(
            f"the checkpoint lacks {_some(missing)}, which the model has",
            code="FP6149",
            help="make the model of the checkpoint's own config",
        )
    pairs = [(held[name], _tensor(as_tensor(found[name], name)), name) for name in sorted(found)]
    for into, tensor, name in pairs:
        if into.shape != tensor.shape or tensor.is_floating_point() != into.is_floating_point():
            raise TorchError(
                f"{name} is {tensor.dtype} {list(tensor.shape)} in the checkpoint, {into.dtype} {list(into.shape)} in "
                "the model",
                code="FP6149",
                help="make the model of the checkpoint's own config",
            )
    return [(into, tensor) for into, tensor, _ in pairs]


def _tensor(value: Tensor) -> torch.Tensor:
    tensor = to_tensor(value.data)
    return tensor.view(_VIEWS[value.dtype]) if value.dtype in _VIEWS else tensor


def _some(names: list[str]) -> str:
    """The first few of many names."""
    more = len(names) - 4
    return ", ".join(names[:4]) + (f" and {more} more" if more > 0 else "")
