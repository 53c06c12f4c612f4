"""Prepared weights of torch tensors: saved, loaded, moved, and changed."""

from __future__ import annotations

import io

import pytest
import torch

import fp4rt
import fp4rt.torch
from fp4rt import ArgumentError, Kernel

from ..test_prepared import code_of, kernel, manifest, weights

pytestmark = pytest.mark.torch
__all__ = ["kernel", "manifest"]  # fixtures


def activations() -> dict[str, torch.Tensor]:
    return {"x": torch.full((3, 256), 0x38, dtype=torch.uint8)}


def test_tensors_are_saved_loaded_and_moved(kernel: Kernel) -> None:
    x = activations()
    w = kernel.prepare(weights()).to("cpu")
    assert "prepared for k" in repr(w)
    file = io.BytesIO()
    torch.save(w, file)
    file.seek(0)
    back = torch.load(file, weights_only=True)
    assert torch.equal(kernel(**x, w=back)["y"], kernel(**x, w=w)["y"])
    assert back.numpy().prepared.codes is not back.codes
    back.scales.add_(1)
    assert code_of(lambda: kernel(**x, w=back)).startswith("FP6311")
    assert code_of(lambda: kernel(**x, w=back.to("cpu"))).startswith("FP6311")
    assert kernel(**x, w=back.natural())


def test_what_torch_takes_apart_is_natural_weights(kernel: Kernel) -> None:
    w = kernel.prepare(weights()).to("cpu")
    leaves, tree = torch.utils._pytree.tree_flatten(w)
    assert torch.utils._pytree.tree_unflatten(leaves, tree).prepared is None
    assert fp4rt.torch.QuantizedBuffer(w).value.prepared is None
    other = fp4rt.Quantized(w.codes, w.scales, None, w.format, w.shape, None, object())
    with pytest.raises(ArgumentError, match="FP6310: 'w' is prepared as an object of type object"):
        kernel(**activations(), w=other)
