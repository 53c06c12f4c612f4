"""Layers over two processes with gloo: what each of them checks is in parallel_worker.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fp4num import FORMATS
from fp4rt.recipes import RECIPES
from fp4rt.torch.parallel import unit_of

pytestmark = pytest.mark.torch

WORKER = Path(__file__).with_name("parallel_worker.py")
INFERENCE = [name for name, recipe in RECIPES.items() if recipe.kind == "inference"]
#: With DDP and FSDP2.
TRAINING = [name for name, recipe in RECIPES.items() if recipe.kind in ("training", "qat")]


def test_two_ranks_are_one_layer(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), "2", str(tmp_path / "meeting")],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in ranks:
        try:
            out, _ = process.communicate(timeout=240)
        finally:
            process.kill()
        assert process.returncode == 0, out
        found = [line.split()[0] for line in out.splitlines() if line.endswith(" equal")]
        assert found == [*INFERENCE, *TRAINING, "errors"]


def test_parts_are_whole_blocks_and_atoms() -> None:
    assert unit_of(FORMATS["nvfp4"]) == (128, 64)
    assert unit_of(FORMATS["nvfp4_2d"]) == (128, 64)
    assert unit_of(FORMATS["mxfp8"]) == (128, 128)
    assert unit_of(FORMATS["ds_weight"]) == (128, 128)
