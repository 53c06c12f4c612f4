"""The parent's side of the compiling child process.

A program that the CuTe DSL cannot digest can end its process with SIGABRT and no message, and its dump files have fixed
names; so each compilation has a process and a folder of its own, and a crash becomes a `BackendError`.
"""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from fp4cc.leftovers import Claimed, sweep

#: Seconds a compilation may take before it counts as hung. Known kernels need one to three.
TIMEOUT = 300.0
#: How much of the child's output a report keeps.
_TAIL_LINES = 40
_PREFIX = "fp4cc-"
#: What a file system says that takes no more, and the bytes below which it counts as full.
_NO_ROOM, _LEAST = (errno.ENOSPC, errno.EDQUOT), 64 << 10


class BackendError(Exception):
    """The CuTe DSL failed on an emitted kernel: our fault, not the user's.

    `reason` is one line; `tail` the end of what the child process printed; `kernel` the emitted text.
    """

    def __init__(self, reason: str, tail: str, kernel: str) -> None:
        super().__init__(reason)
        self.args = (reason, tail, kernel)  # what unpickling calls the class with
        self.reason = reason
        self.tail = tail
        self.kernel = kernel

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one kernel file became."""

    ptx: str = field(repr=False)
    cubin: bytes = field(repr=False)


@contextmanager
def _room() -> Generator[None]:
    """A full or missing folder for temporary files is named as what it is: no fault of the kernel, nor of fp4cc."""
    try:
        yield
    except OSError as error:
        from fp4rt.errors import ArtifactError  # late: a cached compile does without the runtime

        where = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"
        raise ArtifactError(
            f"temporary files cannot be written to {where}: {error.strerror or error}",
            code="FP6011",
            help="free some space there, or set TMPDIR to a folder that has some: a compilation needs about 1 MB",
        ) from error


def _has_room(folder: Path) -> bool:
    """Whether a file of a few pages could be written there."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize >= _LEAST and (status.f_files == 0 or status.f_favail > 0)


class Worker:
    """A child process that imports the DSL when made and compiles kernels when asked, one at a time.

    Use it as a context manager: leaving it ends the process and removes its folder. A timeout ends the process too.
    """

    def __init__(self) -> None:
        self._jobs = 0
        self._lock = threading.Lock()
        with _room():
            sweep(Path(tempfile.gettempdir()), _PREFIX, ours=False)
            self._claimed = Claimed(None, _PREFIX)
            self._scratch = self._claimed.path
            log = (self._scratch / "log").open("wb")
        try:
            self._process = self._start(log)
        except OSError:
            self._claimed.remove()
            raise

    def _start(self, log: BinaryIO) -> subprocess.Popen[bytes]:
        with log:
            return subprocess.Popen(
                # -P: the scratch folder must not shadow modules.
                [sys.executable, "-P", "-m", "fp4cc.backend.worker"],
                cwd=self._scratch,
                env=_environment(self._scratch),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,  # `select` must see what was not read, and a failed write leaves nothing behind
                start_new_session=True,  # so that a hanging fork can be ended with it
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def compile(self, kernel: str, arch: str, *, timeout: float = TIMEOUT) -> Compiled:
        """Compile the text of a kernel file for `arch` ("sm_100a"). Raises BackendError. Safe to call from threads."""
        with self._lock:
            self._jobs += 1
            folder = self._scratch / f"job{self._jobs}"
            try:
                with _room():
                    folder.mkdir()
                    return self._compile(folder, kernel, arch, timeout)
            finally:
                self._clear()

    def _compile(self, folder: Path, kernel: str, arch: str, timeout: float) -> Compiled:
        (folder / "kernel.py").write_text(kernel, encoding="utf-8")
        status = self._ask(json.dumps({"folder": str(folder), "arch": arch}), timeout)
        if status is None:
            self._end()
            raise BackendError(f"the CuTe DSL did not finish within {timeout:g} s", self._tail(folder), kernel)
        if status != 0:
            tail = self._tail(folder)
            if any(os.strerror(number) in tail for number in _NO_ROOM) or not _has_room(folder):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
            raise BackendError(_describe(status), self._tail(folder), kernel)
        return Compiled(
            ptx=(folder / "kernel.ptx").read_text(encoding="ascii"), cubin=(folder / "kernel.cubin").read_bytes()
        )

    def _clear(self) -> None:
        """Remove what a job left: its folder, and the DSL's dump files, whose names another job may use again."""
        for path in self._scratch.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != "log" and not Claimed.owns(path.name):
                path.unlink(missing_ok=True)

    def _ask(self, job: str, timeout: float) -> int | None:
        """The exit status of a job: the worker's own if it ended instead; None where time ran out."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None, "both are pipes"
        try:
            stdin.write(job.encode() + b"\n")
        except BrokenPipeError:
            return self._process.wait() or 1
        if not select.select([stdout], [], [], timeout)[0]:
            return None
        answer = stdout.readline()
        return int(answer) if answer else self._process.wait() or 1

    def kill(self) -> None:
        """End the process and what it forked, from any thread: a `compile` that waits for it then fails."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process, and what it forked, and remove its folder."""
        self._end()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._claimed.remove()

    def _end(self) -> None:
        self.kill()
        self._process.wait()

    def _tail(self, folder: Path) -> str:
        """The end of what the job printed, or the worker itself where the job did not begin."""
        log = next((path for path in (folder / "log", self._scratch / "log") if path.is_file()), None)
        text = "" if log is None else log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.replace(f"{folder}/", "").splitlines()[-_TAIL_LINES:])


