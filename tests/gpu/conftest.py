"""Tests on a real GPU: `python -m pytest -m gpu tests/gpu` on a machine with a driver, numpy, cuda-python and pytest.

They are deselected unless `-m` asks for them. Tests of torch tensors need torch too, and those of layers and over two
GPUs the folder of kernels that `FP4RT_ARTIFACTS` names.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from fp4rt import Artifact

collect_ignore = [] if "FP4RT_ARTIFACTS" in os.environ else ["test_cuda_layers.py", "test_two_gpus.py"]
if find_spec("torch") is None:
    collect_ignore = ["test_cuda_layers.py", "test_cuda_operators.py", "test_cuda_torch.py", "test_two_gpus.py"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("-m"):
        return
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        config.hook.pytest_deselected(items=gpu)
        items[:] = [item for item in items if item not in gpu]


@pytest.fixture(scope="session")
def artifact() -> Artifact:
    """The sm_90a kernel of make_artifact.py."""
    return Artifact.load(Path(__file__).parent / "data" / "scale_shift.json")
