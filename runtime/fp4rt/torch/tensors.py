"""What torch has to know of a `Quantized`: its parts as a tree, and that loading one runs no code but ours."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
import torch.utils._pytree as pytree  # pyright: ignore[reportMissingImports]

from fp4num import BlockFormat, Quantized
from fp4num.errors import DataError
from fp4num.quantized import restored
from fp4rt import prepared

#: Element -> torch's type of one byte for it; fp4 elements lie two a byte.
_TYPES = {
    "e2m1": "float4_e2m1fn_x2",
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "e8m0": "float8_e8m0fnu",
}

_KEYS = ("codes", "scales", "tensor_scale", "offsets")


@cache
def register() -> None:
    """Tell torch of `Quantized`, once a process."""
    pytree.register_pytree_node(
        Quantized,
        _flatten,
        _unflatten,
        serialized_type_name="fp4num.Quantized",
        to_dumpable_context=_dump,
        from_dumpable_context=_load,
        flatten_with_keys_fn=_flatten_with_keys,
    )
    torch.serialization.add_safe_globals([restored, prepared.restored])


def typed(q: Quantized) -> tuple[Any, Any]:
    """Codes and scales of torch tensors as tensors of torch's own types, sharing memory: float4_e2m1fn_x2,
    float8_e4m3fn, float8_e5m2; float8_e8m0fnu. Six-bit codes stay bytes. What `torch._scaled_mm` takes, and what
    `Quantized.from_parts` takes back. `DataError` where this torch lacks the type."""
    return _typed(q.codes, q.format.element), _typed(q.scales, str(q.format.scale))


def _typed(x: Any, element: str) -> Any:
    name = _TYPES.get(element)
    if name is None:
        return x
    if not hasattr(torch, name):
        raise DataError(f"torch {torch.__version__} has no {name}")
    return x.view(getattr(torch, name))


def _flatten(q: Quantized) -> tuple[list[Any], Any]:
    return [q.codes, q.scales, q.tensor_scale, q.offsets], q.format


def _flatten_with_keys(q: Quantized) -> tuple[list[Any], Any]:
    children, context = _flatten(q)
    return [(pytree.GetAttrKey(key), child) for key, child in zip(_KEYS, children, strict=True)], context


def _unflatten(children: Iterable[Any], context: Any) -> Quantized:
    codes, scales, tensor_scale, offsets = children
    return Quantized(codes, scales, tensor_scale, context, shape_of_codes(codes, context), offsets)


def shape_of_codes(codes: Any, f: BlockFormat) -> tuple[int, ...]:
    """The shape of a tensor by that of its packed codes, whose sizes may be symbols; () of what has no shape."""
    shape: tuple[Any, ...] = getattr(codes, "shape", ())  # a tree may be rebuilt of other leaves than tensors
    return (*shape[:-1], shape[-1] * 8 // f.bits) if len(shape) else ()


def _dump(context: Any) -> str:
    return json.dumps(context.to_json())


def _load(text: Any) -> Any:
    return BlockFormat.from_json(text)
