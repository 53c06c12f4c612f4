"""Checkpoints of other projects to and from `Quantized`.

    checkpoint = io.open_checkpoint("model.safetensors")
    layer = io.from_modelopt(checkpoint, "model.layers.0.mlp.up_proj")
    kernel(x=fp4rt.quantize(x, "nvfp4", tensor_scale=layer.input_scale), w=layer.weight)

Each convention is a pair of functions on named tensors (numpy's, torch's, or of an open checkpoint). Whether a tensor
scale multiplies or divides is part of the convention and of the format that is asked for: it is converted, never
guessed.
"""

from __future__ import annotations

from fp4rt.io.compressed_tensors import from_compressed_tensors, to_compressed_tensors
from fp4rt.io.convert import Linear
from fp4rt.io.experts import stack_experts
from fp4rt.io.gpt_oss import from_gpt_oss, to_gpt_oss
from fp4rt.io.modelopt import from_modelopt, to_modelopt
from fp4rt.io.safetensors import Checkpoint, open_checkpoint, save_checkpoint
from fp4rt.io.tensors import Tensor
from fp4rt.io.torchao import from_torchao, swizzled_in, to_torchao

__all__ = [
    "Checkpoint",
    "Linear",
    "Tensor",
    "from_compressed_tensors",
    "from_gpt_oss",
    "from_modelopt",
    "from_torchao",
    "open_checkpoint",
    "save_checkpoint",
    "stack_experts",
    "swizzled_in",
    "to_compressed_tensors",
    "to_gpt_oss",
    "to_modelopt",
    "to_torchao",
]
