"""Tensor parallel layers over NCCL, each rank on a GPU of its own: what the ranks check is in parallel_worker.py.

Kernels come from `FP4RT_ARTIFACTS`, a folder made by `fp4cc recipes build RECIPE.. -o DIR --target sm_90a` of all
recipes for inference and training.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fp4rt.recipes import RECIPES

pytestmark = pytest.mark.gpu

WORKER = Path(__file__).parents[1] / "fp4rt" / "torch" / "parallel_worker.py"
INFERENCE = [name for name, recipe in RECIPES.items() if recipe.kind == "inference"]
#: With DDP and FSDP2.
TRAINING = [name for name, recipe in RECIPES.items() if recipe.kind in ("training", "qat")]


def test_two_ranks_are_one_layer(tmp_path: Path) -> None:
    assert torch.cuda.device_count() >= 2
    command = [sys.executable, str(WORKER)]
    rest = ["2", str(tmp_path / "meeting"), os.environ["FP4RT_ARTIFACTS"]]
    ranks = [
        subprocess.Popen([*command, str(r), *rest], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for r in range(2)
    ]
    outputs: list[str] = []
    try:
        outputs = [process.communicate(timeout=240)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    for process, out in zip(ranks, outputs, strict=True):
        assert process.returncode == 0, out
        found = [line.split()[0] for line in out.splitlines() if line.endswith(" equal")]
        assert found == [*INFERENCE, *TRAINING, "errors"]
