"""Exit statuses, help, and messages for command lines that are wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fp4cc.cli.main import COMMANDS

Run = Callable[..., Any]


def test_help_lists_every_command_and_the_exit_statuses(fp4cc: Run) -> None:
    ran = fp4cc("--help")
    assert ran.status == 0
    assert all(name in ran.out for name in COMMANDS)
    assert "Exit status" in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_examples_or_notes(fp4cc: Run, name: str) -> None:
    ran = fp4cc(name, "--help")
    assert ran.status == 0
    assert ran.out.startswith(f"Usage: fp4cc {name}")
    assert "Example" in ran.out or "Exit status" in ran.out


def test_version(fp4cc: Run) -> None:
    ran = fp4cc("--version")
    assert ran.status == 0
    assert ran.out.startswith("fp4cc, version ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chek", "x.fp4"], "did you mean `check`?"),
        (["check"], "Missing argument"),
        (["check", "no-such-file.fp4"], "does not exist"),
        (["compile", "GEMM"], "Missing option '-o'"),
        (["emit", "GEMM", "--stage", "llvm"], "is not one of"),
        (["run", "GEMM", "--set", "M"], "is not NAME=SIZE"),
        (["run", "GEMM", "--set", "M=many"], "is not a whole number"),
        (["run", "GEMM", "--set", "M=8,N=16"], "write --set again for another dim"),
        (["run", "GEMM", "--set", "M=-1"], "is outside"),
        (["run", "GEMM", "--set", "M=1", "--set", "M=2"], "M is given twice"),
        (["run", "GEMM", "--set", "Q=1"], "no kernel has a dimension Q"),
        (["run", "GEMM", "--kernel", "gem"], "did you mean `gemm`?"),
        (["run", "GEMM", "--input", "a=missing.npy"], "there is no file missing.npy"),
        (["run", "GEMM", "--input", "a=GEMM"], "neither .npy nor .npz"),
        (["run", "GEMM", "--seed", "-3"], "seed"),
        (["check", "GEMM", "--target", "sm_42"], "cannot be compiled for sm_42; targets: sm_100a"),
        (["check", "GEMM", "--target", ""], "cannot be compiled for a target without a name; targets: sm_100a"),
        (["check", "GEMM", "--target", "sm_100"], "cannot be compiled for sm_100; did you mean sm_100a?"),
        (["check", "GEMM", "--target", "sm_103a"], "B300 and GB300 cannot run kernels of other architectures; targets"),
        (["check", "GEMM", "--target", "sm_110f"], "Jetson Thor cannot run kernels of other architectures; targets"),
        (["layout", "nvfp5"], "did you mean `nvfp4`?"),
        (["layout", "nvfp4", "--shape", "4xfoo"], "is not a shape"),
    ],
)
def test_a_wrong_command_line_is_status_2_and_says_why(
    fp4cc: Run, gemm: Path, arguments: list[str], message: str
) -> None:
    ran = fp4cc(*(a.replace("GEMM", str(gemm)) for a in arguments))
    assert ran.status == 2
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""


def test_a_wrong_command_line_with_json_is_json(fp4cc: Run, gemm: Path) -> None:
    ran = fp4cc("run", gemm, "--set", "Q=1", "--json")
    assert ran.status == 2
    answer = json.loads(ran.out)
    assert answer["ok"] is False
    assert "no kernel has a dimension Q" in answer["diagnostics"][0]["title"]


def test_an_unknown_device_is_status_3(fp4cc: Run, gemm: Path) -> None:
    ran = fp4cc("run", gemm, "--device", "tpu")
    assert ran.status == 3
    assert "error[FP6301]" in ran.err
    assert "emulator" in ran.err


def test_an_unexpected_failure_is_reported_as_ours(fp4cc: Run, gemm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr("fp4cc.driver.stages.lower_kernels", broken)
    ran = fp4cc("check", gemm)
    assert ran.status == 1
    assert "error[FP9003]" in ran.err
    assert "this is a bug in fp4cc" in ran.err
    assert "KeyError: 'lost'" in ran.err


def test_color_only_on_a_terminal_and_never_with_no_color(gemm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fp4cc.cli.terminal import wants_color

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_color(Terminal())  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(Terminal())  # type: ignore[arg-type]
    gemm.write_text("kernel {")
    done = subprocess.run(
        [sys.executable, "-m", "fp4cc", "check", str(gemm)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "\x1b" not in done.stderr + done.stdout


def test_a_closed_pipe_is_quiet(gemm: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m fp4cc layout blocked_128x4 --full | head -1",
        shell=True, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.stdout.startswith("layout blocked_128x4")
    assert done.stderr == ""


EMPTY = "# no kernel here\n"


@pytest.mark.parametrize("words", ["compile -o OUT", "verify", "explain --no-compile", "run", "emit --stage ptx"])
def test_a_file_without_kernels_is_not_done_well(fp4cc: Run, tmp_path: Path, words: str) -> None:
    """Zero runs are no verification."""
    path = tmp_path / "empty.fp4"
    path.write_text(EMPTY)
    name, *options = words.replace("OUT", str(tmp_path / "out")).split()
    ran = fp4cc(name, path, *options)
    assert (ran.status, ran.out) == (2, "")
    assert "the file has no kernel" in ran.err


@pytest.mark.parametrize("size", ["1_000", " 16", "٣", "1e3", "0x10", "", "+3", "9" * 5000])
def test_a_size_is_plain_digits(fp4cc: Run, gemm: Path, size: str) -> None:
    ran = fp4cc("check", gemm, "--set", f"M={size}")
    assert ran.status == 2
    assert "is not a whole number" in ran.err or "is outside 0 to" in ran.err
    assert len(ran.err) < 6000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run --device reference --target sm_42", "cannot be compiled for sm_42"),
        ("run --device reference --at M=1 --set M=1", "M is given twice"),
        ("run --device reference --at Q=1", "no kernel has a dimension Q"),
        ("explain --no-compile --at M", "write for example --at M=256"),
        ("emit --stage ast --set M=1", "--set and --kernel do not apply"),
        ("compile -o x --at M=1", "No such option"),
    ],
)
def test_options_that_do_not_fit_are_refused(fp4cc: Run, gemm: Path, words: str, message: str) -> None:
    name, *options = words.split()
    ran = fp4cc(name, gemm, *options)
    assert ran.status == 2
    assert message in ran.err


def test_sizes_that_no_memory_holds_are_a_named_error(fp4cc: Run, gemm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 512 GiB")

    monkeypatch.setattr("fp4rt.inputs.random_inputs", full)
    ran = fp4cc("run", gemm, "--device", "reference", "--json")
    assert ran.status == 1
    assert json.loads(ran.out)["diagnostics"][0]["code"] == "FP6204"


@pytest.mark.parametrize(
    "words", ["check", pytest.param("compile --no-cache -o OUT --json", marks=pytest.mark.slow, id="compile")]
)
def test_a_file_name_need_not_be_text(gemm: Path, tmp_path: Path, words: str) -> None:
    """Names are bytes to the system; what is not UTF-8 in them is shown as such and breaks nothing."""
    path = tmp_path / os.fsdecode(b"n\xff.fp4")
    path.write_text(gemm.read_text())
    name, *options = words.replace("OUT", str(tmp_path / os.fsdecode(b"o\xff"))).split()
    done = subprocess.run(
        [sys.executable, "-m", "fp4cc", name, str(path), *options],
        capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    if "--json" in options:
        assert json.loads(done.stdout)["ok"] is True


@pytest.mark.parametrize(
    "words",
    [
        "compile SPEC -o FILE/out",
        "emit SPEC --stage ast -o NO/x",
        "layout linear --svg NO/x.svg",
        "run SPEC --device reference --save FILE/out",
    ],
)
def test_a_place_that_cannot_be_written_is_named(fp4cc: Run, gemm: Path, tmp_path: Path, words: str) -> None:
    places = {"SPEC": str(gemm), "FILE": str(gemm), "NO": str(tmp_path / "no")}
    for key, place in places.items():
        words = words.replace(key, place)
    ran = fp4cc(*words.split(), *(["--json"] if words.startswith(("compile", "run", "layout")) else []))
    assert ran.status == 1
    said = ran.err or json.loads(ran.out)["diagnostics"][0]["title"]
    assert str(gemm) in said or str(tmp_path / "no") in said
    assert ".fp4cc-" not in said