class _Kept:
    """A worker that is made when first needed, and again if it ended."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._lock = threading.Lock()

    def get(self) -> Worker:
        with self._lock:
            if self._worker is None or not self._worker.alive:
                self.close()
                self._worker = Worker()
            return self._worker

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None


_kept: _Kept | None = None


@contextmanager
def kept_worker() -> Generator[None]:
    """Within this, compilations share one worker and its import of the DSL: for programs that compile many kernels."""
    global _kept
    outer, _kept = _kept, _Kept()
    try:
        yield
    finally:
        _kept.close()
        _kept = outer


@contextmanager
def borrow_worker() -> Generator[Worker]:
    """The kept worker within `kept_worker`, elsewhere a worker of its own."""
    if _kept is not None:
        yield _kept.get()
        return
    # Made in a thread, because only the main one is interrupted: a process that has begun is always known, and ended.
    made: list[Worker] = []
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        pool.submit(lambda: made.append(Worker())).result()
        yield made[0]
    finally:
        pool.shutdown(wait=True)
        for worker in made:
            worker.close()


def compile_python(kernel: str, arch: str, *, timeout: float = TIMEOUT) -> Compiled:
    """Compile the text of a kernel file in a child process.

    Args:
        kernel: the file's text; it defines `compile(arch)`, which returns what `cute.compile` gives.
        arch: "sm_100a", "sm_90a", ...
        timeout: seconds.

    Raises:
        BackendError: the child crashed, raised or ran out of time.
    """
    with borrow_worker() as worker:
        return worker.compile(kernel, arch, timeout=timeout)


def _environment(scratch: Path) -> dict[str, str]:
    """The parent's environment without the DSL's switches, which would change the output behind the cache key."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("CUTE_DSL_", "CUTLASS_"))}
    env["TMPDIR"] = str(scratch)
    env["CUTE_DSL_DISABLE_FILE_CACHING"] = "1"
    env["NO_COLOR"] = "1"
    env["OPENBLAS_NUM_THREADS"] = "1"  # numpy is imported, but computes nothing: no pool of threads
    return env


def _describe(status: int) -> str:
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"the CuTe DSL's process was ended by {name}"
    return f"the CuTe DSL raised an error (exit status {status})"
