"""On a terminal: color, a progress line that is gone at the end, and texts that wrap."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fp4cc.cli.terminal import Progress, definitions, table


def _on_a_terminal(*arguments: object) -> tuple[int, str]:
    """The exit status of a command and what it wrote to a terminal as its standard error."""
    leader, follower = os.openpty()
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "fp4cc", *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=follower, env=env
    )
    os.close(follower)
    written = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(leader)
    return process.wait(), written.decode()


def test_errors_have_color_on_a_terminal(gemm: Path) -> None:
    gemm.write_text("kernel {")
    status, written = _on_a_terminal("check", gemm)
    assert status == 1
    assert "\x1b[1;31merror[FP" in written


def test_slow_work_shows_what_is_done_and_erases_it(gemm: Path, tmp_path: Path) -> None:
    status, written = _on_a_terminal("compile", gemm, "-o", tmp_path / "out", "--no-cache", "--plans", 1)
    assert status == 0
    assert "compiling with the CuTe DSL (" in written
    last_line = written.split("\x1b[2K")[-1]
    assert last_line.startswith("compiled for sm_100a in")


def test_progress_is_silent_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    line = Progress()
    line.start()
    line.step("working")
    line.stop()
    assert capsys.readouterr().err == ""


def test_definitions_wrap_in_their_own_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = definitions([("name", "word " * 30), ("longer", "x")])
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].startswith("  name    word")
    assert lines[1].startswith("            word")
    assert lines[-1] == "  longer  x"


def test_columns_of_numbers_are_right_aligned() -> None:
    assert table([["a", "1"], ["bb", "200"]], ["name", "n"]) == ["name    n", "a       1", "bb    200"]
