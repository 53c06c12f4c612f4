"""Quantization-aware training: values that went through a format and stay bf16, with a straight-through gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4rt.torch.inputs import in_bfloat16
from fp4rt.torch.kernels import RecipeKernels
from fp4rt.torch.modules import keeping_types
from fp4rt.torch.operators import Operator


class FakeQuantize(torch.nn.Module):  # pyright: ignore[reportUntypedBaseClass]
    """bf16 [.., K] to what it is after NVFP4, in bf16.

    Without a `tensor_scale` it is that of the largest magnitude: the values are those that a layer of the recipe
    "nvfp4" computes with, and the gradient passes everywhere. With one, from calibration, what exceeds 448 * 6 of it
    clips, and no gradient passes there (examples/recipes/qat_linear.fp4). Zeros alone stay zeros.
    """

    tensor_scale: Any
    #: Whether the operators compute without quantizing, in any type of floats (`fp4rt.torch.unquantized`).
    exact: bool

    def __init__(self, kernels: RecipeKernels, device: Any, tensor_scale: Any = None) -> None:
        super().__init__()
        self.exact = False
        self._kernels = kernels
        self._operators = kernels.all_of(torch.empty(0, device=device))
        self._device = torch.device(device)
        scale = None if tensor_scale is None else torch.as_tensor(tensor_scale, dtype=torch.float32).reshape(())
        self.register_buffer("tensor_scale", None if scale is None else scale.to(device))

    def forward(self, x: Any) -> Any:
        """The rounded values, of x's shape."""
        x = x if self.exact else in_bfloat16(x, self._kernels.recipe.name)
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        return _Fake.apply(rows, self.tensor_scale, self._operators).reshape(x.shape)

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> FakeQuantize:
        super()._apply(keeping_types(fn), recurse)
        device = fn(torch.empty(0, device=self._device)).device
        if device not in (self._device, torch.device("meta")):
            self._device, self._operators = device, self._kernels.all_of(torch.empty(0, device=device))
        return self


class QatLinear(torch.nn.Module):  # pyright: ignore[reportUntypedBaseClass]
    """y = x @ weight.T + bias in bf16, of x and weight after NVFP4; `weight` and `bias` are parameters in bf16 or f32.

    `input.tensor_scale` is None, or a scale from calibration (`FakeQuantize`).
    """

    def __init__(self, weight: Any, bias: Any, kernels: RecipeKernels) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        self.input = FakeQuantize(kernels, weight.device)
        self.kernel = FakeQuantize(kernels, weight.device)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, bias={self.bias is not None}"

    def forward(self, x: Any) -> Any:
        """[.., K] to [.., N] in bf16."""
        x = self.input(x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return torch.nn.functional.linear(x, self.kernel(self.weight.to(x.dtype)), bias)


class _Fake(torch.autograd.Function):  # pyright: ignore[reportUntypedBaseClass]
    @staticmethod
    def forward(ctx: Any, x: Any, scale: Any, operators: dict[str, Operator]) -> Any:  # pyright: ignore
        ctx.operators = operators
        if scale is None:
            return operators["fake"](x=x, amax=operators["largest"](x=x)["amax"])["y"]
        ctx.save_for_backward(x, scale)
        return operators["fake_scaled"](x=x, ts=scale)["y"]

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:  # pyright: ignore
        if not ctx.saved_tensors:
            return dy, None, None
        x, scale = ctx.saved_tensors
        return ctx.operators["straight_through"](x=x, ts=scale, dq=dy.contiguous())["dx"], None, None
