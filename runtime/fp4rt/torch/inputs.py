"""What layers take as x."""

from __future__ import annotations

from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4rt.errors import TorchError


def by_autocast(x: Any) -> Any:
    """x, which autocast to bf16 converts, as it does what other linear layers get."""
    kind = x.device.type
    if x.dtype == torch.bfloat16 or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.bfloat16) if torch.get_autocast_dtype(kind) == torch.bfloat16 else x


def in_bfloat16(x: Any, recipe: str) -> Any:
    """x, which is bf16 or becomes it by autocast. TorchError FP6144 for any other, FP6148 inside torch.func."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    if not torch.compiler.is_compiling() and functorch.peek_interpreter_stack() is not None:
        raise TorchError(
            f"a layer of {recipe} was called inside a transform of torch.func, such as vmap or grad",
            code="FP6148",
            help="its kernels have the axes of their specs, and a gradient that backward() finds: keep it outside",
        )
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        into = torch.get_autocast_dtype(kind)
        if into != torch.bfloat16:
            raise TorchError(
                f"autocast to {into}: {recipe} computes with bfloat16",
                code="FP6144",
                help="torch.autocast(device, dtype=torch.bfloat16)",
            )
        return x.to(into)
    if x.dtype != torch.bfloat16:
        raise TorchError(
            f"x is {x.dtype}: {recipe} takes bfloat16",
            code="FP6144",
            help="x.to(torch.bfloat16), or call the model under torch.autocast(device, dtype=torch.bfloat16)",
        )
    return x
