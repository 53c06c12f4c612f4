"""The examples of docs/foreign.md: kernels of other compilers, from their source to a verdict."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fp4emu.command import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "foreign.md").read_text(encoding="utf-8")


def _section(name: str) -> str:
    return PAGE[PAGE.index(f"## {name}") :].partition("\n## ")[0]


def _commands(section: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[1].splitlines()


def _run(command: str) -> int:
    return main(command.removeprefix("python -m fp4emu ").split())


@pytest.mark.slow
def test_the_cute_dsl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    section = _section("CuTe DSL")
    (source,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (right,) = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    Path("reverse.py").write_text(source)
    compiles, array, *runs = _commands(section)
    subprocess.run([sys.executable, *compiles.split()[1:]], check=True, capture_output=True)
    subprocess.run([sys.executable, "-c", array.split('"')[1]], check=True)
    assert _run(runs[0]) == 0
    capsys.readouterr()
    assert _run(runs[1]) == 1
    wrong = capsys.readouterr().out
    assert "[race] unordered accesses" in wrong
    assert "missing: bar.sync" in wrong
    assert _run(runs[2]) == 0
    assert capsys.readouterr().out == right
    np.testing.assert_array_equal(np.load("y.npy"), np.arange(256, dtype=np.float32)[::-1])


@pytest.mark.parametrize("more", ["", " --order strict", " --seed 1"])
def test_what_triton_makes(
    more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Triton's PTX of the page's example (foreign/softmax.ptx, without its debug sections), run by the page's line."""
    monkeypatch.chdir(tmp_path)
    section = _section("Triton")
    (right,) = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    Path("softmax.ptx").write_text((Path(__file__).parent / "foreign" / "softmax.ptx").read_text())
    x = np.random.default_rng(0).standard_normal((4, 100)).astype(np.float32)
    np.save("x.npy", x)
    assert _run(_commands(section)[2] + more) == 0
    if not more:
        assert capsys.readouterr().out == right
    expected = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(np.load("y.npy"), expected / expected.sum(axis=1, keepdims=True), atol=2e-8)
