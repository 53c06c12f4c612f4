"""Ctrl-C, a closed pipe, a full disk: one line at most, the right status, no child and no file left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fp4cc.cli.main import COMMANDS

#: Big enough that the emulator or the DSL is at work when the signal comes.
SLOW = ("--at", "M=2048", "--at", "N=2048", "--at", "K=2048")


def _started(tmp_path: Path, *arguments: object) -> subprocess.Popen[str]:
    """A command with a cache and a folder for temporary files of its own, in a session of its own.

    It hears of Ctrl-C even where these tests run in the background of a shell, which has its jobs ignore it.
    """
    (tmp_path / "tmp").mkdir(exist_ok=True)
    env = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "FP4CC_CACHE_DIR": str(tmp_path / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "fp4cc", *map(str, arguments)],
        cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def _until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < end, "nothing to interrupt"
        time.sleep(0.02)


def _children_in(folder: Path) -> list[str]:
    """The command lines of processes whose working folder is under `folder`: the compiling ones."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            pass
    return found


def _interrupted(process: subprocess.Popen[str], tmp_path: Path, number: int, word: str) -> None:
    """The command ends as it should; what it was to write, and what it had for itself, is gone."""
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (128 + number, f"{word}\n")
    assert out == ""
    assert _children_in(tmp_path / "tmp") == []
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith((".new-", ".fp4cc-"))]


@pytest.mark.parametrize(
    ("number", "word"),
    [
        pytest.param(signal.SIGINT, "interrupted", id="ctrl-c"),
        pytest.param(signal.SIGTERM, "terminated", id="kill", marks=pytest.mark.slow),
    ],
)
def test_a_compilation_ends_with_its_children(gemm: Path, tmp_path: Path, number: int, word: str) -> None:
    out = tmp_path / "out"
    process = _started(tmp_path, "compile", gemm, "-o", out, "--set", "M=384")
    _until(lambda: any((tmp_path / "tmp").glob("fp4cc-*/job1/kernel.py")))
    assert _children_in(tmp_path / "tmp")
    _interrupted(process, tmp_path, number, word)
    assert not out.exists()


def test_a_second_ctrl_c_does_not_hinder_the_first(gemm: Path, tmp_path: Path) -> None:
    process = _started(tmp_path, "emit", gemm, "--stage", "ptx", "-o", tmp_path / "x.ptx")
    _until(lambda: any((tmp_path / "tmp").glob("fp4cc-*")))
    process.send_signal(signal.SIGINT)
    _interrupted(process, tmp_path, signal.SIGINT, "interrupted")
    assert not (tmp_path / "x.ptx").exists()


@pytest.mark.parametrize("command", ["run", pytest.param("verify", marks=pytest.mark.slow)])
def test_an_emulated_run_ends_at_once(gemm: Path, tmp_path: Path, command: str) -> None:
    process = _started(tmp_path, command, gemm, "--device", "emulator", *SLOW)
    _until(lambda: (tmp_path / "cache").exists() and not any((tmp_path / "tmp").iterdir()))
    time.sleep(0.5)
    _interrupted(process, tmp_path, signal.SIGINT, "interrupted")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("delay", [0.02, 0.1, 0.3, 0.6, 1.0, 1.6])
def test_every_command_can_be_ended_at_any_time(gemm: Path, tmp_path: Path, command: str, delay: float) -> None:
    """At once after the start Python itself may be interrupted; from then on it is one line and 130."""
    sizes = [word for name in "MNK" for word in ("--at", f"{name}=256")]
    more = {
        "diff": [gemm],
        "compile": ["-o", tmp_path / "out"],
        "emit": ["--stage", "cubin", "-o", tmp_path / "x"],
        "tune": ["--set", "M=256", "--set", "N=256", "--set", "K=256"],
        "bench": sizes,
    }
    spec = {"doctor": [], "cache": ["info"], "recipes": ["list"]}.get(command, [gemm])
    process = _started(tmp_path, command, *spec, *more.get(command, []))
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    starting = process.returncode == -signal.SIGINT or "Traceback" in err
    if starting:  # Python had not come to our first line: it ends as it does by itself
        assert "__main__.py" not in err, err
    else:
        assert process.returncode in (0, 130), err
    assert _children_in(tmp_path / "tmp") == []
    assert not list((tmp_path / "tmp").iterdir())


def _piped(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `fp4cc ARGUMENTS` in a shell command, at the place of FP4CC."""
    words = " ".join([sys.executable, "-m", "fp4cc", *map(str, arguments)])
    return subprocess.run(
        ["bash", "-c", command.replace("FP4CC", words)], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("arguments", [("layout", "blocked_128x4", "--full"), ("emit", "SPEC", "--stage", "ast")])
def test_a_reader_that_went_away_is_no_error(gemm: Path, arguments: tuple[str, ...]) -> None:
    words = [gemm if word == "SPEC" else word for word in arguments]
    ran = _piped("FP4CC | true; echo ${PIPESTATUS[0]}", *words)
    assert (ran.stdout, ran.stderr) == ("141\n", "")


def test_a_full_disk_is_an_error_with_a_name(gemm: Path) -> None:
    ran = _piped("FP4CC > /dev/full; echo $?", "emit", gemm, "--stage", "ast")
    assert ran.stdout == "1\n"
    assert ran.stderr == "error[FP6203]: No space left on device\n"


@pytest.mark.parametrize(
    ("closed", "arguments"),
    [(">&-", "check SPEC --json"), ("2>&-", "run SPEC --device reference"), ("<&- >&- 2>&-", "emit SPEC --stage ast")],
)
def test_closed_streams_do_not_matter(gemm: Path, closed: str, arguments: str) -> None:
    ran = _piped(f"(FP4CC {closed}); echo $?", *(str(gemm) if w == "SPEC" else w for w in arguments.split()))
    assert ran.stdout.endswith("0\n")
    assert "Traceback" not in ran.stderr
