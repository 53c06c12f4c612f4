"""The parent's side of the compiling child process.

A program that the CuTe DSL cannot digest can end its process with SIGABRT and no message, and its dump files have fixed
names; so each compilation has a process and a scratch folder of its own, and a crash becomes a `BackendError`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

#: Seconds a compilation may take before it counts as hung. Known kernels need one to three.
TIMEOUT = 300.0
#: How much of the child's output a report keeps.
_TAIL_LINES = 40


class BackendError(Exception):
    """The CuTe DSL failed on an emitted kernel: our fault, not the user's.

    `reason` is one line; `tail` the end of what the child process printed; `kernel` the emitted text.
    """

    def __init__(self, reason: str, tail: str, kernel: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.tail = tail
        self.kernel = kernel


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one kernel file became."""

    ptx: str
    cubin: bytes


class Worker:
    """A child process that imports the DSL when made and compiles one kernel when asked.

    Use it as a context manager: leaving it ends the process and removes its scratch folder.
    """

    def __init__(self) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="fp4cc-"))
        self._log = (self._scratch / "log").open("w+b")
        self._process = subprocess.Popen(
            # -P: the scratch folder must not shadow modules.
            [sys.executable, "-P", "-m", "fp4cc.backend.worker"],
            cwd=self._scratch,
            env=_environment(self._scratch),
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def compile(self, kernel: str, arch: str, *, timeout: float = TIMEOUT) -> Compiled:
        """Compile the text of a kernel file for `arch` ("sm_100a"). Raises BackendError."""
        path = self._scratch / "kernel.py"
        path.write_text(kernel, encoding="utf-8")
        job = json.dumps({"kernel": str(path), "arch": arch, "output": str(self._scratch)})
        try:
            self._process.communicate(job.encode() + b"\n", timeout=timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise BackendError(f"the CuTe DSL did not finish within {timeout:g} s", self._tail(), kernel) from None
        status = self._process.returncode
        if status != 0:
            raise BackendError(_describe(status), self._tail(), kernel)
        return Compiled(
            ptx=(self._scratch / "kernel.ptx").read_text(encoding="ascii"),
            cubin=(self._scratch / "kernel.cubin").read_bytes(),
        )

    def close(self) -> None:
        """End the child if it still runs and remove its scratch folder."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._log.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _tail(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").replace(str(self._scratch) + "/", "").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])


def compile_python(kernel: str, arch: str, *, timeout: float = TIMEOUT) -> Compiled:
    """Compile the text of a kernel file in a fresh child process.

    Args:
        kernel: the file's text; it defines `compile(arch)`, which returns what `cute.compile` gives.
        arch: "sm_100a", "sm_90a", ...
        timeout: seconds.

    Raises:
        BackendError: the child crashed, raised or ran out of time.
    """
    with Worker() as worker:
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
