"""Quantizing as an operator of torch, so that compiled functions can call it; the arithmetic is `fp4rt.quantize`'s."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4num import BlockFormat, Quantized
from fp4num.formats import FORMATS, block_format
from fp4rt import quantizing
from fp4rt.torch import symbolic
from fp4rt.torch.tensors import shape_of_codes

_SPACE = "fp4rt"
_SCHEMA = "quantize(Tensor x, Tensor? tensor_scale, str format) -> (Tensor, Tensor, Tensor)"
_library = torch.library.Library(_SPACE, "FRAGMENT")


def quantize(x: Any, fmt: BlockFormat | str, *, tensor_scale: Any = None) -> Quantized:
    """`fp4rt.quantize` of a tensor, to nearest, which torch.compile and torch.export take as one operator.

    `tensor_scale` is a tensor of one float32 (or one a batch, as the format says), or None: then the largest magnitude
    decides. No gradient passes.
    """
    return quantize_as(x, block_format(fmt), fmt if isinstance(fmt, str) else format_text(fmt), tensor_scale)


def quantize_as(x: Any, f: BlockFormat, text: str, tensor_scale: Any) -> Quantized:
    """`quantize` to a format whose text is known already."""
    codes, scales, found = torch.ops.fp4rt.quantize(x, tensor_scale, text)
    return Quantized(codes, scales, None if f.tensor_scale is None else found, f, shape_of_codes(codes, f))


@cache
def _format(text: str) -> BlockFormat:
    return FORMATS[text] if text in FORMATS else BlockFormat.from_json(text)


def format_text(f: BlockFormat) -> str:
    """A format as the operator takes it: its name if it is one of the prelude's, else its JSON."""
    return f.name if FORMATS.get(f.name) == f else json.dumps(f.to_json())


#: What `torch.compiler.assume_constant_result` does, which would import torch's compiler: the text is not traced.
format_text.__dict__["_dynamo_marked_constant"] = True


def _run(x: Any, tensor_scale: Any, text: str) -> tuple[Any, Any, Any]:
    q = quantizing.quantize(x, _format(text), tensor_scale=tensor_scale)
    return q.codes, q.scales, x.new_empty(0, dtype=torch.float32) if q.tensor_scale is None else q.tensor_scale


def _fake(x: Any, tensor_scale: Any, text: str) -> tuple[Any, Any, Any]:
    f = _format(text)
    codes = x.new_empty([*x.shape[:-1], x.shape[-1] * f.bits // 8], dtype=torch.uint8)
    count = 0 if f.scale is None else symbolic.scale_count(f, x.shape, None)
    scales = x.new_empty([count], dtype=torch.float32 if f.scale == "f32" else torch.uint8)
    overall = [0] if f.tensor_scale is None else f.tensor_scale_shape(x.shape)
    return codes, scales, x.new_empty(overall, dtype=torch.float32)


_library.define(_SCHEMA, tags=(torch.Tag.pt2_compliant_tag,))
_library.impl("quantize", _run, "CPU")
_library.impl("quantize", _run, "CUDA")
_library.impl("quantize", torch.library.fallthrough_kernel, "Autograd")
torch.library.register_fake(f"{_SPACE}::quantize", _fake, lib=_library)
