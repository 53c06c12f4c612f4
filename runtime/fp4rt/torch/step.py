"""One training step of a linear layer: three products, each a kernel, between quantized operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4num import Quantized
from fp4rt.errors import TorchError
from fp4rt.torch.operators import Operator

#: The signs of Transformer Engine's random Hadamard transform of 16.
SIGNS = (1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1)


class Step:
    """The operators of a recipe for training, by role (`fp4rt.recipes`). Plain 2-D tensors of bf16 in."""

    def __init__(self, operators: Mapping[str, Operator]) -> None:
        self._operators = dict(operators)
        self._names = {
            role: frozenset(a.name for a in operator.kernel.manifest.kernel.args)
            for role, operator in self._operators.items()
        }
        #: Whether gradients are rounded stochastically.
        self.draws = "rng" in self._names["quantize_dy"]

    def quantize(self, what: str, x: Any, signs: Any, rng: Any = None) -> tuple[Quantized, Quantized]:
        """x, w or dy quantized along its rows, for the product that contracts columns, and along its columns,
        transposed. `signs` f32[16] are those of the Hadamard transform, `rng` u64[2] the state of the rounding."""
        role = f"quantize_{what}"
        args = {what: x}
        known = {"signs": signs, "rng": rng}
        if "amax" in self._names[role]:
            known |= self._largest(what, x, signs)
        args |= {name: value for name, value in known.items() if name in self._names[role]}
        found = self._operators[role](**args)
        return found["q"], found["qt"]

    def fprop(self, x: Quantized, w: Quantized) -> Any:
        """y[M, N] of x[M, K] and w[N, K]."""
        return self._operators["fprop"](x=x, w=w)["y"]

    def dgrad(self, dy: Quantized, wt: Quantized) -> Any:
        """dx[M, K] of dy[M, N] and w^T[K, N]."""
        return self._operators["dgrad"](dy=dy, wt=wt)["dx"]

    def wgrad(self, dyt: Quantized, xt: Quantized) -> Any:
        """dw[N, K] in f32 of dy^T[N, M] and x^T[K, M]."""
        return self._operators["wgrad"](dyt=dyt, xt=xt)["dw"]

    def _largest(self, what: str, x: Any, signs: Any) -> dict[str, Any]:
        role = f"largest_{what}" if f"largest_{what}" in self._operators else "largest"
        return self._operators[role](**{"x": x, **({"signs": signs} if "signs" in self._names[role] else {})})


class LinearStep(torch.autograd.Function):  # pyright: ignore[reportUntypedBaseClass]
    """y = x w^T with the gradients of the recipe: x bf16[M, K], w bf16 or f32[N, K]."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, signs: Any, rng: Any, step: Step) -> Any:  # pyright: ignore
        qx, qxt = step.quantize("x", x, signs)
        qw, qwt = step.quantize("w", w.to(torch.bfloat16), signs)
        ctx.step, ctx.formats = step, (qxt.format, qxt.shape, qwt.format, qwt.shape)
        saved = (qxt.codes, qxt.scales, qxt.tensor_scale, qwt.codes, qwt.scales, qwt.tensor_scale)
        ctx.save_for_backward(*saved, signs, rng)
        return step.fprop(qx, qw)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:  # pyright: ignore
        x_codes, x_scales, x_ts, w_codes, w_scales, w_ts, signs, rng = ctx.saved_tensors
        x_format, x_shape, w_format, w_shape = ctx.formats
        xt = Quantized(x_codes, x_scales, x_ts, x_format, x_shape)
        wt = Quantized(w_codes, w_scales, w_ts, w_format, w_shape)
        needs = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            dx, dw = _Once.apply(dy, lambda value: gradients(ctx.step, value, xt, wt, signs, rng, needs))
        else:
            dx, dw = gradients(ctx.step, dy, xt, wt, signs, rng, needs)
        return dx, dw, None, None, None


def gradients(
    step: Step, dy: Any, xt: Quantized, wt: Quantized, signs: Any, rng: Any, needs: tuple[bool, bool]
) -> tuple[Any, Any]:
    """dx and dw, each where it is needed."""
    qdy, qdyt = step.quantize("dy", dy.contiguous(), signs, rng)
    return step.dgrad(qdy, wt) if needs[0] else None, step.wgrad(qdyt, xt) if needs[1] else None


class _Once(torch.autograd.Function):  # pyright: ignore[reportUntypedBaseClass]
    """Gradients that have none: `create_graph=True` is fine until somebody wants the second derivative."""

    @staticmethod
    def forward(ctx: Any, dy: Any, compute: Callable[[Any], Any]) -> Any:  # pyright: ignore
        return compute(dy)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:  # pyright: ignore
        raise TorchError(
            "a quantized linear layer has no second derivative",
            code="FP6145",
            help="leave the layer out of what is differentiated twice",
        )
