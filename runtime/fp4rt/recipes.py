"""Recipes: which kernels make a linear layer, for inference or for training. No torch here.

A kernel is named FILE/KERNEL: the file is one of fp4cc's recipes (`examples/recipes/FILE.fp4`), and a folder of
artifacts has it as TARGET/FILE/KERNEL.json (`fp4rt.supply`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

from fp4rt.errors import TorchError

_LAYERS, _DEEPSEEK = "linear_layers", "deepseek_linear"
_AMAX = f"{_LAYERS}/largest"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The kernels of a layer by what they do.

    Inference: `linear` is the product, `partial` that of a part of K in f32, `weight` and `input` quantize its
    operands, `largest_weight` and `largest_input` find the magnitude that these take; `scaled_input` quantizes x by a
    tensor scale that is given, from calibration.
    Training: `quantize_x`, `quantize_w`, `quantize_dy`, each of which gives `q` and `qt`, `fprop`, `dgrad` and
    `wgrad`, and before quantizers that take `amax` `largest`, or `largest_w` for w. `rows`: x is filled up with rows of
    zeros to a multiple of it, because wgrad contracts rows in blocks. Quartet has `quantize` for x and w, and makes
    the operands of the backward pass of their values by `transpose`.
    Quantization-aware training (qat): `fake`, which takes what `largest` finds, and for a given tensor scale
    `fake_scaled` and `straight_through`.
    Layers of experts (`fp4rt.torch.experts`): `gate_up` and `down`, `quantize` where they take quantized rows, and
    `activation` where `gate_up` does not end in it.
    """

    name: str
    kind: Literal["inference", "training", "qat", "experts"]
    summary: str
    kernels: Mapping[str, str]
    rows: int = field(default=1)


def _inference(name: str, summary: str, linear: str, weight: str, x: str | None, *amax: str) -> Recipe:
    kernels = {
        "linear": linear,
        "partial": f"{linear}_partial",
        "weight": weight,
        **({} if x is None else {"input": x}),
    }
    return Recipe(name, "inference", summary, {**kernels, **{f"largest_{part}": _AMAX for part in amax}})


def _layer(name: str, summary: str, weight: str, x: str | None) -> Recipe:
    of = {part: f"{_LAYERS}/quantize_{fmt}" for part, fmt in (("weight", weight), ("input", x)) if fmt is not None}
    amax = [part for part, kernel in of.items() if kernel.endswith("_nvfp4")]
    found = _inference(name, summary, f"{_LAYERS}/{name}", of["weight"], of.get("input"), *amax)
    if "input" not in amax:
        return found
    return replace(found, kernels={**found.kernels, "scaled_input": "ptq_linear/quantize_input"})


def _training(name: str, summary: str, file: str, rows: int, *more: str, **other: str) -> Recipe:
    roles = ("quantize_x", "quantize_w", "quantize_dy", "fprop", "dgrad", "wgrad", *more)
    return Recipe(name, "training", summary, {**{role: f"{file}/{role}" for role in roles}, **other}, rows)


def _experts(name: str, summary: str, file: str, suffix: str = "") -> Recipe:
    quantize = {} if suffix else {"quantize": f"{file}/quantize_input"}
    return Recipe(name, "experts", summary, {**quantize, **{r: f"{file}/{r}{suffix}" for r in ("gate_up", "down")}})


def _without(part: str, summary: str, **other: str) -> Recipe:
    """NVFP4 training without a part of it: `other` kernels of nvfp4_ablations.fp4 by role, in place of the recipe's."""
    whole = _training("", "", "nvfp4_training", 32, "largest", largest_w=_AMAX)
    kernels = {**whole.kernels, **{role: f"nvfp4_ablations/{kernel}" for role, kernel in other.items()}}
    return Recipe(f"nvfp4_training_{part}", "training", f"NVFP4 without a part: {summary}", kernels, whole.rows)


