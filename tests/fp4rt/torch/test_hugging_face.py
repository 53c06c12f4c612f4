"""The example that loads a quantized checkpoint into a model of Hugging Face Transformers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import fp4rt.torch
from fp4cc.supply import artifact

pytestmark = pytest.mark.torch

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "transformer"


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    sys.path.insert(0, str(EXAMPLE))
    yield import_module("hugging_face")
    sys.path.remove(str(EXAMPLE))
    del sys.modules["hugging_face"]


def test_the_loaded_model_is_the_converted_one(example: ModuleType, tmp_path: Path) -> None:
    example.make(tmp_path)
    loaded = example.load(tmp_path, "nvfp4", None, "cpu", artifact)
    torch.manual_seed(0)
    source = AutoModelForCausalLM.from_config(LlamaConfig(**example.TINY), dtype=torch.bfloat16).eval()
    wanted = fp4rt.torch.convert(source, "nvfp4", lambda name, layer: name != "lm_head", artifacts=artifact)
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, wanted(tokens).logits)
    assert example.written(loaded, [1, 2, 3], 3) == example.written(wanted, [1, 2, 3], 3)
