"""Tests with torch tensors, on the CPU: none without torch, and of the example that needs transformers none without."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

if find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]
elif find_spec("transformers") is None:
    collect_ignore_glob = ["test_hugging_face.py"]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """torch.compile counts how often a function was compiled, over all tests."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
