"""The compiling child process: right output, the same bytes every time, and crashes that become errors."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fp4cc.backend import BackendError, Worker, compile_python, kept_worker, resource_usage
from fp4cc.backend.process import borrow_worker
from fp4rt.errors import ArtifactError

KERNEL = (Path(__file__).parent / "small_kernel.txt").read_text()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scratch folders are made here, and no worker is kept: each test starts its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("fp4cc.backend.process._kept", None)
    return tmp_path


@pytest.mark.parametrize("arch", ["sm_100a", "sm_90a"])
def test_a_kernel_becomes_ptx_and_cubin(arch: str, scratch: Path) -> None:
    compiled = compile_python(KERNEL, arch)
    assert f".target {arch}" in compiled.ptx
    assert ".visible .entry scale" in compiled.ptx
    assert "\0" not in compiled.ptx
    usage = resource_usage(compiled.cubin)
    (name,) = usage
    assert name.startswith("scale")
    assert 4 <= usage[name].registers <= 64
    assert usage[name].stack == 0
    assert list(scratch.iterdir()) == []


def test_the_same_text_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = compile_python(KERNEL, "sm_100a")
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    monkeypatch.setenv("CUTE_DSL_LINEINFO", "1")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    assert compile_python(KERNEL, "sm_100a") == first


@pytest.mark.parametrize(
    ("text", "reason", "tail"),
    [
        ("import os\ndef compile(arch): os.abort()", "SIGABRT", ""),
        ("def compile(arch): raise ValueError('no such tile')", "exit status 1", "ValueError: no such tile"),
        ("def compile(arch) return", "exit status 1", "SyntaxError"),
        ("x = 1", "exit status 1", "has no attribute 'compile'"),
    ],
)
def test_a_failing_child_becomes_an_error_with_what_it_printed(
    text: str, reason: str, tail: str, scratch: Path
) -> None:
    with pytest.raises(BackendError) as error:
        compile_python(text, "sm_100a")
    assert reason in error.value.reason
    assert tail in error.value.tail
    assert str(scratch) not in error.value.tail
    assert list(scratch.iterdir()) == []


def test_a_hanging_child_is_ended(scratch: Path) -> None:
    with pytest.raises(BackendError, match="did not finish within"):
        compile_python("import time\ndef compile(arch): time.sleep(60)", "sm_100a", timeout=4)
    assert list(scratch.iterdir()) == []


def test_one_worker_compiles_many_kernels_and_outlives_their_crashes(scratch: Path) -> None:
    fresh = compile_python(KERNEL, "sm_100a")
    with Worker() as worker:
        assert worker.compile(KERNEL, "sm_100a") == fresh
        with pytest.raises(BackendError, match="SIGABRT"):
            worker.compile("import os\ndef compile(arch): os.abort()", "sm_100a")
        with pytest.raises(BackendError) as error:
            worker.compile("def compile(arch): raise ValueError('of this job only')", "sm_100a")
        assert "of this job only" in error.value.tail
        assert worker.compile(KERNEL, "sm_100a") == fresh
        assert sorted(p.name for p in next(scratch.iterdir()).iterdir()) == ["alive", "log"]
    assert list(scratch.iterdir()) == []


def test_a_kept_worker_is_made_once_and_again_after_it_ended() -> None:
    with kept_worker():
        with borrow_worker() as first, borrow_worker() as second:
            assert first is second
        with pytest.raises(BackendError, match="did not finish"):
            compile_python("import time\ndef compile(arch): time.sleep(60)", "sm_100a", timeout=0.5)
        assert not first.alive
        with borrow_worker() as third:
            assert third is not first
    assert not third.alive


def test_a_worker_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with Worker() as worker, pytest.raises(BackendError, match="exit status 1"):
        worker.compile(KERNEL, "sm_100a")


def test_a_worker_that_gets_no_job_leaves_nothing(scratch: Path) -> None:
    with Worker():
        pass
    assert list(scratch.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_and_a_living_ones_is_not(scratch: Path) -> None:
    child = """
import time
from fp4cc.backend import process
process._environment = lambda scratch: {}
process.Worker()
print("made", flush=True)
time.sleep(60)
"""
    (scratch / "fp4cc-notes").mkdir()  # somebody's own
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, env=environment) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"made\n"
        (left,) = [path for path in scratch.iterdir() if path.name != "fp4cc-notes"]
        with Worker():
            assert left.is_dir(), "its process lives"
        other.kill()
        other.wait()
        with Worker():
            assert not left.exists()
    assert [path.name for path in scratch.iterdir()] == ["fp4cc-notes"]


def test_a_full_folder_is_no_fault_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the child, which says so in what it prints, and in this process."""
    number = errno.ENOSPC
    with pytest.raises(ArtifactError, match="FP6011: temporary files cannot be written to .*: No space left on device"):
        compile_python(f"import os\ndef compile(arch): raise OSError({number}, os.strerror({number}))", "sm_100a")

    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ArtifactError, match="FP6011.*" + os.strerror(number)):
        compile_python(KERNEL, "sm_100a")


def test_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(scratch / "none"))
    with pytest.raises(ArtifactError, match="FP6011.*none: No such file"):
        Worker()
