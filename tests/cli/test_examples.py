"""Every example runs as README says: compiled, emulated, equal to the reference."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp4rt

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.fp4"))


#: Sizes of a real layer, of which a part takes seconds less; the whole spec runs with the slow tests.
SMALLER = {"fp8_rows.fp4": ("N = 4096, K = 4096", "N = 384, K = 512")}


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        *(pytest.param(path, path.name not in SMALLER, id=path.name) for path in EXAMPLES),
        *(pytest.param(ROOT / "examples" / name, True, id=f"{name}-whole", marks=pytest.mark.slow) for name in SMALLER),
    ],
)
def test_an_example_equals_the_reference(fp4cc: Callable[..., Any], path: Path, whole: bool, tmp_path: Path) -> None:
    if not whole:
        text, (found, smaller) = path.read_text(), SMALLER[path.name]
        assert found in text
        path = tmp_path / path.name
        path.write_text(text.replace(found, smaller))
    ran = fp4cc("run", path, "--device", "emulator")
    assert ran.status == 0, ran.out + ran.err
    assert ran.out.endswith("equal to the reference, bit for bit\n")


def test_readmes_spec_is_the_first_example() -> None:
    shown = re.search(r"```fp4\n# examples/nvfp4_gemm.fp4\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    code = [
        line for line in (ROOT / "examples" / "nvfp4_gemm.fp4").read_text().splitlines() if not line.startswith("#")
    ]
    assert shown.group(1).split() == "\n".join(code).split()


def test_the_main_job_of_readme_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The last part of README's first command, with an empty cache: a fresh machine after the installation."""
    command = re.search(r"\.venv/bin/fp4cc (run \S+)", (ROOT / "README.md").read_text())
    assert command is not None
    done = subprocess.run(
        [sys.executable, "-m", "fp4cc", *shlex.split(command.group(1))],
        cwd=ROOT, env={**os.environ, "FP4CC_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("equal to the reference, bit for bit\n")


def test_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.group(1), names)  # noqa: S102
    assert names["c"].shape == (128, 192)
    exact = fp4rt.dequantize(names["a"]) @ fp4rt.dequantize(names["b"]).T
    found = fp4rt.decode(names["c"], "bf16")
    np.testing.assert_allclose(found, exact, rtol=2**-8, atol=1e-5)
