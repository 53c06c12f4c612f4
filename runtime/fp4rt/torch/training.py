"""`TrainingLinear`: a linear layer whose forward, dgrad and wgrad products are kernels of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4num.hadamard import TE_SIGNS
from fp4rt.torch.inputs import in_bfloat16
from fp4rt.torch.kernels import RecipeKernels
from fp4rt.torch.modules import keeping_types
from fp4rt.torch.quartet import step_of
from fp4rt.torch.step import LinearStep


class TrainingLinear(torch.nn.Module):  # pyright: ignore[reportUntypedBaseClass]
    """y = x @ weight.T + bias for training: `weight` [N, K] and `bias` are parameters in bf16 or f32.

    Both operands of each product are quantized in each step. x [.., K] is bf16, or anything that autocast to bf16
    takes; its rows are filled up with zeros to a multiple of `kernels.recipe.rows`, which changes no product. y is
    bf16, the gradient of the weight f32, rounded to the weight's type. Where gradients are rounded stochastically,
    the state comes of `generator`, or torch's own of the device, in the forward pass: `torch.manual_seed` makes a
    run repeatable, and activation checkpointing, which restores torch's own generators, computes the same gradients.
    TorchError FP6144 for another x, FP6145 for a gradient of a gradient.
    """

    def __init__(self, weight: Any, bias: Any, kernels: RecipeKernels, *, generator: Any = None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        self.generator = generator
        self._kernels = kernels
        self._step = step_of(kernels.all_of(weight))
        self._signs = torch.tensor(TE_SIGNS, dtype=torch.float32, device=weight.device)

    @property
    def in_features(self) -> int:
        """K."""
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        """N."""
        return self.weight.shape[0]

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, {self._kernels.recipe.name}"

    def forward(self, x: Any) -> Any:
        """[.., K] to [.., N] in bf16."""
        step = self._step
        x = x if step.exact else in_bfloat16(x, self._kernels.recipe.name)
        rows = x.reshape(-1, x.shape[-1])
        more = -rows.shape[0] % self._kernels.recipe.rows
        filled = torch.nn.functional.pad(rows, (0, 0, 0, more)) if more else rows.contiguous()
        signs, rng = step.drawn(self._signs, self.generator)
        y = LinearStep.apply(filled, self.weight, signs, rng, step)
        y = (y[: rows.shape[0]] if more else y).reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> TrainingLinear:
        before = self.weight.device
        super()._apply(fn, recurse)
        self._signs = keeping_types(fn)(self._signs)
        if self.weight.device not in (before, torch.device("meta")):
            self._step = step_of(self._kernels.all_of(self.weight))
        return self
