"""The child process: it imports the CuTe DSL once and forks a process for each kernel file to compile.

`python -m fp4cc.backend.worker` imports the DSL at once, so that this overlaps with the parent's front end, then serves
jobs: a JSON line on standard input, `{"folder": path, "arch": "sm_100a"}`. The fork imports `kernel.py` in that folder,
calls its `compile(arch)` and writes `kernel.ptx` and `kernel.cubin` there; what it prints goes to `log`. The answer is
a line on standard output: the fork's exit status, negative for a signal. End of file ends the worker.

A fork is a fresh process as far as the DSL can tell: it has compiled nothing, and the worker itself never does.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import resource
import sys
import traceback
from pathlib import Path
from types import ModuleType

#: What every emitted kernel imports; done before the first job arrives.
_IMPORTS = (
    "cutlass",
    "cutlass.cute",
    "cutlass.cute.runtime",
    "cutlass.experimental.cuda",
    "cutlass.experimental.primitives",
)


def main() -> None:
    """Serve jobs until standard input ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.dont_write_bytecode = True
    gc.disable()  # short lives with many long-lived objects: collections only cost
    # Answers go to the real standard output; whatever the DSL prints, to standard error, which the parent keeps.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for module in _IMPORTS:
        importlib.import_module(module)
    for line in sys.stdin:
        job = json.loads(line)
        answers.write(f"{_fork(Path(job['folder']), job['arch'])}\n")


def _fork(folder: Path, arch: str) -> int:
    """Compile in a process of its own; its exit status, negative for the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _compile(folder, arch)
            status = 0
        except BaseException:  # noqa: BLE001  # whatever the DSL raises is printed for the parent's report
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)  # taking the DSL down in order takes longer than this job's reading
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _compile(folder: Path, arch: str) -> None:
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder)
    compiled = _import_file(folder / "kernel.py").compile(arch)
    ptx = compiled.__ptx__
    text = ptx.decode("ascii") if isinstance(ptx, bytes) else ptx
    Path("kernel.ptx").write_text(text.rstrip("\0"), encoding="ascii")  # older DSL versions end it with a NUL
    Path("kernel.cubin").write_bytes(compiled.__cubin__)


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernel", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernel"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
