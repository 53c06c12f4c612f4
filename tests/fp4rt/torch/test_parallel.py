"""Layers over two processes with gloo: what each of them checks is in parallel_worker.py."""

from __future__ import annotations

import os
import signal
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
    command = [sys.executable, str(WORKER), "all", "2", str(tmp_path / "meeting")]
    with subprocess.Popen(command, env=env, start_new_session=True) as both:
        try:
            both.wait(timeout=240)
        finally:
            if both.poll() is None:  # a rank waits for one that is gone
                os.killpg(both.pid, signal.SIGKILL)
    for rank in range(2):
        out = (tmp_path / f"meeting.{rank}").read_text()
        assert both.returncode == 0, out
        found = [line.split()[0] for line in out.splitlines() if line.endswith(" equal")]
        assert found == [*INFERENCE, *TRAINING, "errors"]


def test_parts_are_whole_blocks_and_atoms() -> None:
    assert unit_of(FORMATS["nvfp4"]) == (128, 64)
    assert unit_of(FORMATS["nvfp4_2d"]) == (128, 64)
    assert unit_of(FORMATS["mxfp8"]) == (128, 128)
    assert unit_of(FORMATS["ds_weight"]) == (128, 128)
