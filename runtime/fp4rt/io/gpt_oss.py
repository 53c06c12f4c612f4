"""gpt-oss checkpoints: MXFP4 experts, as blocks of 16 bytes (openai/gpt-oss, gpt_oss/torch/weights.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fp4num import BlockFormat, Quantized
from fp4rt.errors import CheckpointError
from fp4rt.io import convert
from fp4rt.io.convert import Family
from fp4rt.io.tensors import Tensor, get, only

_WHAT = "a gpt-oss checkpoint"


def from_gpt_oss(
    tensors: Mapping[str, Any],
    name: str,
    fmt: BlockFormat | str = "mxfp4",
    *,
    ignoring: Iterable[str] = (),
    family: Family | None = None,
) -> Quantized:
    """The weights [.., N, K] of NAME_blocks U8 [.., N, K/32, 16] and NAME_scales U8 [.., N, K/32] (bias 127).

    NAME_bias is a tensor of its own. `family` is "numpy" or "torch", by default what the tensors are. Raises
    `CheckpointError` for what is missing or of another dtype or shape, and for any other tensor NAME_.. that is not
    named in `ignoring`.
    """
    f = convert.checked_format(fmt, "e2m1", "e8m0", 32, _WHAT)
    blocks = get(tensors, f"{name}_blocks", ("U8",))
    if len(blocks.shape) < 3 or blocks.shape[-1] != 16:
        raise CheckpointError(f"{name}_blocks is [.., N, K/32, 16], not {blocks.shape}", code="FP6404")
    scales = get(tensors, f"{name}_scales", ("U8", "F8_E8M0"), blocks.shape[:-1])
    only(tensors, f"{name}_", ("blocks", "scales", "bias"), ignoring)
    codes = blocks.data.reshape(*blocks.shape[:-2], blocks.shape[-2] * 16)
    weight = convert.assemble(codes, scales.data, f, None, f"{name}_scales")
    return convert.delivered(weight, tensors[f"{name}_blocks"], family)


def to_gpt_oss(q: Quantized, name: str) -> dict[str, Tensor]:
    """The tensors that `from_gpt_oss` reads."""
    convert.checked_format(q.format, "e2m1", "e8m0", 32, _WHAT)
    q = convert.on_host(q)
    codes = np.asarray(q.codes)
    blocks = codes.reshape(*codes.shape[:-1], codes.shape[-1] // 16, 16)
    return {
        f"{name}_blocks": Tensor("U8", blocks),
        f"{name}_scales": Tensor("U8", convert.linear_scales(q, f"{name}_scales")),
    }