RECIPES: Mapping[str, Recipe] = {
    r.name: r
    for r in (
        _layer("w4a16_nvfp4", "NVFP4 weights, bf16 activations", "nvfp4", None),
        _layer("w4a16_mxfp4", "MXFP4 weights, bf16 activations", "mxfp4", None),
        _layer("w4a8", "MXFP4 weights, MXFP8 activations", "mxfp4", "mxfp8"),
        _layer("nvfp4", "NVFP4 weights and activations (W4A4)", "nvfp4", "nvfp4"),
        _layer("mxfp4", "MXFP4 weights and activations (W4A4)", "mxfp4", "mxfp4"),
        _layer("mxfp8", "MXFP8 weights and activations", "mxfp8", "mxfp8"),
        _inference(
            "deepseek_fp8",
            "e4m3 in blocks of 1 x 128 and 128 x 128, f32 scales, as in DeepSeek-V3",
            f"{_DEEPSEEK}/linear",
            f"{_DEEPSEEK}/quantize_weight",
            f"{_DEEPSEEK}/quantize_input",
        ),
        _training("mxfp8_training", "OCP MX: e4m3 forward, gradients in e5m2", "mx_training", 32),
        _training(
            "deepseek_fp8_training",
            "e4m3 in blocks of 1 x 128 and 128 x 128, f32 scales, forward and backward, as in DeepSeek-V3",
            "deepseek_training",
            128,
        ),
        _training(
            "nvfp4_training",
            "NVFP4: weights in 16 x 16, Hadamard before wgrad, gradients rounded stochastically",
            "nvfp4_training",
            32,
            "largest",
            largest_w=_AMAX,
        ),
        _without(
            "no_hadamard",
            "no Hadamard transform before wgrad",
            largest="largest_plain",
            quantize_x="quantize_x_plain",
            quantize_dy="quantize_dy_plain",
        ),
        _without("nearest", "gradients rounded to nearest", quantize_dy="quantize_dy_nearest"),
        _without(
            "rows",
            "weights in rows of 16, not in 16 x 16",
            quantize_w="quantize_w_rows",
            fprop="fprop_rows",
            dgrad="dgrad_rows",
        ),
        Recipe(
            "quartet",
            "training",
            "MXFP4 forward and backward: Hadamard transforms, QuEST's scale forward, stochastic rounding backward",
            {
                role: f"quartet_training/{role}"
                for role in ("quantize", "transpose", "quantize_dy", "fprop", "dgrad", "wgrad")
            },
            32,
        ),
        Recipe(
            "nvfp4_qat",
            "qat",
            "bf16 products of values that went through NVFP4; the gradient passes straight through",
            {
                "fake": "qat_linear/fake_quantize_amax",
                "largest": _AMAX,
                "fake_scaled": "qat_linear/fake_quantize",
                "straight_through": "qat_linear/straight_through",
            },
        ),
        _experts("nvfp4_experts", "experts: NVFP4 weights, a tensor scale each; NVFP4 activations", "nvfp4_experts"),
        _experts(
            "w4a16_nvfp4_experts",
            "experts: NVFP4 weights, a tensor scale each; bf16 activations",
            "nvfp4_experts",
            "_w4a16",
        ),
        Recipe(
            "gpt_oss_experts",
            "experts",
            "experts of gpt-oss: MXFP4 weights, biases, clamped SwiGLU; bf16 activations",
            {role: f"gpt_oss_experts/{role}" for role in ("gate_up", "down")},
        ),
        Recipe(
            "gpt_oss_experts_mxfp8",
            "experts",
            "experts of gpt-oss: MXFP4 weights, biases, clamped SwiGLU; MXFP8 activations",
            {
                "quantize": "gpt_oss_experts/quantize_input",
                **{role: f"gpt_oss_experts/{role}_mxfp8" for role in ("gate_up", "down")},
            },
        ),
        Recipe(
            "deepseek_experts",
            "experts",
            "experts of DeepSeek-V3: e4m3 in blocks of 1 x 128 and 128 x 128, f32 scales",
            {
                "quantize": "deepseek_experts/quantize_input",
                "gate_up": "deepseek_experts/gate_up",
                "activation": "deepseek_experts/activation",
                "down": "deepseek_experts/down",
            },
        ),
    )
}


def find(name: str | Recipe) -> Recipe:
    """A recipe by its name; TorchError FP6142 for one that there is not."""
    if isinstance(name, Recipe):
        return name
    if (found := RECIPES.get(name)) is not None:
        return found
    close = get_close_matches(str(name), RECIPES, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise TorchError(f"no recipe is called {name!r}", code="FP6142", help=f"{hint}one of {', '.join(RECIPES)}")


def of_kind(name: str | Recipe, kind: str, purpose: str) -> Recipe:
    """A recipe by its name, of a kind that serves a purpose; TorchError FP6142 for one of another kind too."""
    found = find(name)
    if found.kind != kind:
        raise TorchError(
            f"{found.name} is a recipe for {found.kind}, {purpose}",
            code="FP6142",
            help=f"one of {', '.join(r.name for r in RECIPES.values() if r.kind == kind)}",
        )
    return found


def kernels_of(recipes: Iterable[Recipe]) -> list[tuple[str, str]]:
    """The (file, kernel) of recipes, each once."""
    names = dict.fromkeys(kernel for recipe in recipes for kernel in recipe.kernels.values())
    return [(file, kernel) for file, _, kernel in (name.partition("/") for name in names)]
