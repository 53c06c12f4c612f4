"""The training step of Quartet, whose backward operands are made of the forward's.

Castro et al., "Quartet: Native FP4 Training Can Be Optimal for Large Language Models", 2025, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4num import Quantized
from fp4rt.torch.operators import Operator
from fp4rt.torch.step import Operands, Step

_BLOCK = 32
_LARGEST = 6.0  # of e2m1


class QuartetStep(Step):
    """A step by the kernels of quartet_training.fp4. The signs of the backward transforms are drawn for each step."""

    def __init__(self, operators: Mapping[str, Operator]) -> None:
        super().__init__(operators)
        self.states = 3  # of dy, x and w

    def drawn(self, signs: Any, generator: Any) -> tuple[Any, Any]:
        _, rng = super().drawn(signs, generator)
        bits = torch.randint(0, 2, (_BLOCK,), device=signs.device, generator=generator)
        return (bits * 2 - 1).to(torch.float32), rng

    def forward(self, x: Any, w: Any, signs: Any, rng: Any) -> tuple[Any, Operands]:
        fx, fw = (self.operators["quantize"](x=value) for value in (x, w))
        xt, wt = (
            self.operators["transpose"](v=found["v"], signs=signs, rng=rng[state])["qt"]
            for found, state in ((fx, 1), (fw, 2))
        )
        y = self.operators["fprop"](x=fx["q"], w=fw["q"])["y"]
        return y, Operands(xt, wt, unclipped(fx["h"], fx["q"]), unclipped(fw["h"], fw["q"]))

    def backward(self, dy: Any, operands: Operands, signs: Any, rng: Any, needs: tuple[bool, bool]) -> tuple[Any, Any]:
        found = self.operators["quantize_dy"](dy=dy, signs=signs, rng=rng[0])
        dx = dw = None
        if needs[0]:
            mask = operands.x_mask.to(dy.dtype)
            dx = self.operators["dgrad"](dy=found["q"], wt=operands.wt, mask=mask)["dx"]
        if needs[1]:
            mask = operands.w_mask.to(dy.dtype)
            dw = self.operators["wgrad"](dyt=found["qt"], xt=operands.xt, mask=mask)["dw"]
        return dx, dw


def step_of(operators: Mapping[str, Operator]) -> Step:
    """The step that these kernels are of."""
    return QuartetStep(operators) if "transpose" in operators else Step(operators)


def unclipped(h: Any, q: Quantized | Any) -> Any:
    """Where the values [M, K] that became `q`, of e2m1 and e8m0 scales in blocked_128x4, did not clip: bool. A plain
    tensor did not."""
    if not isinstance(q, Quantized):
        return torch.ones_like(h, dtype=torch.bool)
    rows, columns = h.shape
    blocks = columns // _BLOCK
    # Bytes of an atom by row % 32, row // 32 and block; see docs/numerics.md.
    atoms = q.scales.view(-(-rows // 128), -(-blocks // 4), 32, 4, 4)
    scales = atoms.permute(0, 3, 2, 1, 4).reshape(-1, -(-blocks // 4) * 4)[:rows, :blocks]
    bound = (scales.to(torch.int32) << 23).view(torch.float32) * _LARGEST  # 2^(scale - 127)
    return (h.float().abs().view(rows, blocks, _BLOCK) < bound.unsqueeze(-1)).view(rows, columns)
