"""One training step of a linear layer: three products, each a kernel, between quantized operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4num import Quantized
from fp4rt.errors import TorchError
from fp4rt.torch.operators import Operator


@dataclass(frozen=True, slots=True)
class Operands:
    """What the backward pass takes of the forward pass: x^T[K, M] and w^T[K, N], and masks [M, K] and [N, K] of bool
    where gradients pass (None: everywhere). Where nothing is quantized (`Step.exact`), they are plain tensors."""

    xt: Quantized | Any
    wt: Quantized | Any
    x_mask: Any = None
    w_mask: Any = None


class Step:
    """The operators of a recipe for training, by role (`fp4rt.recipes`). Plain 2-D tensors of bf16 in."""

    #: Whether the operators compute without quantizing, in any type of floats (`fp4rt.torch.unquantized`).
    exact = False

    def __init__(self, operators: Mapping[str, Operator]) -> None:
        self.operators = dict(operators)
        self._names = {
            role: frozenset(a.name for a in operator.kernel.manifest.kernel.args)
            for role, operator in self.operators.items()
        }
        #: How many states of the rounding a step takes.
        self.states = 1 if "rng" in self._names["quantize_dy"] else 0

    def drawn(self, signs: Any, generator: Any) -> tuple[Any, Any]:
        """The signs of the Hadamard transform and the states of the rounding, i64[states, 2], of one step."""
        if not self.states:
            return signs, None
        least, most = -(2**63), 2**63 - 1
        shape = (self.states, 2)
        return signs, torch.randint(least, most, shape, dtype=torch.int64, device=signs.device, generator=generator)

    def forward(self, x: Any, w: Any, signs: Any, rng: Any) -> tuple[Any, Operands]:
        """y[M, N] of x[M, K] and w[N, K] in bf16, and what the backward pass takes."""
        qx, xt = self.quantize("x", x, signs)
        qw, wt = self.quantize("w", w, signs)
        return self.operators["fprop"](x=qx, w=qw)["y"], Operands(xt, wt)

    def backward(self, dy: Any, operands: Operands, signs: Any, rng: Any, needs: tuple[bool, bool]) -> tuple[Any, Any]:
        """dx[M, K] in bf16 and dw[N, K] in f32, each where it is needed."""
        q, qt = self.quantize("dy", dy, signs, None if rng is None else rng[0])
        dx = self.operators["dgrad"](dy=q, wt=operands.wt)["dx"] if needs[0] else None
        return dx, self.operators["wgrad"](dyt=qt, xt=operands.xt)["dw"] if needs[1] else None

    def quantize(self, what: str, x: Any, signs: Any, rng: Any = None) -> tuple[Quantized, Quantized]:
        """x, w or dy quantized along its rows, for the product that contracts columns, and along its columns,
        transposed. `signs` f32[16] are those of the Hadamard transform, `rng` u64[2] the state of the rounding."""
        role = f"quantize_{what}"
        args = {what: x}
        known = {"signs": signs, "rng": rng}
        if "amax" in self._names[role]:
            known |= self._largest(what, x, signs)
        args |= {name: value for name, value in known.items() if name in self._names[role]}
        found = self.operators[role](**args)
        return found["q"], found["qt"]

    def _largest(self, what: str, x: Any, signs: Any) -> dict[str, Any]:
        role = f"largest_{what}" if f"largest_{what}" in self.operators else "largest"
        return self.operators[role](**{"x": x, **({"signs": signs} if "signs" in self._names[role] else {})})


class LinearStep(torch.autograd.Function):  # pyright: ignore[reportUntypedBaseClass]
    """y = x w^T with the gradients of the recipe: x bf16[M, K], w bf16 or f32[N, K], which is rounded to x's type."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, signs: Any, rng: Any, step: Step) -> Any:  # pyright: ignore
        y, operands = step.forward(x, w.to(x.dtype), signs, rng)
        (x_parts, x_kind), (w_parts, w_kind) = _apart(operands.xt), _apart(operands.wt)
        ctx.step, ctx.kinds = step, (x_kind, w_kind)
        ctx.save_for_backward(*x_parts, *w_parts, operands.x_mask, operands.w_mask, signs, rng)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:  # pyright: ignore
        *parts, x_mask, w_mask, signs, rng = ctx.saved_tensors
        xt, wt = _together(parts[:3], ctx.kinds[0]), _together(parts[3:], ctx.kinds[1])
        operands, needs = Operands(xt, wt, x_mask, w_mask), ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            dx, dw = _Once.apply(dy, lambda value: ctx.step.backward(value.contiguous(), operands, signs, rng, needs))
        else:
            dx, dw = ctx.step.backward(dy.contiguous(), operands, signs, rng, needs)
        return dx, dw, None, None, None


def _apart(value: Any) -> tuple[tuple[Any, Any, Any], Any]:
    """The tensors of an operand, and what else it is: a format and a shape, or None of a plain tensor."""
    if isinstance(value, Quantized):
        return (value.codes, value.scales, value.tensor_scale), (value.format, value.shape)
    return (value, None, None), None


def _together(parts: Sequence[Any], kind: Any) -> Any:
    return parts[0] if kind is None else Quantized(parts[0], parts[1], parts[2], *kind)


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
